"""Parquet files as batches of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from nann.errors import InvalidFileError
from nann.training.ingest import _rows as rows
from nann.training.ingest._blocks import Position
from nann.training.ingest._rows import BadRow, BadRows
from nann.training.ingest._schema import BEHAVIOUR, Schema
from nann.training.ingest._text import LINE

BATCH_ROWS = 2**20


@dataclass(frozen=True)
class Batch:
    """Rows of one file; the fields mean what they mean in `Block`."""

    path: Path
    line: int
    table: pa.Table
    end: Position
    bytes_read: int


def read_batches(
    paths: Sequence[Path], start: Position, schema: Schema, *, batch_rows: int = BATCH_ROWS
) -> Iterator[Batch]:
    """The rows of Parquet files from `start`; a position's `offset` and `lines` count rows.

    Raises:
      InvalidFileError: a file cannot be read, or lacks a column of the schema.
    """
    for number in range(start.file, len(paths)):
        skip = start.offset if number == start.file else 0
        try:
            yield from _batches(paths[number], number, skip, schema, batch_rows)
        except (pa.ArrowException, OSError) as error:
            raise InvalidFileError(
                f"{paths[number]}: expected a whole Parquet file, found one that cannot be read ({error}). "
                "Copy it again."
            ) from error


def _batches(path: Path, number: int, skip: int, schema: Schema, batch_rows: int) -> Iterator[Batch]:
    with pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
        missing = [name for name in schema.names if name not in file.schema_arrow.names]
        if missing:
            raise InvalidFileError(
                f"{path}: expected columns {', '.join(schema.names)}, found "
                f"{', '.join(file.schema_arrow.names)}. Rename the columns, or name yours in a schema file "
                "(--schema)."
            )
        done, size = 0, path.stat().st_size
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(batch_rows, row_groups=[group], columns=schema.names):
                first, done = done + 1, done + batch.num_rows
                if done > skip:
                    end = Position(number, done, done)
                    share = size * done // file.metadata.num_rows
                    yield Batch(path, first, pa.Table.from_batches([batch]), end, share)


def check(batch: Batch, schema: Schema) -> tuple[pa.Table, BadRows]:
    """The good rows of a batch in the types of the schema, and what was wrong with the others.

    Raises:
      InvalidFileError: a column has another type than the schema says.
    """
    columns = {}
    good = np.ones(batch.table.num_rows, bool)
    bad: dict[str, BadRow] = {}

    def drop(wrong: Any, kind: str, name: str, expected: str) -> None:
        nonlocal bad
        mask = np.asarray(wrong) & good
        if mask.any():
            place = int(mask.argmax())
            text = str(batch.table[name][place].as_py())
            found = BadRow(int(mask.sum()), str(batch.path), batch.line + place, name, text, expected)
            bad = rows.merge_bad(bad, {kind: found})
            good[mask] = False

    for field in schema.numbers():
        column = _cast(batch, field.name, pa.int64())
        drop(column.is_null(), rows.MISSING, field.name, f"a value in column {field.name}")
        column = pc.fill_null(column, 1)
        if field.role != "timestamp":
            drop(pc.less(column, 1), rows.SMALL, field.name, "ids of 1 and above")
        columns[field.name] = column
    behaviour = schema.of_role(BEHAVIOUR)
    if behaviour is not None:
        texts = _cast(batch, behaviour.name, pa.string())
        if schema.behaviours is not None:
            known = schema.behaviours
            wrong = pc.invert(pc.is_in(texts, pa.array(known)))
            drop(
                wrong, rows.BEHAVIOUR, behaviour.name, f"one of {', '.join(known)} in column {behaviour.name}"
            )
        if behaviour.of is not None:
            columns[behaviour.name] = texts
    for field in schema.beside_roles:
        columns[field.name] = _cast(batch, field.name, field.arrow_type)
    lines = pa.array(np.arange(batch.table.num_rows, dtype=np.int32))
    return pa.table({**columns, LINE: lines}).filter(pa.array(good)), bad


def _cast(batch: Batch, name: str, to: pa.DataType) -> Any:
    column = batch.table[name].combine_chunks()
    number = pa.types.is_integer(column.type) or to != pa.int64()
    try:
        if not number:
            raise pa.ArrowInvalid("no integers")
        return column.cast(to)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidFileError(
            f"{batch.path}: column {name}: expected {to}, found {column.type} ({error}). Cast the column, or "
            "name its type in a schema file (--schema)."
        ) from error
