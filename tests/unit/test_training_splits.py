"""Which events are examples: compared with a plain Python reading of the rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nann.errors import InvalidFileError, InvalidInputError
from nann.training import PrepareOptions, SplitOptions, load_source, prepare_data, read_dataset
from nann.training._building import count_train_events
from nann.training._splits import Split, split_users
from nann.training.order import RandomOrder


def _train_pairs(split: Split) -> list[tuple[int, int]]:
    examples = split.train_examples(np.arange(split.train_splits[-1]))
    return list(zip(examples.users.tolist(), examples.cuts.tolist(), strict=True))


@given(st.lists(st.integers(3, 20), min_size=1, max_size=30))
def test_leave_one_out_is_every_prefix_then_validation_then_test(lengths: list[int]) -> None:
    split = split_users(np.array(lengths), SplitOptions(), source="test")
    assert _train_pairs(split) == [(u, cut) for u, n in enumerate(lengths) for cut in range(1, n - 2)]
    assert split.validation.cuts.tolist() == [n - 2 for n in lengths]
    assert split.test.cuts.tolist() == [n - 1 for n in lengths]
    assert split.test.users.tolist() == list(range(len(lengths)))


@given(
    st.lists(st.integers(8, 40), min_size=6, max_size=30),
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(0, 5),
)
def test_held_out_users_have_one_example_and_the_others_every_prefix(
    lengths: list[int], tests: int, validations: int, seed: int
) -> None:
    options = SplitOptions(kind="users", validation_users=validations, test_users=tests, seed=seed)
    split = split_users(np.array(lengths), options, source="test")
    assert (len(split.test), len(split.validation)) == (tests, validations)
    held_out = [*split.test.users.tolist(), *split.validation.users.tolist()]
    assert len(set(held_out)) == tests + validations
    for examples in (split.test, split.validation):
        assert examples.cuts.tolist() == [7 + (lengths[u] - 7) // 2 for u in examples.users.tolist()]
    trained = [u for u in range(len(lengths)) if u not in held_out]
    assert _train_pairs(split) == [(u, cut) for u in trained for cut in range(10, lengths[u] - 1)]


@given(st.lists(st.integers(3, 9), min_size=3, max_size=12), st.sampled_from(["leave-one-out", "users"]))
def test_what_training_sees_is_counted(lengths: list[int], kind: str) -> None:
    options = SplitOptions(
        kind="users", train_min_length=2, test_min_length=2, validation_users=1, test_users=1
    )
    split = split_users(np.array(lengths), options if kind == "users" else SplitOptions(), source="test")
    splits = np.concatenate([[0], np.cumsum(lengths)])
    events = (np.arange(splits[-1]) % 5 + 1).astype(np.int32)
    expected = [0] * 6
    held_out = {*split.test.users.tolist(), *split.validation.users.tolist()} if kind == "users" else set()
    for user, length in enumerate(lengths):
        known = 0 if user in held_out else length - (1 if kind == "users" else 2)
        for row in events[splits[user] : splits[user] + known].tolist():
            expected[row] += 1
    assert count_train_events(events, splits, split, 5).tolist() == expected


def test_too_few_users_to_hold_out_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"more than 20000 users with more than 7 events.*found 3"):
        split_users(np.array([9, 9, 9]), SplitOptions(kind="users"), source="test")


@pytest.mark.parametrize(("name", "value"), [("kind", "random"), ("test_users", -1), ("train_min_length", 0)])
def test_split_options_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidInputError, match=name):
        SplitOptions(**{name: value}).check()  # type: ignore[arg-type]


@given(st.integers(0, 700), st.integers(0, 3))
def test_a_random_order_holds_every_number_once_whatever_part_is_asked_first(count: int, seed: int) -> None:
    order = RandomOrder(count, seed=(seed,))
    whole = order[:]
    assert sorted(whole.tolist()) == list(range(count))
    assert order[count // 3 : count // 2].tolist() == whole[count // 3 : count // 2].tolist()


def test_random_orders_of_two_seeds_differ_and_are_no_shift() -> None:
    first, second = RandomOrder(1000, seed=(0, 1))[:], RandomOrder(1000, seed=(0, 2))[:]
    assert (first == second).mean() < 0.02
    assert len(np.unique(np.diff(first))) > 400
    # Neighbours lie as far apart as in any random order: a third of the range on average.
    assert abs(np.abs(np.diff(first)).mean() / 1000 - 1 / 3) < 0.05


def _sequences(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "events.txt"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_sequences_are_read_in_the_order_of_the_file(tmp_path: Path, ending: str) -> None:
    path = _sequences(tmp_path, f"5 30 10 20 30{ending}2 10 20{ending}{ending}2 40 10{ending}9 10 20")
    data = load_source(str(path))
    assert data.user_ids.tolist() == [2, 5], "user 9 has too few events"
    assert data.item_ids.tolist() == [10, 20, 30, 40]
    assert data.events.tolist() == [1, 2, 4, 1, 3, 1, 2, 3]
    assert data.item_counts.tolist() == [0, 4, 3, 2, 1], "of user 9, too"
    assert data.train_counts.tolist() == [0, 2, 1, 1, 0]


def test_one_event_per_line_is_the_same_as_one_user_per_line(tmp_path: Path) -> None:
    whole = load_source(str(_sequences(tmp_path, "1 5 6 7 5\n2 6 7 5\n")))
    (tmp_path / "pairs").write_text("1 5\n2 6\n1 6\n1 7\n2 7\n2 5\n1 5\n")
    pairs = load_source(f"sequences:{tmp_path / 'pairs'}")
    assert pairs.events.tolist() == whole.events.tolist()
    assert pairs.row_splits.tolist() == whole.row_splits.tolist()


@pytest.mark.parametrize(
    "line",
    ["3", "3 4.5", "3 x", "0 4 5", "3 0", "3 -4", "3 " + "9" * 19, "3 " + "9" * 5000, "3 \0", "\uff13 4"],
)
def test_a_malformed_line_of_sequences_is_named(tmp_path: Path, line: str) -> None:
    path = _sequences(tmp_path, f"1 5 6 7\n{line}\n")
    with pytest.raises(InvalidFileError, match=r"events\.txt: line 2: expected `user item item"):
        load_source(str(path))


def test_an_empty_or_missing_file_of_sequences_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match="found none"):
        load_source(str(_sequences(tmp_path, "\n\n")))
    with pytest.raises(InvalidFileError, match=r"nowhere\.txt: no such file"):
        load_source(str(tmp_path / "nowhere.txt"))


def test_the_split_is_read_back(tmp_path: Path) -> None:
    options = SplitOptions(kind="users", validation_users=4, test_users=5, seed=3)
    written = prepare_data(
        "synthetic:items=60,users=30,events=20", tmp_path / "data", PrepareOptions(split=options)
    )
    read = read_dataset(tmp_path / "data")
    assert read.split.kind == "users"
    assert read.meta["options"]["split"]["seed"] == 3
    for name in ("train_splits", "validation.users", "validation.cuts", "test.users", "test.cuts"):
        mine, other = written.split, read.split
        for part in name.split("."):
            mine, other = getattr(mine, part), getattr(other, part)
        assert np.array_equal(mine, other)  # type: ignore[arg-type]
    assert read.num_train_examples == len(_train_pairs(written.split)) > 0
    assert isinstance(read.events.base, np.memmap), "mapped, not read"


@pytest.mark.parametrize("name", ["train_splits", "test_cuts", "validation_users"])
def test_a_damaged_split_is_refused(tmp_path: Path, name: str) -> None:
    prepare_data("synthetic:items=50,users=5,events=6", tmp_path / "data")
    path = tmp_path / "data" / f"{name}.npy"
    np.save(path, np.load(path) + 100)
    with pytest.raises(InvalidFileError, match=r"expected (train_splits|test_cuts|validation_cuts)"):
        read_dataset(tmp_path / "data")
