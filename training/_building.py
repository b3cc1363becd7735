"""Making a data set of arrays or tables in memory, and writing it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nann.errors import InvalidInputError
from nann.files import check_replaceable, staged_directory, write_json
from nann.run import ATTRIBUTES
from nann.training._attributes import category_table, write_attributes
from nann.training._columns import Column, write_column
from nann.training._dataset import (
    ARRAYS,
    FORMAT,
    META,
    SPLIT_ARRAYS,
    TITLES,
    Dataset,
    IntArray,
    RowArray,
    count_rows,
)
from nann.training._splits import Split, SplitOptions, split_users


def split_dataset(
    *,
    source: str,
    item_ids: IntArray,
    cate_ids: IntArray,
    item_cates: IntArray,
    user_ids: IntArray,
    events: RowArray,
    row_splits: IntArray,
    titles: Mapping[int, str] | None = None,
    item_counts: IntArray | None = None,
    columns: Mapping[str, Column] | None = None,
    options: SplitOptions | None = None,
) -> Dataset:
    """The `Dataset` of these arrays (see there), with the split and the counts that follow from them.

    item_counts: None counts `events`.

    Raises:
      InvalidInputError: too few users for the split.
    """
    split = split_users(np.diff(row_splits), options or SplitOptions(), source=source)
    return Dataset(
        source=source,
        item_ids=item_ids,
        cate_ids=cate_ids,
        item_cates=item_cates,
        item_counts=count_rows(events, len(item_ids)) if item_counts is None else item_counts,
        train_counts=count_train_events(events, row_splits, split, len(item_ids)),
        user_ids=user_ids,
        events=events,
        row_splits=row_splits,
        split=split,
        titles=dict(titles or {}),
        columns=dict(columns or {}),
    )


# Events counted at a time.
_CHUNK = 2**22


def count_train_events(events: RowArray, row_splits: IntArray, split: Split, num_items: int) -> IntArray:
    """int64 [num_items + 1]: events per item row that training sees."""
    lengths = np.diff(row_splits)
    seen = split.train_lengths(lengths)
    counts = np.zeros(num_items + 1, np.int64)
    first = 0
    while first < len(lengths):
        # The users whose events end within the next chunk; at least one.
        end = max(first + 1, int(np.searchsorted(row_splits, row_splits[first] + _CHUNK, side="right")) - 1)
        part = np.repeat(row_splits[first:end], lengths[first:end])
        places = np.arange(row_splits[first], row_splits[end]) - part
        known = places < np.repeat(seen[first:end], lengths[first:end])
        counts += np.bincount(events[row_splits[first] : row_splits[end]][known], minlength=num_items + 1)
        first = end
    return counts


def dataset_from_events(
    events: pd.DataFrame,
    *,
    source: str,
    item_categories: pd.DataFrame | None = None,
    titles: Mapping[int, str] | None = None,
    options: SplitOptions | None = None,
) -> Dataset:
    """Build a `Dataset` from a table of events.

    Args:
      events: int64 columns `user`, `item`, `timestamp` and, without `item_categories`, `category` (an item
        seen with several categories gets the one it was seen with last).
        Events of one user at the same time stay in the order of the table.
      source: recorded in the result.
      item_categories: int64 columns `item`, `category`: the catalogue, which may hold items nobody touched.
      titles: item id -> title.
      options: None takes the defaults.

    Raises:
      InvalidInputError: an id below 1, or too few users that have enough events.
    """
    options = options or SplitOptions()
    for column in ("user", "item"):
        _check_ids(events[column], f"{source}: column {column}")
    if item_categories is None:
        item_categories = events.drop_duplicates("item", keep="last")[["item", "category"]]
    _check_ids(item_categories["category"], f"{source}: column category")
    _check_catalogue(events["item"], item_categories["item"], source)
    catalogue = item_categories.sort_values("item", kind="stable")
    item_ids = catalogue["item"].to_numpy(np.int64)
    cate_ids, cate_rows = np.unique(catalogue["category"].to_numpy(np.int64), return_inverse=True)
    ordered = _of_active_users(events, source, options)
    user_ids, user_counts = np.unique(ordered["user"].to_numpy(np.int64), return_counts=True)

    def rows(items: pd.Series[Any]) -> RowArray:
        return (np.searchsorted(item_ids, items.to_numpy(np.int64)) + 1).astype(np.int32)

    return split_dataset(
        source=source,
        item_ids=item_ids,
        cate_ids=cate_ids,
        item_cates=np.concatenate([[0], cate_rows + 1]).astype(np.int64),
        item_counts=count_rows(rows(events["item"]), len(item_ids)),
        user_ids=user_ids,
        events=rows(ordered["item"]),
        row_splits=np.concatenate([[0], np.cumsum(user_counts)]).astype(np.int64),
        titles=titles,
        options=options,
    )


def _of_active_users(events: pd.DataFrame, source: str, options: SplitOptions) -> pd.DataFrame:
    """The events of users that have enough of them, in order of time."""
    ordered = events.sort_values(["user", "timestamp"], kind="stable")
    counts = ordered.groupby("user")["item"].transform("size")
    kept: pd.DataFrame = ordered[counts >= options.min_events]
    if kept.empty:
        raise InvalidInputError(
            f"{source}: expected users with at least {options.min_events} events (training, validation, "
            f"test), found none among {events['user'].nunique()} users. Give a larger sample."
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


def write_dataset(
    dataset: Dataset,
    folder: Path,
    *,
    attributes: Any = None,
    notes: Mapping[str, Any] | None = None,
    write_more: Callable[[Path], None] | None = None,
    overwrite: bool = False,
) -> None:
    """Write `dataset` to `folder`, the whole or nothing.

    attributes: an Arrow table with the column item_id and one for each attribute of the items; None takes the
      categories.
    notes: further keys of `meta.json`: how the data set was prepared.
    write_more: writes further files into the folder that is given.

    Raises:
      InvalidInputError: `folder` is not empty (and is no data set, or `overwrite` is not set).
    """
    check_replaceable(folder, overwrite=overwrite, marker=META)
    split = dataset.split
    parts = {
        "train_splits": split.train_splits,
        "validation_users": split.validation.users,
        "validation_cuts": split.validation.cuts,
        "test_users": split.test.users,
        "test_cuts": split.test.cuts,
    }
    assert tuple(parts) == SPLIT_ARRAYS
    with staged_directory(folder) as temporary:
        for name in ARRAYS:
            np.save(temporary / f"{name}.npy", getattr(dataset, name))
        for name, array in parts.items():
            np.save(temporary / f"{name}.npy", array)
        for column in dataset.columns.values():
            write_column(column, temporary)
        write_attributes(
            temporary / ATTRIBUTES, category_table(dataset) if attributes is None else attributes
        )
        if write_more is not None:
            write_more(temporary)
        write_json(temporary / TITLES, {str(item): title for item, title in dataset.titles.items()})
        write_json(temporary / META, {**describe(dataset), **(notes or {})})


def describe(dataset: Dataset) -> dict[str, Any]:
    """The content of `meta.json`."""
    split = dataset.split
    return {
        "format": FORMAT,
        **dataset.summary(),
        "split": {
            "kind": split.kind,
            "first_target": split.first_target,
            "train_examples": dataset.num_train_examples,
            "validation_examples": len(split.validation),
            "test_examples": len(split.test),
        },
        "columns": [column.describe() for column in dataset.columns.values()],
    }
