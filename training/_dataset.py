"""The prepared data set: vocabularies, each item's category, each user's events in time order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nann.errors import InvalidFileError, InvalidInputError
from nann.files import check_replaceable, read_json, staged_directory, write_json

IntArray = npt.NDArray[np.int64]
RowArray = npt.NDArray[np.int32]

FORMAT = 1
MIN_EVENTS = 3
"""A user needs one event to learn from, one for validation and one for the test."""

_META = "data.json"
_TITLES = "titles.json"
_PREPARE = "Write it with `nann data prepare`."
_ARRAYS: Mapping[str, type] = {
    "item_ids": np.int64,
    "cate_ids": np.int64,
    "item_cates": np.int64,
    "user_ids": np.int64,
    "events": np.int32,
    "row_splits": np.int64,
}


@dataclass(frozen=True)
class Dataset:
    """Users' events, as rows into vocabularies; row 0 is "missing", row r > 0 is position r - 1.

    Attributes:
      source: where it came from, as given to `prepare_data`.
      item_ids: int64 [V], the items' ids as the caller knows them, sorted, each once, all > 0.
      cate_ids: int64 [C], likewise for categories.
      item_cates: int64 [V + 1], the category row of each item row; 0 for row 0.
      user_ids: int64 [U], sorted.
      events: int32 [events], item rows, user after user, oldest first.
      row_splits: int64 [U + 1], where each user's events start in `events`.
      titles: item id -> title, as far as known.
    """

    source: str
    item_ids: IntArray
    cate_ids: IntArray
    item_cates: IntArray
    user_ids: IntArray
    events: RowArray
    row_splits: IntArray
    titles: Mapping[int, str]

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @cached_property
    def lengths(self) -> IntArray:
        """int64 [U], each user's number of events."""
        return np.diff(self.row_splits)

    def histories(self, users: IntArray, cuts: IntArray, length: int) -> RowArray:
        """The last `length` events before event number `cuts` of each user, oldest first.

        Args:
          users: int64 [B], positions in `user_ids`.
          cuts: int64 [B], number of the first event (from 0) that does not belong to the history.
          length: L; shorter histories are padded at the front with row 0.

        Returns:
          int32 [B, L], item rows.
        """
        wanted = cuts[:, None] - length + np.arange(length)
        places = self.row_splits[users][:, None] + np.maximum(wanted, 0)
        rows: RowArray = np.where(wanted >= 0, self.events[places], 0).astype(np.int32)
        return rows

    def features(self, history: RowArray) -> dict[str, IntArray]:
        """The model's user features for item rows `history` [B, L]: int64 [B, L] each."""
        return {"item_ids": history.astype(np.int64), "cate_ids": self.item_cates[history]}

    def event_at(self, users: IntArray, places: IntArray) -> RowArray:
        """int32 [B], the item row of event number `places` (from 0) of each of `users`."""
        rows: RowArray = self.events[self.row_splits[users] + places]
        return rows

    def seen(self, user: int) -> RowArray:
        """int32 [events - 1], the item rows of all of a user's events but the last, the test."""
        return self.events[self.row_splits[user] : self.row_splits[user + 1] - 1]

    def target(self, user: int) -> int:
        """The item row of a user's last event, the test."""
        return int(self.events[self.row_splits[user + 1] - 1])

    def popularity(self, held_out: int) -> IntArray:
        """int64 [V + 1], events per item row, without each user's last `held_out` events; 0 for row 0."""
        keep = np.ones(len(self.events), bool)
        for back in range(1, held_out + 1):
            keep[self.row_splits[1:] - back] = False
        counts: IntArray = np.bincount(self.events[keep], minlength=self.num_items + 1).astype(np.int64)
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


def dataset_from_events(
    events: pd.DataFrame,
    *,
    source: str,
    item_categories: pd.DataFrame | None = None,
    titles: Mapping[int, str] | None = None,
) -> Dataset:
    """Build a `Dataset` from a table of events.

    Args:
      events: int64 columns `user`, `item`, `timestamp` and, without `item_categories`, `category` (an item
        seen with several categories gets the one it was seen with last).
        Events of one user at the same time stay in the order of the table.
      source: recorded in the result.
      item_categories: int64 columns `item`, `category`: the catalogue, which may hold items nobody touched.
      titles: item id -> title.

    Raises:
      InvalidInputError: an id below 1, or no user with `MIN_EVENTS` events.
    """
    for column in ("user", "item"):
        _check_ids(events[column], f"{source}: column {column}")
    if item_categories is None:
        item_categories = events.drop_duplicates("item", keep="last")[["item", "category"]]
    _check_ids(item_categories["category"], f"{source}: column category")
    _check_catalogue(events["item"], item_categories["item"], source)
    ordered = _of_active_users(events, source)
    catalogue = item_categories.sort_values("item", kind="stable")
    item_ids = catalogue["item"].to_numpy(np.int64)
    cate_ids, cate_rows = np.unique(catalogue["category"].to_numpy(np.int64), return_inverse=True)
    user_ids, user_counts = np.unique(ordered["user"].to_numpy(np.int64), return_counts=True)
    return Dataset(
        source=source,
        item_ids=item_ids,
        cate_ids=cate_ids,
        item_cates=np.concatenate([[0], cate_rows + 1]).astype(np.int64),
        user_ids=user_ids,
        events=(np.searchsorted(item_ids, ordered["item"].to_numpy(np.int64)) + 1).astype(np.int32),
        row_splits=np.concatenate([[0], np.cumsum(user_counts)]).astype(np.int64),
        titles=dict(titles or {}),
    )


