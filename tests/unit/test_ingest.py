"""Preparing files of events: compared with a plain Python reading of the same files."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from nann.cli import main
from nann.errors import InvalidFileError, InvalidInputError
from nann.training import Dataset, PrepareOptions, SplitOptions, prepare_data, read_dataset
from nann.training._run import write_vocabulary
from nann.training.ingest import _blocks, _prepare
from support.command import run_json

Row = tuple[int, int, int, str, int]

FIELD_ROWS = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.integers(1, 9),
        st.integers(1, 4),
        st.sampled_from(["pv", "buy", "cart", "fav"]),
        st.integers(-3, 12),
    ),
    max_size=60,
)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and partitions of a few lines, so that small files have many."""
    _shrink(monkeypatch)


def _shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocks, "BLOCK_BYTES", 64)
    monkeypatch.setattr(_prepare, "BLOCK_BYTES", 64)
    monkeypatch.setattr(_prepare, "_BYTES_PER_PARTITION", 100)


def oracle(rows: Sequence[Row], options: SplitOptions) -> dict[str, Any] | None:
    """What the original does, one line at a time; None where no user has enough events."""
    category_of: dict[int, int] = {}
    counts: dict[int, int] = {}
    behaviour: dict[int, list[tuple[int, int]]] = {}
    for user, item, category, _, time in rows:
        category_of[item] = category
        counts[item] = counts.get(item, 0) + 1
        behaviour.setdefault(user, []).append((time, item))
    kept = {user: events for user, events in sorted(behaviour.items()) if len(events) >= options.min_events}
    if not kept:
        return None
    items = sorted(category_of)
    return {
        "item_ids": items,
        "categories": [category_of[item] for item in items],
        "item_counts": [counts[item] for item in items],
        "user_ids": list(kept),
        # sorted() is stable: events at the same time stay in the order of the file.
        "events": [
            [item for _, item in sorted(events, key=lambda each: each[0])] for events in kept.values()
        ],
    }


def as_oracle(data: Dataset) -> dict[str, Any]:
    ids = data.item_ids[data.events - 1]
    return {
        "item_ids": data.item_ids.tolist(),
        "categories": data.cate_ids[data.item_cates[1:] - 1].tolist(),
        "item_counts": data.item_counts[1:].tolist(),
        "user_ids": data.user_ids.tolist(),
        "events": [part.tolist() for part in np.split(ids, data.row_splits[1:-1])],
    }


def text_of(rows: Sequence[Row], ending: str = "\n") -> str:
    return "".join(",".join(map(str, row)) + ending for row in rows)


@settings(max_examples=25, deadline=None)
@given(FIELD_ROWS, st.sampled_from(["\n", "\r\n", "\r"]), st.integers(0, 60), st.booleans())
def test_files_become_what_the_oracle_says(rows: list[Row], ending: str, cut: int, compressed: bool) -> None:
    expected = oracle(rows, SplitOptions())
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        _shrink(patch)
        folder = Path(name)
        for number, part in enumerate((rows[:cut], rows[cut:])):
            data = text_of(part, ending).encode()
            # The first file may be compressed, and the last line end may be missing.
            path = folder / f"{number}.csv{'.gz' if compressed and not number else ''}"
            path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data.rstrip())
        sources = [str(path) for path in sorted(folder.iterdir())]
        if expected is None:
            with pytest.raises((InvalidFileError, InvalidInputError)):
                prepare_data(sources, folder / "out")
        else:
            data_set = prepare_data(sources, folder / "out")
            assert as_oracle(data_set) == expected
            assert data_set.meta["rows"] == len(rows)
            assert data_set.meta["bad_rows"] == []


def _write_parquet(folder: Path, rows: Sequence[Row], parts: int) -> None:
    names = ("user", "item", "category", "behaviour", "timestamp")
    folder.mkdir()
    for number, part in enumerate(_cut(rows, parts)):
        columns = dict(zip(names, zip(*part, strict=True), strict=True))
        table = pa.table({name: pa.array(values) for name, values in columns.items()})
        pyarrow.parquet.write_table(table, folder / f"part-{number}.parquet", row_group_size=3)


