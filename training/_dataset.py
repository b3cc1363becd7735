"""The prepared data set: vocabularies, each item's category, each user's events in time order, examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError
from nann.files import read_json
from nann.training._checks import check_files
from nann.training._columns import Column, read_column
from nann.training._splits import MIN_EVENTS, Examples, Split

IntArray = npt.NDArray[np.int64]
RowArray = npt.NDArray[np.int32]

FORMAT = 2

META = "meta.json"
TITLES = "titles.json"
ARRAYS: Mapping[str, type] = {
    "item_ids": np.int64,
    "cate_ids": np.int64,
    "item_cates": np.int64,
    "item_counts": np.int64,
    "train_counts": np.int64,
    "user_ids": np.int64,
    "events": np.int32,
    "row_splits": np.int64,
}
SPLIT_ARRAYS = ("train_splits", "validation_users", "validation_cuts", "test_users", "test_cuts")
"""int64 each: the fields of `Split`."""

_PREPARE = "Write it with `nann data prepare`."
# Elements counted at a time: the counts stand in memory, the mapped array does not.
_CHUNK = 2**22


@dataclass(frozen=True)
class Dataset:
    """Users' events, as rows into vocabularies; row 0 is "missing", row r > 0 is position r - 1.

    The arrays of a data set that was read are memory-mapped: what is not used is not in memory.

    Attributes:
      source: where it came from, as given to `prepare_data`.
      item_ids: int64 [V], the items' ids as the caller knows them, sorted, each once, all > 0.
      cate_ids: int64 [C], likewise for categories.
      item_cates: int64 [V + 1], the category row of each item row; 0 for row 0.
      item_counts: int64 [V + 1], events per item row in the source, of users that were left out, too.
      train_counts: int64 [V + 1], events per item row that training sees: those of training users up to the
        last target.
      user_ids: int64 [U], sorted.
      events: int32 [events], item rows, user after user, oldest first.
      row_splits: int64 [U + 1], where each user's events start in `events`.
      split: which events are examples to train on, to validate and to test with.
      titles: item id -> title, as far as known.
      columns: the columns that the schema named, by name.
      meta: the content of `meta.json`; empty for a data set that was not read from disk.
      folder: where it was read from.
    """

    source: str
    item_ids: IntArray
    cate_ids: IntArray
    item_cates: IntArray
    item_counts: IntArray
    train_counts: IntArray
    user_ids: IntArray
    events: RowArray
    row_splits: IntArray
    split: Split
    titles: Mapping[int, str] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_train_examples(self) -> int:
        return int(self.split.train_splits[-1])

    @cached_property
    def lengths(self) -> IntArray:
        """int64 [U], each user's number of events."""
        return np.diff(self.row_splits)

    def train_examples(self, numbers: IntArray) -> Examples:
        """Users and cuts of the training examples `numbers`, int64 [B] of 0..num_train_examples - 1.

        Every prefix of a training user's events is an example; no list of them is held anywhere.
        """
        return self.split.train_examples(numbers)

    def histories(self, users: IntArray, cuts: IntArray, length: int) -> RowArray:
        """The last `length` events before event number `cuts` of each user, oldest first.

        Args:
          users: int64 [B], positions in `user_ids`.
          cuts: int64 [B], number of the first event (from 0) that does not belong to the history.
          length: L; shorter histories are padded at the front with row 0.

        Returns:
          int32 [B, L], item rows.
        """
        places = self.places(users, cuts, length)
        rows: RowArray = np.where(places >= 0, self.events[np.maximum(places, 0)], np.int32(0))
        return rows

    def places(self, users: IntArray, cuts: IntArray, length: int) -> IntArray:
        """int64 [B, L]: where the events of `histories` stand in `events`, -1 for missing ones."""
        wanted = cuts[:, None] - length + np.arange(length)
        places: IntArray = np.where(wanted >= 0, self.row_splits[users][:, None] + wanted, -1)
        return places

    def event_at(self, users: IntArray, places: IntArray) -> RowArray:
        """int32 [B], the item row of event number `places` (from 0) of each of `users`."""
        rows: RowArray = self.events[self.row_splits[users] + places]
        return rows

    def before(self, user: int, cut: int) -> RowArray:
        """int32 [cut], the item rows of a user's first `cut` events."""
        start = self.row_splits[user]
        return self.events[start : start + cut]

    def seen(self, user: int) -> RowArray:
        """int32 [events - 1], the item rows of all of a user's events but the last."""
        return self.before(user, int(self.row_splits[user + 1] - self.row_splits[user]) - 1)

    def target(self, user: int) -> int:
        """The item row of a user's last event."""
        return int(self.events[self.row_splits[user + 1] - 1])

    def popularity(self, held_out: int) -> IntArray:
        """int64 [V + 1], events per item row, without each user's last `held_out` events; 0 for row 0."""
        counts = count_rows(self.events, self.num_items)
        for back in range(1, held_out + 1):
            counts -= count_rows(self.events[self.row_splits[1:] - back], self.num_items)
        return counts

    def summary(self) -> dict[str, Any]:
        """What the command prints: source and counts."""
        return {
            "source": self.source,
            "users": self.num_users,
            "items": self.num_items,
            "categories": len(self.cate_ids),
            "events": len(self.events),
        }


