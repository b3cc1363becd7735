"""Three passes from files to a data set, in a work folder that a later run continues.

1. Blocks of the source become batches on disk, without malformed rows, divided by user into partitions.
2. Each partition is sorted by user and time.
3. The vocabularies are merged, and the partitions' events are laid into one array.

Every batch and partition is a file or folder that is renamed into place: a run that was killed goes on with
those that it finds. The data set does not depend on where it was killed, nor on the number of threads or
partitions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nann.errors import InvalidFileError, InvalidInputError, NannError
from nann.progress import OnProgress
from nann.training._building import split_dataset
from nann.training._columns import Column
from nann.training._dataset import Dataset
from nann.training._splits import SplitOptions
from nann.training._work_folder import work_folder
from nann.training.ingest import _lines, _parquet, _text
from nann.training.ingest._blocks import BLOCK_BYTES, Position, read_blocks
from nann.training.ingest._further import build_columns, item_table
from nann.training.ingest._merge import merge_items, merge_users, write_events
from nann.training.ingest._partition import partition_path, read_partition, sort_partition
from nann.training.ingest._rows import BadRow, BadRows, describe_bad, merge_bad
from nann.training.ingest._schema import CATEGORY, Schema, read_schema
from nann.training.ingest._spill import (
    Batch,
    batch_path,
    ordered_map,
    write_batch,
    written_paths,
)

TEXT, PARQUET, SEQUENCES = "text", "parquet", "sequences"

# Part of the plan: a work folder of another version is not continued.
_WORK_FORMAT = 1
# Some two million rows of 30 bytes: a few hundred MB while a partition is sorted.
_BYTES_PER_PARTITION = 2**26
# Compressed text and Parquet hold about four times as much.
_COMPRESSED = 4
_MAX_PARTITIONS = 2**12
# Each thread holds a block or a partition; the limit bounds the memory on machines with many cores.
_MAX_THREADS = 8


@dataclass(frozen=True)
class EventFiles:
    """Files of events.

    Attributes:
      name: as the user gave them, recorded in the data set.
      paths: the files, in the order in which they are read.
      kind: `text`, `parquet` or `sequences` (lines `user item item ...`).
      schema_path: None reads the five columns of UserBehavior.
      strict: the first malformed row is an error; otherwise such rows are left out and counted.
    """

    name: str
    paths: tuple[Path, ...]
    kind: str = TEXT
    schema_path: Path | None = None
    strict: bool = False

    def schema(self) -> Schema:
        return Schema() if self.schema_path is None else read_schema(self.schema_path)

    def plan(self) -> dict[str, Any]:
        """What must be the same for a work folder to be continued."""
        stats = [path.stat() for path in self.paths]
        return {
            "format": _WORK_FORMAT,
            "files": [
                [str(path), stat.st_size, stat.st_mtime_ns]
                for path, stat in zip(self.paths, stats, strict=True)
            ],
            "kind": self.kind,
            "schema": repr(self.schema()),
            "strict": self.strict,
            "block_bytes": BLOCK_BYTES,
        }


@dataclass(frozen=True)
class Prepared:
    """A data set whose large arrays are files in the work folder.

    Attributes:
      attributes: an Arrow table: item_id, category where the source has it, and the further columns of items.
      rows: good and bad rows of the source.
      bad: as `meta.json` lists bad rows.
    """

    dataset: Dataset
    attributes: Any
    rows: int
    bad: list[dict[str, Any]]


@contextmanager
def prepared_events(
    files: EventFiles, work: Path, split: SplitOptions, on_progress: OnProgress
) -> Iterator[Prepared]:
    """Yield the data set of `files`; `work` is continued where it fits, and deleted at the end.

    After a kill, or an error of the system such as a full disk, `work` stays for the next run.

    Raises:
      InvalidFileError: a file cannot be read or has nothing to use; with `strict`, a row is malformed.
      InvalidInputError: too few users that have enough events, or `work` is in use.
    """
    plan = {**files.plan(), "min_events": split.min_events}
    with work_folder(work, plan, what="the only run that prepares this data set"):
        yield _Run(files, work, split, on_progress).run()


class _Run:
    def __init__(self, files: EventFiles, work: Path, split: SplitOptions, on_progress: OnProgress) -> None:
        self._files = files
        self._work = work
        self._split = split
        self._on_progress = on_progress
        self._schema = files.schema()
        self._sizes = [path.stat().st_size for path in files.paths]
        self._threads = min(_MAX_THREADS, len(os.sched_getaffinity(0)))
        self._partitions = self._count_partitions()

    def run(self) -> Prepared:
        rows, bad = self._spill()
        if not written_paths(self._work):
            raise InvalidFileError(
                f"{self._files.name}: expected lines {self._expected_lines()}, found an empty file."
            )
        self._sort()
        return self._merge(rows, bad)

    def _expected_lines(self) -> str:
        if self._files.kind == SEQUENCES:
            return "`user item item ...`"
        return f"`{self._schema.delimiter.join(self._schema.names)}`"

    def _count_partitions(self) -> int:
        total = 0
        for path, size in zip(self._files.paths, self._sizes, strict=True):
            with path.open("rb") as file:
                compressed = self._files.kind == PARQUET or file.read(2) == b"\x1f\x8b"
            total += size * (_COMPRESSED if compressed else 1)
        return min(_MAX_PARTITIONS, 1 + total // _BYTES_PER_PARTITION)

    def _spill(self) -> tuple[int, BadRows]:
        """The first pass: number of good rows, and the bad ones."""
        written = written_paths(self._work)
        bad: dict[str, BadRow] = {}
        start = Position()
        for batch in map(Batch, written):
            bad, start = merge_bad(bad, batch.bad), batch.end
        blocks = enumerate(self._blocks(start), start=len(written))
        self._report_read(start.file, 0)
        for block, found in ordered_map(self._spill_block, blocks, threads=self._threads):
            if found and self._files.strict:
                kind, first = min(found.items(), key=lambda each: each[1].line)
                raise first.error(kind, header=self._schema.header)
            bad = merge_bad(bad, found)
            self._report_read(block.end.file, block.bytes_read)
        return sum(Batch(path).num_rows for path in written_paths(self._work)), bad

    def _blocks(self, start: Position) -> Iterator[Any]:
        paths = self._files.paths
        if self._files.kind == PARQUET:
            return _parquet.read_batches(paths, start, self._schema)
        # A line of a sequence file gives many rows, each of which is larger than its text.
        size = BLOCK_BYTES // 8 if self._files.kind == SEQUENCES else BLOCK_BYTES
        return read_blocks(paths, start, block_bytes=size)

    def _spill_block(self, numbered: tuple[int, Any]) -> tuple[Any, BadRows]:
        number, block = numbered
        if self._files.kind == PARQUET:
            table, bad = _parquet.check(block, self._schema)
        elif self._files.kind == SEQUENCES:
            table, bad = _lines.parse(block)
        else:
            table, bad = _text.parse(block, self._schema)
        if not (bad and self._files.strict):
            path = batch_path(self._work, number)
            write_batch(path, table, schema=self._schema, partitions=self._partitions, end=block.end, bad=bad)
        return block, bad

    def _report_read(self, file: int, bytes_read: int) -> None:
        done = sum(self._sizes[:file]) + bytes_read
        self._on_progress("read MB", done >> 20, sum(self._sizes) >> 20)

    def _sort(self) -> None:
        """The second pass."""
        batches = written_paths(self._work)
        missing = [n for n in range(self._partitions) if not partition_path(self._work, n).exists()]
        sort = partial(
            sort_partition,
            self._work,
            batches=batches,
            schema=self._schema,
            min_events=self._split.min_events,
        )
        done = self._partitions - len(missing)
        self._on_progress("sort", done, self._partitions)
        for _ in ordered_map(sort, missing, threads=self._threads):
            done += 1
            self._on_progress("sort", done, self._partitions)

    def _merge(self, rows: int, bad: BadRows) -> Prepared:
        """The third pass."""
        self._on_progress("write", 0, self._partitions)
        users = merge_users(self._work, self._partitions)
        if not len(users.users):
            raise self._no_users(rows, bad)
        items = merge_items(self._work, self._partitions)
        events = write_events(
            self._work / "events.npy",
            self._work,
            items.items,
            users,
            on_done=lambda done: self._on_progress("write", done, self._partitions),
        )
        categories, rows_of_items = np.unique(items.categories, return_inverse=True)
        columns: dict[str, Column] = build_columns(self._work, self._work, items, users, self._schema)
        dataset = split_dataset(
            source=self._files.name,
            item_ids=items.items,
            cate_ids=categories,
            item_cates=np.concatenate([[0], rows_of_items + 1]).astype(np.int64),
            item_counts=np.concatenate([[0], items.counts]).astype(np.int64),
            user_ids=users.users,
            events=events,
            row_splits=users.row_splits,
            options=self._split,
            columns=columns,
        )
        attributes = {"item_id": items.items}
        if self._files.kind != SEQUENCES and self._schema.of_role(CATEGORY) is not None:
            attributes["category"] = items.categories
        further = item_table(self._work, items, users, self._schema)
        table = pa.table({**attributes, **{name: further[name] for name in further.column_names}})
        return Prepared(dataset, table, rows + sum(each.count for each in bad.values()), describe_bad(bad))

    def _no_users(self, rows: int, bad: BadRows) -> NannError:
        if not rows:
            found = ", ".join(f"{each['rows']} with {each['kind']}" for each in describe_bad(bad))
            return InvalidFileError(
                f"{self._files.name}: expected lines {self._expected_lines()}, found none: "
                f"{found or 'no lines'}. Run with --strict to see the first one."
            )
        parts = (read_partition(self._work, number) for number in range(self._partitions))
        everyone = sum(int(part.all_users[0]) for part in parts)
        return InvalidInputError(
            f"{self._files.name}: expected users with at least {self._split.min_events} events (training, "
            f"validation, test), found none among {everyone} users. Give a larger sample."
        )
