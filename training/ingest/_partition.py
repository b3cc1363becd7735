"""The second pass: the rows of some users, sorted by user and time, with the items that they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from nann.files import staged_directory
from nann.training.ingest._schema import CATEGORY, ITEM, TIMESTAMP, USER, Schema
from nann.training.ingest._spill import Batch, write_table
from nann.training.ingest._text import LINE

Ints = npt.NDArray[np.int64]

_TABLES = ("user", "item", "event")


@dataclass(frozen=True)
class Partition:
    """What one partition gives to the data set.

    Attributes:
      users: int64 [u], sorted: those with enough events.
      lengths: int64 [u], their numbers of events.
      codes: int32 [events], positions in `items`, user after user, oldest first.
      items: int64 [v], sorted: the items of all rows, also of users with too few events.
      counts: int64 [v], rows of each item.
      categories: int64 [v], the category of each item's last row in the source.
      places: int64 [v], where that row stood: batch and line. The later of two is the larger.
      all_users: int64 [1], users before those with too few events were left out.
    """

    users: Ints
    lengths: Ints
    codes: npt.NDArray[np.int32]
    items: Ints
    counts: Ints
    categories: Ints
    places: Ints
    all_users: Ints


def partition_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:04}"


def sort_partition(
    folder: Path, number: int, batches: Sequence[Path], schema: Schema, *, min_events: int
) -> None:
    """Sort partition `number` of all batches and write it to its folder below `folder`."""
    # Mapped for this partition alone: what was read of the batches does not stay in this process's memory.
    slices = [Batch(path).partition(number) for path in batches]
    table = pa.concat_tables(slices)
    places = np.repeat(np.arange(len(slices)), [len(each) for each in slices]) << 32
    places += np.asarray(table[LINE])
    roles = {role: _numbers(table, schema, role) for role in (USER, ITEM, CATEGORY, TIMESTAMP)}
    # Stable: events of one user at the same time stay in the order of the source.
    order = np.lexsort((roles[TIMESTAMP], roles[USER]))
    users, starts, lengths = np.unique(roles[USER][order], return_index=True, return_counts=True)
    enough = lengths >= min_events
    kept = order[np.repeat(enough, lengths)]
    items, codes, counts = np.unique(roles[ITEM], return_inverse=True, return_counts=True)
    last = np.empty(len(items), np.int64)
    # Of several assignments to one element NumPy keeps the last.
    last[codes] = np.arange(len(codes))
    partition = Partition(
        users=users[enough],
        lengths=lengths[enough],
        codes=codes[kept].astype(np.int32),
        items=items,
        counts=counts,
        categories=roles[CATEGORY][last],
        places=places[last],
        all_users=np.array([len(users)]),
    )
    further = {"user": order[(starts + lengths - 1)[enough]], "item": last, "event": kept}
    with staged_directory(partition_path(folder, number)) as staged:
        for field in fields(partition):
            np.save(staged / f"{field.name}.npy", getattr(partition, field.name))
        for of in _TABLES:
            names = [field.name for field in schema.further if field.of == of]
            if names:
                write_table(staged / f"{of}.arrow", table.select(names).take(pa.array(further[of])))


def _numbers(table: Any, schema: Schema, role: str) -> Ints:
    field = schema.of_role(role)
    # All items of a source without categories share one.
    return np.ones(len(table), np.int64) if field is None else np.asarray(table[field.name])


def read_partition(folder: Path, number: int) -> Partition:
    """Map what `sort_partition` wrote."""
    path = partition_path(folder, number)
    return Partition(
        **{field.name: np.load(path / f"{field.name}.npy", mmap_mode="r") for field in fields(Partition)}
    )


def read_table(folder: Path, number: int, of: str) -> Any:
    """The further columns of a partition's users, items or events, in the order of the partition's arrays."""
    with pa.memory_map(str(partition_path(folder, number) / f"{of}.arrow")) as file:
        return pa.ipc.open_file(file).read_all()