def _cut(rows: Sequence[Row], parts: int) -> list[Sequence[Row]]:
    size = -(-len(rows) // parts)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


ROWS: list[Row] = [
    (u, 1 + (7 * u + 3 * n) % 11, 1 + (u + n) % 3, "pv", (5 * n) % 7) for n in range(9) for u in range(1, 14)
]


def test_a_folder_of_parquet_is_the_same_as_text(
    small_blocks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _write_parquet(tmp_path / "parts", ROWS, 3)
    # Row groups of three rows are mostly metadata: a partition for each 100 bytes would make 1,700 of them.
    monkeypatch.setattr(_prepare, "_BYTES_PER_PARTITION", 10_000)
    data = prepare_data(str(tmp_path / "parts"), tmp_path / "out")
    assert as_oracle(data) == oracle(ROWS, SplitOptions())


def test_a_pattern_names_several_files(tmp_path: Path) -> None:
    for number, part in enumerate(_cut(ROWS, 3)):
        (tmp_path / f"part-{number}.csv").write_text(text_of(part))
    (tmp_path / "other.csv").write_text("1,1,1,pv,1\n")
    data = prepare_data(str(tmp_path / "part-*.csv"), tmp_path / "out")
    assert as_oracle(data) == oracle(ROWS, SplitOptions())


def test_whole_users_are_held_out_as_in_the_original(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text_of(ROWS + [(99, 3, 1, "pv", 4)] * 7))
    split = SplitOptions(kind="users", validation_users=2, test_users=3)
    data = prepare_data(str(tmp_path / "a.csv"), tmp_path / "out", PrepareOptions(split=split))
    assert 99 not in data.user_ids, "a user needs more than 7 events"
    assert as_oracle(data) == oracle(ROWS + [(99, 3, 1, "pv", 4)] * 7, split)
    assert data.split.test.cuts.tolist() == [7 + (9 - 7) // 2] * 3
    assert data.meta["max_length"] == 50


# What is no good row, and its kind; each stands among good rows.
BAD_LINES = [
    ("5,6,7,pv", "wrong number of columns"),
    ("5,6,7,pv,8,9", "wrong number of columns"),
    ("junk", "wrong number of columns"),
    ("5,x,7,pv,8", "not a whole number of 64 bits"),
    ("5,,7,pv,8", "not a whole number of 64 bits"),
    ("5,6.0,7,pv,8", "not a whole number of 64 bits"),
    ("5,+6,7,pv,8", "not a whole number of 64 bits"),
    ("5,0x6,7,pv,8", "not a whole number of 64 bits"),
    ("5,1e3,7,pv,8", "not a whole number of 64 bits"),
    ("5,1_000,7,pv,8", "not a whole number of 64 bits"),
    ("5,6,7,pv,9223372036854775808", "not a whole number of 64 bits"),
    ("5," + "9" * 5000 + ",7,pv,8", "not a whole number of 64 bits"),
    ("5,6,7,pv,\u0663", "not a whole number of 64 bits"),
    ("5,0,7,pv,8", "id below 1"),
    ("-5,6,7,pv,8", "id below 1"),
    ("5,6,7,click,8", "unknown behaviour"),
    ("5,6,7,,8", "unknown behaviour"),
    ("5,6,7,pv\0,8", "NUL byte"),
    ("\0", "NUL byte"),
    ("5,6,7,\udcff,8", "not UTF-8"),
    ('5,6,7,"pv,8', "unclosed quotation mark"),
    ('5,6,"7,pv",8', "wrong number of columns"),
]


def _with_bad(lines: Sequence[str], places: Sequence[int]) -> bytes:
    good = text_of(ROWS).splitlines()
    for place, line in zip(places, lines, strict=True):
        good.insert(place, line)
    return ("\n".join(good) + "\n").encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(("line", "kind"), BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_malformed_row_is_left_out_and_reported_with_its_kind(tmp_path: Path, line: str, kind: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(_with_bad([line, line], [4, 30]))
    data = prepare_data(str(path), tmp_path / "out")
    assert as_oracle(data) == oracle(ROWS, SplitOptions())
    (found,) = data.meta["bad_rows"]
    assert (found["kind"], found["rows"]) == (kind, 2)
    assert (found["first_file"], found["first_line"]) == (str(path), 5)
    assert data.meta["rows"] == len(ROWS) + 2


@pytest.mark.parametrize(("line", "kind"), BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_malformed_row_is_an_error_when_strict(tmp_path: Path, line: str, kind: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(_with_bad([line, "junk"], [4, 30]))
    with pytest.raises((InvalidFileError, InvalidInputError)) as error:
        prepare_data(str(path), tmp_path / "out", PrepareOptions(strict=True))
    assert str(error.value).startswith(f"{path}: line 5: ")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.csv"], "nothing is left"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(BAD_LINES), st.integers(0, 117)), max_size=12), st.booleans())
def test_bad_rows_are_counted_by_kind_wherever_they_stand(
    bad: list[tuple[tuple[str, str], int]], shrunk: bool
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        if shrunk:
            patch.setattr(_prepare, "BLOCK_BYTES", 6000)
        path = Path(name) / "a.csv"
        path.write_bytes(_with_bad([line for (line, _), _ in bad], [place for _, place in bad]))
        data = prepare_data(str(path), Path(name) / "out")
        assert as_oracle(data) == oracle(ROWS, SplitOptions())
        expected: dict[str, int] = {}
        for (_, kind), _ in bad:
            expected[kind] = expected.get(kind, 0) + 1
        assert {each["kind"]: each["rows"] for each in data.meta["bad_rows"]} == expected


def test_unusual_lines_that_are_good_are_read(tmp_path: Path) -> None:
    """A BOM, mixed line ends, empty lines, spaces around numbers, quotation marks, no last line end."""
    text = '\ufeff1,5,1,pv,1\r\n\n 1, 6 ,1,buy, 2\r1,"7","1",pv,3\r\n   \n1,8,1,fav,4'
    (tmp_path / "a.csv").write_bytes(text.encode())
    data = prepare_data(str(tmp_path / "a.csv"), tmp_path / "out", PrepareOptions(strict=True))
    assert data.item_ids[data.events - 1].tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path: path.write_bytes(b""), "empty file"),
        (lambda path: path.write_bytes(gzip.compress(b"")), "empty file"),
        (lambda path: path.write_bytes(b"\n\n"), "found none: no lines"),
        (lambda path: path.write_bytes(b"\0" * 5000), "found none: 1 with NUL byte"),
        (lambda path: path.write_bytes(text_of(ROWS).encode("utf-16")), "found none"),
        (lambda path: path.write_bytes(b"a,b\nc,d\n"), "2 with wrong number of columns"),
        (lambda path: path.write_bytes(gzip.compress(text_of(ROWS).encode())[:-9]), "whole gzip file"),
        (lambda path: path.write_bytes(gzip.compress(text_of(ROWS).encode())[:40]), "whole gzip file"),
        (lambda path: path.write_bytes(b"\x1f\x8bnothing of that kind"), "whole gzip file"),
        (lambda path: path.mkdir(), "found none"),
    ],
)
def test_a_file_without_anything_to_use_is_named(
    tmp_path: Path, write: Callable[[Path], Any], expected: str
) -> None:
    write(tmp_path / "a.csv")
    with pytest.raises(InvalidFileError, match=expected) as error:
        prepare_data(str(tmp_path / "a.csv"), tmp_path / "out")
    assert str(tmp_path / "a.csv") in str(error.value)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.csv"], "nothing is left"


def test_a_line_longer_than_a_block_is_refused(small_blocks: None, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text_of(ROWS[:5]) + "7" * 500 + "\n")
    with pytest.raises(InvalidFileError, match=r"a\.csv: line 6: expected lines of at most 64 bytes"):
        prepare_data(str(tmp_path / "a.csv"), tmp_path / "out")


def test_parquet_of_other_columns_or_types_is_refused(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "parts", ROWS, 1)
    (path,) = (tmp_path / "parts").iterdir()
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.slice(0, 0), path)
    with pytest.raises(InvalidFileError, match="empty file"):
        prepare_data(str(path), tmp_path / "out")
    pyarrow.parquet.write_table(table.drop_columns(["category"]), path)
    with pytest.raises(InvalidFileError, match=r"part-0\.parquet: expected columns user, item, category"):
        prepare_data(str(path), tmp_path / "out")
    texts = table["item"].cast(pa.string())
    pyarrow.parquet.write_table(table.set_column(1, "item", texts), path)
    with pytest.raises(InvalidFileError, match="column item: expected int64, found string"):
        prepare_data(str(path), tmp_path / "out")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InvalidFileError, match="whole Parquet file"):
        prepare_data(str(path), tmp_path / "out")


def test_bad_rows_of_parquet_are_counted(tmp_path: Path) -> None:
    _write_parquet(tmp_path / "parts", ROWS, 1)
    (path,) = (tmp_path / "parts").iterdir()
    table = pyarrow.parquet.read_table(path)
    extra = {"user": [None, 3, 4], "item": [1, 0, 2], "category": [1] * 3, "behaviour": ["pv", "pv", "x"]}
    bad = pa.table({**extra, "timestamp": [1] * 3}, schema=table.schema)
    pyarrow.parquet.write_table(pa.concat_tables([bad, table]), path)
    data = prepare_data(str(path), tmp_path / "out")
    assert as_oracle(data) == oracle(ROWS, SplitOptions())
    kinds = {each["kind"]: each["first_line"] for each in data.meta["bad_rows"]}
    assert kinds == {"missing value": 1, "id below 1": 2, "unknown behaviour": 3}


def test_the_command_reports_bad_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(_with_bad(["junk", "junk"], [4, 30]))
    arguments = ["data", "prepare", "--source", str(tmp_path / "a.csv"), "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0
    expected = (
        f"left out 2 of {len(ROWS) + 2} rows: wrong number of columns, first in {tmp_path}/a.csv, line 5\n"
    )
    assert expected in shown.stdout
    (bad,) = run_json(*arguments, "--overwrite")["bad_rows"]
    assert bad["rows"] == 2
    strict = CliRunner().invoke(main, [*arguments, "--overwrite", "--strict"])
    assert strict.exit_code != 0
    assert "line 5: expected 5 columns" in strict.stderr


def test_files_of_two_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text_of(ROWS))
    (tmp_path / "b.txt").write_text("1 2 3 4\n")
    with pytest.raises(InvalidInputError, match="files of one kind, found sequences, text"):
        prepare_data(str(tmp_path), tmp_path / "out")


def test_the_categories_are_attributes_which_a_run_takes_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text_of(ROWS))
    prepare_data(str(tmp_path / "a.csv"), tmp_path / "out")
    table = pyarrow.parquet.read_table(tmp_path / "out" / "attributes.parquet")
    expected = oracle(ROWS, SplitOptions())
    assert expected is not None
    assert table.to_pydict() == {"item_id": expected["item_ids"], "category": expected["categories"]}
    write_vocabulary(tmp_path / "run", read_dataset(tmp_path / "out"))
    assert pyarrow.parquet.read_table(tmp_path / "run" / "attributes.parquet").equals(table)


def test_progress_ends_where_it_should(small_blocks: None, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text_of(ROWS))
    seen: dict[str, tuple[int, int]] = {}
    prepare_data(
        str(tmp_path / "a.csv"),
        tmp_path / "out",
        on_progress=lambda stage, done, total: seen.update({stage: (done, total)}),
    )
    assert list(seen) == ["read MB", "sort", "write"]
    assert all(done == total for done, total in seen.values())


def test_the_result_is_read_like_any_data_set(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text_of(ROWS))
    prepare_data(str(tmp_path / "a.csv"), tmp_path / "out")
    assert as_oracle(read_dataset(tmp_path / "out")) == oracle(ROWS, SplitOptions())
