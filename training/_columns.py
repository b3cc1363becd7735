"""Columns of users, items and events beyond the ids: what a schema names, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nann.files import load_array
from nann.training._checks import PREPARE, check_files

Array = npt.NDArray[Any]

COLUMN_TYPES: Mapping[str, np.dtype[Any]] = {
    "int64": np.dtype(np.int64),
    "float32": np.dtype(np.float32),
    "bool": np.dtype(np.bool_),
    "id": np.dtype(np.int32),
    "string": np.dtype(np.int32),
}
"""The type of a column -> of its values on disk. `id` (an int64) and `string` are rows into a vocabulary."""

WITH_VOCABULARY = ("id", "string")
FOLDER = "columns"


@dataclass(frozen=True)
class Column:
    """A column with a value, or a list of values, per user, item row or event.

    Attributes:
      name: as in the schema.
      of: whose: `user` has a value per position of `Dataset.user_ids`, `item` per item row (row 0, "missing",
        included), `event` per element of `Dataset.events`.
      type: a key of `COLUMN_TYPES`.
      values: its values; where nothing was given 0, NaN or False; of `id` and `string` int32 rows, 0 =
        missing.
      row_splits: int64 [rows + 1], where the list of each row starts in `values`; None for single values.
      vocabulary: what row r > 0 stands for is element r - 1: int64 or str; None without one.
    """

    name: str
    of: Literal["user", "item", "event"]
    type: str
    values: Array
    row_splits: npt.NDArray[np.int64] | None = None
    vocabulary: Array | None = None

    def __len__(self) -> int:
        """Number of users, item rows or events."""
        return len(self.values) if self.row_splits is None else len(self.row_splits) - 1

    @property
    def stem(self) -> str:
        return f"{self.of}_{self.name}"

    def describe(self) -> dict[str, Any]:
        """As `meta.json` lists it."""
        return {"name": self.name, "of": self.of, "type": self.type, "list": self.row_splits is not None}

    def at(self, rows: npt.NDArray[Any]) -> Array:
        """The values of these rows; only for a column of single values."""
        values: Array = self.values[rows]
        return values

    def padded(self, rows: npt.NDArray[Any], length: int) -> Array:
        """The first `length` values of the lists of `rows` [n]: [n, length], padded with 0 or False."""
        assert self.row_splits is not None, f"{self.name} has single values: use at()"
        starts, ends = self.row_splits[rows], self.row_splits[rows + 1]
        places = starts[:, None] + np.arange(length)
        inside = places < ends[:, None]
        if not len(self.values):
            return np.zeros(inside.shape, self.values.dtype)
        return np.where(inside, self.values[np.minimum(places, len(self.values) - 1)], 0).astype(
            self.values.dtype
        )


def write_column(column: Column, folder: Path) -> None:
    """Write the arrays of `column` below `folder`, a data set that is being written."""
    where = folder / FOLDER
    where.mkdir(exist_ok=True)
    np.save(where / f"{column.stem}.npy", column.values)
    if column.row_splits is not None:
        np.save(where / f"{column.stem}_row_splits.npy", column.row_splits)
    if column.vocabulary is not None:
        np.save(where / f"{column.stem}_vocabulary.npy", column.vocabulary)


def read_column(described: Mapping[str, Any], folder: Path, rows: int) -> Column:
    """Map the column that `describe` described, of `rows` users, item rows or events.

    Raises:
      InvalidFileError: an array is missing or damaged.
    """
    stem = folder / FOLDER / f"{described['of']}_{described['name']}"

    def load(ending: str) -> Array:
        return load_array(stem.with_name(f"{stem.name}{ending}.npy"), next_step=PREPARE).view(np.ndarray)

    column = Column(
        name=described["name"],
        of=described["of"],
        type=described["type"],
        values=load(""),
        row_splits=load("_row_splits") if described["list"] else None,
        vocabulary=load("_vocabulary") if described["type"] in WITH_VOCABULARY else None,
    )
    _check_column(column, stem, rows)
    return column


def _check_column(column: Column, stem: Path, rows: int) -> None:
    splits = column.row_splits
    checks = {
        f"values of {COLUMN_TYPES[column.type]}": column.values.dtype == COLUMN_TYPES[column.type],
        f"values for {rows} rows": len(column) == rows,
        "row_splits from 0 to the number of values": splits is None
        or bool(splits[0] == 0 and splits[-1] == len(column.values) and np.all(np.diff(splits) >= 0)),
        "rows of its vocabulary": column.vocabulary is None
        or not len(column.values)
        or bool(column.values.min() >= 0 and column.values.max() <= len(column.vocabulary)),
    }
    check_files(stem.with_name(f"{stem.name}.npy"), checks)
