"""Reading data sets: what is kept, what is refused and what the message says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidFileError, InvalidInputError, MissingDependencyError
from nann.training import SyntheticOptions, load_source, prepare_data, read_dataset
from nann.training._features import UserFeatures
from nann.training._recbole import movielens_dataset

# Users 7 and 9 have enough events; user 8 has not. Lines are not in time order.
EVENTS = """\
9,300,30,pv,50
7,100,10,pv,3
7,200,20,buy,1
8,100,10,pv,1
7,300,30,cart,2
9,100,10,fav,20
9,200,20,pv,20
7,400,20,pv,4
"""


@pytest.fixture
def csv_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "events.csv"
        path.write_text(text)
        return path

    return write


def test_csv_becomes_vocabularies_and_sequences_in_time_order(csv_file: Callable[[str], Path]) -> None:
    data = load_source(str(csv_file(EVENTS)))

    assert data.item_ids.tolist() == [100, 200, 300, 400]
    assert data.cate_ids.tolist() == [10, 20, 30]
    assert data.item_cates.tolist() == [0, 1, 2, 3, 2]
    assert data.user_ids.tolist() == [7, 9]
    assert data.row_splits.tolist() == [0, 4, 7]
    # User 9's two events at time 20 stay in the order of the file.
    assert data.events.tolist() == [2, 3, 1, 4, 1, 2, 3]
    assert [data.target(0), data.target(1)] == [4, 3]
    assert data.seen(1).tolist() == [1, 2]
    assert data.popularity(0).tolist() == [0, 2, 2, 2, 1]
    assert data.popularity(1).tolist() == [0, 2, 2, 1, 0]


def test_histories_are_the_last_events_before_the_cut_padded_at_the_front(
    csv_file: Callable[[str], Path],
) -> None:
    data = load_source(str(csv_file(EVENTS)))

    histories = data.histories(np.array([0, 0, 1]), np.array([3, 1, 0]), 2)

    assert histories.tolist() == [[3, 1], [0, 2], [0, 0]]
    specs = {name: tf.TensorSpec([2], tf.int64) for name in ("item_ids", "cate_ids")}
    features = UserFeatures(data, specs).before(np.array([0, 0, 1]), np.array([3, 1, 0]))
    assert features["item_ids"].tolist() == histories.tolist()
    assert features["cate_ids"].tolist() == [[3, 1], [0, 2], [0, 0]]


def test_what_is_written_is_read_back(csv_file: Callable[[str], Path], tmp_path: Path) -> None:
    written = prepare_data(str(csv_file(EVENTS)), tmp_path / "data")
    read = read_dataset(tmp_path / "data")

    assert read.summary() == written.summary()
    assert read.events.tolist() == written.events.tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "events.csv"], (
        "nothing temporary left"
    )


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("9,300,30,pv,50\n9,300,30,pv\n", "line 2", "5 columns"),
        ("9,300,30,pv,50\n9,300,30,pv,50,1\n", "line 2", "5 columns"),
        ("9,300,30,pv,50,1\n9,300,30,pv,50,1\n", "line 1", "5 columns"),
        ("9,300,30,pv,50\n9,x,30,pv,50\n", "line 2", "column item"),
        ("9,300,30,pv,50\n\n9,300,30,pv,1.5\n", "line 3", "column timestamp"),
        ("9,99999999999999999999,30,pv,50\n", "line 1", "64 bits in column item"),
        ("9,300,30,pv,50\n9,300,30,click,50\n", "line 2", "pv, buy, cart, fav"),
        ("9,300,30,pv,50\n9,300,30,,50\n", "line 2", "pv, buy, cart, fav"),
        ("user,item,category,behaviour,timestamp\n9,300,30,pv,50\n", "line 1", "no header"),
    ],
)
def test_a_malformed_csv_line_is_named(
    csv_file: Callable[[str], Path], text: str, line: str, expected: str
) -> None:
    path = csv_file(text)
    with pytest.raises(InvalidFileError) as error:
        load_source(str(path))
    assert f"{path}: {line}: " in str(error.value)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("", InvalidFileError, "empty file"),
        ("7,100,10,pv,1\n7,200,10,pv,2\n", InvalidInputError, "at least 3 events"),
        ("7,0,10,pv,1\n7,2,10,pv,2\n7,3,10,pv,2\n", InvalidInputError, "column item: expected ids of 1"),
        ("-7,1,10,pv,1\n-7,2,10,pv,2\n-7,3,10,pv,2\n", InvalidInputError, "column user: expected ids of 1"),
        ("7,1,0,pv,1\n7,2,10,pv,2\n7,3,10,pv,2\n", InvalidInputError, "column category: expected ids of 1"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused(
    csv_file: Callable[[str], Path], text: str, kind: type[Exception], expected: str
) -> None:
    with pytest.raises(kind, match=expected):
        load_source(str(csv_file(text)))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("ml-100k", "expected recbole:ml-100k, FILE.csv or synthetic"),
        ("recbole:ml-1m", "expected recbole:ml-100k"),
        ("synthetic:item=100", "found 'item'"),
        ("synthetic:items=many", "expected int, found 'many'"),
        ("synthetic:items=1", "items of 10 and above"),
        ("synthetic:items=1000,stay=0.7,follow=0.7", "sum at most 1"),
        ("synthetic:items=100,events=90", "at most a third"),
    ],
)
def test_an_unknown_source_is_refused(source: str, expected: str) -> None:
    with pytest.raises(InvalidInputError, match=expected):
        load_source(source)


def test_a_missing_csv_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match=r"nowhere\.csv: no such file"):
        load_source(str(tmp_path / "nowhere.csv"))


def test_a_missing_recbole_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install --no-deps recbole==1\.2\.1"):
        load_source("recbole:ml-100k")


def _write_movielens(folder: Path) -> None:
    (folder / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "5\t2\t3\t30\n5\t1\t4\t10\n5\t3\t4\t20\n6\t3\t1\t5\n"
    )
    (folder / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy \"Story\t1995\tAnimation Children's\n2\tHeat\t1995\tAction\n"
        "3\tSome Film\t\tAction Drama\n4\tNobody saw it\t1990\t\n"
    )


def test_movielens_takes_titles_and_first_genres(tmp_path: Path) -> None:
    _write_movielens(tmp_path)
    data = movielens_dataset(tmp_path, source="test")

    assert data.item_ids.tolist() == [1, 2, 3, 4], "the catalogue, with the film that nobody saw"
    assert data.events.tolist() == [1, 3, 2], "user 6 has too few events"
    assert data.item_cates.tolist() == [0, 2, 1, 1, 3], "Action, Animation, unknown"
    assert data.titles[1] == 'Toy "Story'


def test_movielens_with_another_column_is_refused(tmp_path: Path) -> None:
    _write_movielens(tmp_path)
    path = tmp_path / "ml-100k.item"
    path.write_text(path.read_text().replace("class:token_seq", "genre:token_seq"))
    with pytest.raises(
        InvalidFileError, match=r"ml-100k\.item: expected columns .*class:token_seq; found .*genre"
    ):
        movielens_dataset(tmp_path, source="test")


def test_movielens_with_a_bad_number_names_the_line(tmp_path: Path) -> None:
    _write_movielens(tmp_path)
    path = tmp_path / "ml-100k.inter"
    path.write_text(path.read_text().replace("5\t3\t4\t20", "5\tthree\t4\t20"))
    with pytest.raises(InvalidFileError, match=r"ml-100k\.inter: line 4: .*item_id:token, found 'three'"):
        movielens_dataset(tmp_path, source="test")


def test_movielens_with_an_event_of_an_unknown_item_is_refused(tmp_path: Path) -> None:
    _write_movielens(tmp_path)
    with (tmp_path / "ml-100k.inter").open("a") as file:
        file.write("5\t77\t4\t40\n")
    with pytest.raises(InvalidInputError, match="items of the catalogue, found 77"):
        movielens_dataset(tmp_path, source="test")


def test_synthetic_data_depend_on_nothing_but_the_options() -> None:
    first = load_source("synthetic:items=200,users=30,events=12,seed=4")
    again = load_source("synthetic:items=200,users=30,events=12,seed=4")
    other = load_source("synthetic:items=200,users=30,events=12,seed=5")

    assert first.events.tolist() == again.events.tolist()
    assert first.events.tolist() != other.events.tolist()
    assert (first.num_items, first.num_users) == (200, 30)
    for user in range(first.num_users):
        events = first.events[first.row_splits[user] : first.row_splits[user + 1]]
        assert len(set(events.tolist())) == len(events), "no item twice"


def test_synthetic_data_have_sequential_structure() -> None:
    data = load_source("synthetic:items=2000,users=200,events=30,stay=0.5,follow=0.4,seed=1")
    categories = data.item_cates[data.events]
    inside = np.ones(len(categories) - 1, bool)
    inside[data.row_splits[1:-1] - 1] = False
    stayed = (categories[1:] == categories[:-1])[inside].mean()
    shuffled = np.random.default_rng(0).permutation(categories)
    by_chance = (shuffled[1:] == shuffled[:-1]).mean()
    assert stayed > 0.4 > 3 * by_chance


def test_synthetic_options_have_working_defaults() -> None:
    SyntheticOptions().check()


def test_a_folder_is_replaced_only_when_asked_and_only_a_data_set(tmp_path: Path) -> None:
    small, other = "synthetic:items=50,users=5,events=6", "synthetic:items=60,users=5,events=6"
    prepare_data(small, tmp_path / "data")
    with pytest.raises(InvalidInputError, match="exists already"):
        prepare_data(other, tmp_path / "data")
    assert read_dataset(tmp_path / "data").num_items == 50
    prepare_data(other, tmp_path / "data", overwrite=True)
    assert read_dataset(tmp_path / "data").num_items == 60

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InvalidInputError, match="found other files"):
        prepare_data(small, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("name", "damage", "expected"),
    [
        ("events.npy", lambda path: path.unlink(), "cannot be read"),
        ("events.npy", lambda path: path.write_bytes(path.read_bytes()[:-2]), "cannot be read"),
        ("events.npy", lambda path: np.save(path, np.load(path).astype(np.int64)), "expected int32"),
        ("events.npy", lambda path: np.save(path, np.load(path) + 10), r"expected events\.npy: rows 1\.\.50"),
        ("row_splits.npy", lambda path: np.save(path, np.load(path)[:-1]), "6 values"),
        ("row_splits.npy", lambda path: np.save(path, np.load(path)[::-1].copy()), "from 0 to"),
        ("item_ids.npy", lambda path: np.save(path, np.load(path)[::-1].copy()), "ids sorted"),
        ("item_cates.npy", lambda path: np.save(path, np.load(path) + 10), r"expected item_cates\.npy: rows"),
        ("meta.json", lambda path: path.unlink(), "nann data prepare"),
        ("meta.json", lambda path: path.write_text("{"), "expected a JSON object"),
        ("meta.json", lambda path: path.write_text(json.dumps({"format": 9})), "expected format 2, found 9"),
    ],
)
def test_a_damaged_data_set_is_refused(
    tmp_path: Path, name: str, damage: Callable[[Path], None], expected: str
) -> None:
    prepare_data("synthetic:items=50,users=5,events=6", tmp_path / "data")
    damage(tmp_path / "data" / name)
    with pytest.raises(InvalidFileError, match=expected):
        read_dataset(tmp_path / "data")
