"""The first pass: batches of rows on disk, each divided by user into the same partitions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.ipc

from nann.files import staged_file
from nann.training.ingest._blocks import Position
from nann.training.ingest._rows import BadRow, BadRows
from nann.training.ingest._schema import Schema

Given = TypeVar("Given")
Made = TypeVar("Made")

_META = b"nann"


def ordered_map(function: Callable[[Given], Made], given: Iterable[Given], *, threads: int) -> Iterator[Made]:
    """`map` on several threads, with a few calls ahead; after an error no further call begins."""
    waiting: list[Future[Made]] = []
    with ThreadPoolExecutor(threads) as pool:
        try:
            for each in given:
                waiting.append(pool.submit(function, each))
                if len(waiting) > threads:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def partition_of(users: npt.NDArray[np.int64], partitions: int) -> npt.NDArray[np.uint16]:
    """uint16 [n]: the partition of each user, by the high bits of a product (Fibonacci hashing, Knuth)."""
    hashed = (users.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    scaled: npt.NDArray[np.uint64] = (hashed * np.uint64(partitions)) >> np.uint64(32)
    return scaled.astype(np.uint16)


def write_batch(
    path: Path, table: pa.Table, *, schema: Schema, partitions: int, end: Position, bad: BadRows
) -> None:
    """Write `table`, in order of its rows' partitions, with what a later run must know to go on behind it."""
    users = schema.of_role("user")
    assert users is not None
    parts = partition_of(np.asarray(table[users.name]), partitions)
    order = np.argsort(parts, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(parts, minlength=partitions))])
    meta = {
        "offsets": offsets.tolist(),
        "end": asdict(end),
        "bad": {kind: asdict(each) for kind, each in bad.items()},
    }
    table = table.take(pa.array(order)).combine_chunks()
    table = table.replace_schema_metadata({_META: json.dumps(meta)})
    with staged_file(path) as staged:
        write_table(staged, table)


def write_table(path: Path, table: Any) -> None:
    """Write an Arrow table as a file that can be mapped."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


class Batch:
    """A batch that was written, mapped into memory."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as file:
            self._table = pa.ipc.open_file(file).read_all()
        meta = json.loads(self._table.schema.metadata[_META])
        self._offsets: list[int] = meta["offsets"]
        self.end = Position(**meta["end"])
        self.bad: dict[str, BadRow] = {kind: BadRow(**each) for kind, each in meta["bad"].items()}

    @property
    def num_rows(self) -> int:
        return int(self._table.num_rows)

    def partition(self, number: int) -> Any:
        """The rows of a partition, in the order of the source."""
        begin, end = self._offsets[number : number + 2]
        return self._table.slice(begin, end - begin).replace_schema_metadata(None)


def batch_path(folder: Path, number: int) -> Path:
    return folder / f"batch-{number:06}.arrow"


def written_paths(folder: Path) -> list[Path]:
    """The batches from the first to the last before a gap: one behind a gap was written ahead of a kill."""
    paths = map(partial(batch_path, folder), count())
    return list(takewhile(Path.exists, paths))