def _of_active_users(events: pd.DataFrame, source: str) -> pd.DataFrame:
    """The events of users that have `MIN_EVENTS`, in order of time."""
    ordered = events.sort_values(["user", "timestamp"], kind="stable")
    counts = ordered.groupby("user")["item"].transform("size")
    kept: pd.DataFrame = ordered[counts >= MIN_EVENTS]
    if kept.empty:
        raise InvalidInputError(
            f"{source}: expected users with at least {MIN_EVENTS} events (training, validation, test), "
            f"found none among {events['user'].nunique()} users. Give a larger sample."
        )
    return kept


def _check_catalogue(items: pd.Series[Any], catalogue: pd.Series[Any], source: str) -> None:
    repeated = catalogue[catalogue.duplicated()]
    if len(repeated):
        raise InvalidInputError(
            f"{source}: expected each item of the catalogue once, found {int(repeated.iloc[0])} again."
        )
    unknown = items[~items.isin(catalogue)]
    if len(unknown):
        raise InvalidInputError(
            f"{source}: expected events of items of the catalogue, found {int(unknown.iloc[0])}, which is "
            "not in it. Add the item, or drop its events."
        )


def _check_ids(column: pd.Series[Any], what: str) -> None:
    smallest = int(column.min()) if len(column) else 1
    if smallest < 1:
        raise InvalidInputError(
            f"{what}: expected ids of 1 and above (0 means missing, -1 means none), found {smallest}. "
            "Renumber the ids."
        )


def write_dataset(dataset: Dataset, folder: Path, *, overwrite: bool = False) -> None:
    """Write `dataset` to `folder`, the whole or nothing.

    Raises:
      InvalidInputError: `folder` is not empty (and is no data set, or `overwrite` is not set).
    """
    check_replaceable(folder, overwrite=overwrite, marker=_META)
    with staged_directory(folder) as temporary:
        for name in _ARRAYS:
            np.save(temporary / f"{name}.npy", getattr(dataset, name))
        write_json(temporary / _TITLES, {str(item): title for item, title in dataset.titles.items()})
        write_json(temporary / _META, {"format": FORMAT, **dataset.summary()})


def read_dataset(folder: Path) -> Dataset:
    """Read and check what `write_dataset` wrote.

    Raises:
      InvalidFileError: a file is missing or damaged.
    """
    meta = read_json(folder / _META, what="the description of a data set", next_step=_PREPARE)
    if meta.get("format") != FORMAT:
        raise InvalidFileError(
            f"{folder / _META}: expected format {FORMAT}, found {meta.get('format')}. "
            "Prepare the data again with this version of nann."
        )
    arrays = {name: _read_array(folder / f"{name}.npy", np.dtype(kind)) for name, kind in _ARRAYS.items()}
    titles = read_json(folder / _TITLES, what="the titles of a data set", next_step=_PREPARE)
    dataset = Dataset(
        source=str(meta["source"]), titles={int(item): str(title) for item, title in titles.items()}, **arrays
    )
    _check_dataset(dataset, folder)
    return dataset


def _read_array(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidFileError(f"{path}: cannot be read: {error}. Run `nann data prepare` again.") from error
    if array.dtype != dtype or array.ndim != 1:
        raise InvalidFileError(
            f"{path}: expected {dtype} of rank 1, found {array.dtype} of rank {array.ndim}. "
            "Run `nann data prepare` again."
        )
    return array


def _check_dataset(dataset: Dataset, folder: Path) -> None:
    splits, events = dataset.row_splits, dataset.events
    users, items, cates = dataset.num_users, dataset.num_items, len(dataset.cate_ids)
    whole = len(splits) > 1 and splits[0] == 0 and splits[-1] == len(events)
    checks = {
        "item_ids.npy: ids sorted, each once": bool(np.all(np.diff(dataset.item_ids) > 0)),
        "cate_ids.npy: ids sorted, each once": bool(np.all(np.diff(dataset.cate_ids) > 0)),
        f"item_cates.npy: {items + 1} values": len(dataset.item_cates) == items + 1,
        f"item_cates.npy: rows 0..{cates}": _within(dataset.item_cates, 0, cates),
        f"row_splits.npy: {users + 1} values": len(splits) == users + 1,
        f"row_splits.npy: from 0 to {len(events)}": bool(whole),
        f"row_splits.npy: at least {MIN_EVENTS} events a user": bool(np.all(np.diff(splits) >= MIN_EVENTS)),
        f"events.npy: rows 1..{items}": _within(events, 1, items),
    }
    for expectation, holds in checks.items():
        if not holds:
            raise InvalidFileError(
                f"{folder}: expected {expectation}, found otherwise. Run `nann data prepare` again."
            )


def _within(array: npt.NDArray[Any], low: int, high: int) -> bool:
    return not len(array) or (int(array.min()) >= low and int(array.max()) <= high)
