"""The third pass for the columns beyond the five: one array per column, whatever it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nann.training._columns import COLUMN_TYPES, WITH_VOCABULARY, Column
from nann.training.ingest._merge import Items, Users, event_places
from nann.training.ingest._partition import read_partition, read_table
from nann.training.ingest._schema import Field, Schema

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """The further columns of one kind of owner, a piece per partition.

    Attributes:
      rows: users, item rows (row 0 included) or events of the data set.
      of_partition: number of a partition -> its table, and int64 [n], which rows of the data set it fills.
    """

    rows: int
    partitions: int
    of_partition: Callable[[int], tuple[Any, Ints]]

    def column(self, name: str) -> Iterator[tuple[Any, Ints]]:
        """The pieces of a column: an Arrow array and the rows that it fills."""
        for number in range(self.partitions):
            table, rows = self.of_partition(number)
            yield table[name].combine_chunks(), rows


def pieces(folder: Path, items: Items, users: Users, of: str) -> Pieces:
    """The pieces of the columns of `user`, `item` or `event`."""
    partitions = len(users.ranks)

    def of_user(number: int) -> tuple[Any, Ints]:
        return read_table(folder, number, "user"), users.ranks[number]

    def of_event(number: int) -> tuple[Any, Ints]:
        lengths = read_partition(folder, number).lengths
        return read_table(folder, number, "event"), event_places(users, users.ranks[number], lengths)

    def of_item(number: int) -> tuple[Any, Ints]:
        mine = np.flatnonzero(items.owners >> 32 == number)
        chosen = pa.array(items.owners[mine] & (2**32 - 1))
        return read_table(folder, number, "item").take(chosen), mine + 1

    if of == "user":
        return Pieces(len(users.users), partitions, of_user)
    if of == "item":
        return Pieces(len(items.items) + 1, partitions, of_item)
    return Pieces(int(users.row_splits[-1]), partitions, of_event)


def build_columns(work: Path, folder: Path, items: Items, users: Users, schema: Schema) -> dict[str, Column]:
    """The further columns as `Column`s, whose arrays are files in `work`, mapped."""
    return {
        field.name: _build(work, pieces(folder, items, users, str(field.of)), field)
        for field in schema.further
    }


def item_table(folder: Path, items: Items, users: Users, schema: Schema) -> Any:
    """The further columns of items as an Arrow table, a row per item in the order of the ids."""
    names = [field.name for field in schema.further if field.of == "item"]
    if not names:
        return pa.table({})
    source = pieces(folder, items, users, "item")
    parts = [source.of_partition(number) for number in range(source.partitions)]
    rows = np.concatenate([rows for _, rows in parts])
    return pa.concat_tables([table for table, _ in parts]).take(pa.array(np.argsort(rows))).select(names)


def _build(work: Path, source: Pieces, field: Field) -> Column:
    vocabulary = _vocabulary(source, field) if field.type in WITH_VOCABULARY else None
    stem = work / f"{field.of}_{field.name}"
    splits = None if field.separator is None else _row_splits(stem, source, field)
    size = source.rows if splits is None else int(splits[-1])
    dtype = COLUMN_TYPES[field.type]
    values = np.lib.format.open_memmap(
        stem.with_name(f"{stem.name}.npy"), mode="w+", dtype=dtype, shape=(size,)
    )
    if field.type == "float32":
        values[:] = np.nan
    for array, rows in source.column(field.name):
        if splits is not None:
            lengths = splits[rows + 1] - splits[rows]
            own = np.cumsum(lengths) - lengths
            rows = np.repeat(splits[rows] - own, lengths) + np.arange(lengths.sum())
            array = array.flatten()
        values[rows] = _values(array, field, vocabulary)
    return Column(
        name=field.name,
        of=field.of,  # type: ignore[arg-type]
        type=field.type,
        values=values,
        row_splits=splits,
        vocabulary=None if vocabulary is None else _as_numpy(vocabulary, field),
    )


def _vocabulary(source: Pieces, field: Field) -> Any:
    """The distinct values that are not missing, sorted."""
    distinct = pa.array([], field.arrow_type if field.separator is None else field.arrow_type.value_type)
    for array, _ in source.column(field.name):
        array = array if field.separator is None else array.flatten()
        distinct = pc.unique(pa.chunked_array([distinct, pc.drop_null(pc.unique(array))]))
    return distinct.take(pc.sort_indices(distinct))


def _as_numpy(vocabulary: Any, field: Field) -> npt.NDArray[Any]:
    if field.type == "id":
        return np.asarray(vocabulary)
    return np.array(vocabulary.to_pylist(), np.str_)


def _row_splits(stem: Path, source: Pieces, field: Field) -> Ints:
    """int64 [rows + 1]: a missing list is an empty one."""
    splits = np.lib.format.open_memmap(
        stem.with_name(f"{stem.name}_row_splits.npy"), mode="w+", dtype=np.int64, shape=(source.rows + 1,)
    )
    for array, rows in source.column(field.name):
        splits[rows + 1] = np.asarray(pc.fill_null(pc.list_value_length(array), 0))
    np.cumsum(splits, out=splits)
    return splits


def _values(array: Any, field: Field, vocabulary: Any) -> npt.NDArray[Any]:
    if vocabulary is not None:
        found = pc.fill_null(pc.index_in(array, vocabulary), -1)
        rows: npt.NDArray[np.int32] = np.asarray(found).astype(np.int32) + np.int32(1)
        return rows
    missing = {"int64": 0, "float32": float("nan"), "bool": False}[field.type]
    values: npt.NDArray[Any] = np.asarray(pc.fill_null(array, pa.scalar(missing, array.type)))
    return values