def count_rows(rows: RowArray, num_items: int) -> IntArray:
    """int64 [num_items + 1]: how often each item row stands in `rows`."""
    counts = np.zeros(num_items + 1, np.int64)
    for start in range(0, len(rows), _CHUNK):
        counts += np.bincount(rows[start : start + _CHUNK], minlength=num_items + 1)
    return counts


def read_dataset(folder: Path) -> Dataset:
    """Map and check the data set that `prepare_data` wrote to `folder`.

    Raises:
      InvalidFileError: a file is missing or damaged.

    Example: `read_dataset(Path("DATA")).num_items`.
    """
    meta = read_json(folder / META, what="the description of a data set", next_step=_PREPARE)
    if meta.get("format") != FORMAT:
        raise InvalidFileError(
            f"{folder / META}: expected format {FORMAT}, found {meta.get('format')}. "
            "Prepare the data again with this version of nann."
        )
    arrays: dict[str, Any] = {
        name: _read_array(folder / f"{name}.npy", np.dtype(kind)) for name, kind in ARRAYS.items()
    }
    parts = {name: _read_array(folder / f"{name}.npy", np.dtype(np.int64)) for name in SPLIT_ARRAYS}
    titles = read_json(folder / TITLES, what="the titles of a data set", next_step=_PREPARE)
    dataset = Dataset(
        source=str(meta["source"]),
        titles={int(item): str(title) for item, title in titles.items()},
        split=Split(
            kind=meta["split"]["kind"],
            first_target=int(meta["split"]["first_target"]),
            train_splits=parts["train_splits"],
            validation=Examples(parts["validation_users"], parts["validation_cuts"]),
            test=Examples(parts["test_users"], parts["test_cuts"]),
        ),
        meta=meta,
        folder=folder,
        **arrays,
    )
    _check_dataset(dataset, folder)
    rows = {"user": dataset.num_users, "item": dataset.num_items + 1, "event": len(dataset.events)}
    columns = {each["name"]: read_column(each, folder, rows[each["of"]]) for each in meta["columns"]}
    return replace(dataset, columns=columns)


def _read_array(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidFileError(f"{path}: cannot be read: {error}. Run `nann data prepare` again.") from error
    if array.dtype != dtype or array.ndim != 1:
        raise InvalidFileError(
            f"{path}: expected {dtype} of rank 1, found {array.dtype} of rank {array.ndim}. "
            "Run `nann data prepare` again."
        )
    return array


def _check_dataset(dataset: Dataset, folder: Path) -> None:
    splits, events, split = dataset.row_splits, dataset.events, dataset.split
    users, items, cates = dataset.num_users, dataset.num_items, len(dataset.cate_ids)
    whole = len(splits) > 1 and splits[0] == 0 and splits[-1] == len(events)
    checks = {
        "item_ids.npy: ids sorted, each once": bool(np.all(np.diff(dataset.item_ids) > 0)),
        "cate_ids.npy: ids sorted, each once": bool(np.all(np.diff(dataset.cate_ids) > 0)),
        f"item_cates.npy: {items + 1} values": len(dataset.item_cates) == items + 1,
        f"item_cates.npy: rows 0..{cates}": _within(dataset.item_cates, 0, cates),
        f"item_counts.npy: {items + 1} values": len(dataset.item_counts) == items + 1,
        f"train_counts.npy: {items + 1} values": len(dataset.train_counts) == items + 1,
        f"row_splits.npy: {users + 1} values": len(splits) == users + 1,
        f"row_splits.npy: from 0 to {len(events)}": bool(whole),
        f"row_splits.npy: at least {MIN_EVENTS} events a user": bool(np.all(np.diff(splits) >= MIN_EVENTS)),
        f"events.npy: rows 1..{items}": _within(events, 1, items),
        f"train_splits.npy: {users + 1} values": len(split.train_splits) == users + 1,
    }
    check_files(folder, checks)
    last_cut = split.first_target + np.diff(split.train_splits)
    trained = np.diff(split.train_splits) > 0
    check_files(
        folder,
        {
            "train_splits.npy: cuts inside the users' events": bool(
                split.train_splits[0] == 0
                and split.first_target >= 1
                and np.all(np.diff(split.train_splits) >= 0)
                and np.all((last_cut <= dataset.lengths)[trained])
            ),
            "validation_cuts.npy: cuts inside the users' events": _examples_fit(split.validation, dataset),
            "test_cuts.npy: cuts inside the users' events": _examples_fit(split.test, dataset),
        },
    )


def _examples_fit(examples: Examples, dataset: Dataset) -> bool:
    users, cuts = examples.users, examples.cuts
    if len(users) != len(cuts) or not _within(users, 0, dataset.num_users - 1):
        return False
    return bool(np.all((cuts >= 1) & (cuts < dataset.lengths[users])))


def _within(array: npt.NDArray[Any], low: int, high: int) -> bool:
    return not len(array) or (int(array.min()) >= low and int(array.max()) <= high)
