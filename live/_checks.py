"""The content of a segment, checked against the export and the segments before it."""

from __future__ import annotations

import re
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError
from nann.live._attributes import attribute_column_names, check_attribute_columns
from nann.live.base import Base
from nann.live.segment import Segment, stored_type

Array = npt.NDArray[Any]
_NEXT_STEP = "Roll back to the segment before it: nann publish --rollback-to."
# Checked by those who read them.
_SKIPPED = re.compile(r"publisher/.+")


class Applied(Protocol):
    """What is there before the segment; `nann.live.State` says what each is."""

    base: Base

    @property
    def applied(self) -> int: ...
    @property
    def num_positions(self) -> int: ...
    @property
    def room(self) -> int: ...
    def is_deleted(self, position: int) -> bool: ...
    def position_of(self, item_id: int) -> int | None: ...


class SegmentChecker:
    """Checks that a segment is the next one of a state. Messages begin with `name`."""

    def __init__(self, state: Applied, segment: Segment, name: str) -> None:
        self._state, self._segment, self._name = state, segment, name

    def check(self) -> None:
        """Raise InvalidFileError for the first thing that does not fit."""
        state, segment = self._state, self._segment
        base = state.base
        if segment.export_id != base.export_id:
            self._fail(f"a segment of export {base.export_id}", f"one of {segment.export_id}")
        if segment.follows != state.applied:
            self._fail(f"a segment that follows {state.applied}", f"one that follows {segment.follows}")
        self._expect(
            segment.positions_before == state.num_positions,
            f"{state.num_positions} positions before it",
            segment.positions_before,
        )
        if segment.num_new > state.room:
            self._fail(
                f"room for {segment.num_new} new items",
                f"{state.room} of {base.capacity}",
                f"Make a new base: nann compact --model {base.model_dir}.",
            )
        self._check_names()
        self._check_items()
        for level in range(base.num_levels):
            self._check_links(level)

    def _expect(self, holds: bool, expected: str, found: object) -> None:
        if not holds:
            self._fail(expected, found)

    def _fail(self, expected: str, found: object, next_step: str = _NEXT_STEP) -> None:
        raise InvalidFileError(f"{self._name}: expected {expected}, found {found}. {next_step}")

    def _check_names(self) -> None:
        base = self._state.base
        known = {"ids", "deleted"}
        known |= {f"table/{name}" for name in base.tables} | {f"state/{name}" for name in base.state}
        known |= {
            f"links/{level}/{part}"
            for level in range(base.num_levels)
            for part in ("positions", "row_splits", "values")
        }
        if self._segment.num_new:
            known |= attribute_column_names(base.attributes)
        for name in self._segment.columns:
            self._expect(name in known or bool(_SKIPPED.fullmatch(name)), "columns of this export", name)

    def _check_items(self) -> None:
        segment, state = self._segment, self._state
        new, before = segment.num_new, segment.positions_before
        ids, deleted = self._column("ids", "<i8"), self._column("deleted", "<i4")
        self._expect(ids.size == new, f"{new} ids", ids.size)
        self._expect(not (ids == -1).any(), "no id -1", "one")
        self._expect(np.unique(ids).size == new, "each id once", "an id twice")
        self._expect(
            _ascend(deleted) and _inside(deleted, before),
            f"deleted positions that ascend below {before}",
            "others",
        )
        self._expect(
            not any(map(state.is_deleted, deleted.tolist())),
            "deleted positions of live items",
            "a deleted item",
        )
        former = {state.position_of(item_id) for item_id in ids.tolist()} - {None}
        self._expect(
            former <= set(deleted.tolist()),
            "the former position of each changed item deleted",
            "one that is not",
        )
        self._check_rows()

    def _check_rows(self) -> None:
        state, new = self._state, self._segment.num_new
        for prefix, arrays in (("table/", state.base.tables), ("state/", state.base.state)):
            for name, array in arrays.items():
                width = int(np.prod(array.shape[1:], dtype=np.int64))
                dtype = stored_type(array.dtype)
                rows = self._segment.columns.get(prefix + name, np.zeros((0, width), dtype))
                self._expect(
                    rows.shape == (new, width) and rows.dtype == dtype,
                    f"{prefix}{name} {dtype} [{new}, {width}]",
                    f"{rows.dtype} {list(rows.shape)}",
                )

        if new:
            check_attribute_columns(self._segment.columns, state.base.attributes, new, self._expect)

    def _check_links(self, level: int) -> None:
        segment = self._segment
        after, name = segment.positions_after, f"links/{level}"
        positions, values = self._column(f"{name}/positions", "<i4"), self._column(f"{name}/values", "<i4")
        splits = self._column(f"{name}/row_splits", "<i8") if positions.size else np.zeros(1, np.int64)
        self._expect(
            _ascend(positions) and _inside(positions, after),
            f"{name}/positions that ascend below {after}",
            "others",
        )
        self._expect(_inside(values, after), f"{name}/values below {after}", "others")
        falls = splits.size != positions.size + 1 or splits[0] != 0 or splits[-1] != values.size
        self._expect(
            not falls and not (np.diff(splits) < 0).any(),
            f"{name}/row_splits from 0 to {values.size}",
            "others",
        )
        new = np.arange(segment.positions_before, after)
        if level == 0:
            self._expect(
                np.array_equal(positions[positions.size - new.size :], new),
                f"{name} with a list for each new item",
                "fewer",
            )

    def _column(self, name: str, dtype: str) -> Array:
        column = self._segment.column(name, dtype)
        self._expect(
            column.ndim == 1 and column.dtype == np.dtype(dtype),
            f"{name} as {dtype} of width 1",
            column.dtype.str,
        )
        return column


def _ascend(values: Array) -> bool:
    return not (np.diff(values) <= 0).any()


def _inside(values: Array, end: int) -> bool:
    return values.size == 0 or bool(values.min() >= 0 and values.max() < end)
