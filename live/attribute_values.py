"""The attributes of all positions, those of the base's files and those of segments, as pyarrow's arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nann.files import load_array
from nann.live.segment import Segment
from nann.live.state import State

_LIST = "list<"
_NEXT_STEP = "Export again, and check the result with nann verify."


def attribute_values(state: State, name: str) -> pa.ChunkedArray:
    """The values of an attribute, by position; null where there is none.

    Example:
      >>> attribute_values(state, "price").take([500]).to_pylist()
      [3.5]
    """
    base = state.base
    entry = base.manifest["attributes"][name]
    files = {part: base.model_dir / file for part, file in entry["files"].items()}
    chunks = [_of_base(files, entry["type"], base.num_items)]
    chunks += [_of_segment(segment, name, entry["type"]) for segment in state.segments if segment.num_new]
    return pa.chunked_array(chunks)


def _of_base(files: dict[str, Path], kind: str, num_items: int) -> pa.Array:
    parts = {part: load_array(path, next_step=_NEXT_STEP) for part, path in files.items()}
    is_list = kind.startswith(_LIST)
    values = parts["values"]
    null = _null(parts.get("element_valid" if is_list else "valid"), values.size)
    if "dictionary" in parts:
        strings = _strings(parts["dictionary_offsets"], parts["dictionary"])
        found = strings.take(pa.array(np.maximum(values, 0), mask=null))
    else:
        found = pa.array(values, mask=null)
    return _lists(parts["offsets"], found, _null(parts.get("valid"), num_items)) if is_list else found


def _of_segment(segment: Segment, name: str, kind: str) -> pa.Array:
    def part(of: str) -> npt.NDArray[Any] | None:
        return segment.columns.get(f"attribute/{name}/{of}")

    is_list, nulls = kind.startswith(_LIST), part("nulls")
    null = None if nulls is None else nulls.astype(np.bool_)
    values, string_splits, row_splits = part("values"), part("string_splits"), part("row_splits")
    assert values is not None  # Segments of a state are checked.
    if string_splits is not None:
        strings = _strings(string_splits, values)
        # A list's nulls are of its rows.
        found = (
            strings if is_list or null is None else strings.take(pa.array(np.arange(null.size), mask=null))
        )
    else:
        typed = values.astype(np.bool_) if "bool" in kind else values
        found = pa.array(typed, mask=None if is_list else null)
    return found if row_splits is None else _lists(row_splits, found, null)


def _null(valid: npt.NDArray[np.uint64] | None, count: int) -> npt.NDArray[np.bool_] | None:
    """Which values are null, from the bits of those that are not; None: none is."""
    if valid is None:
        return None
    bits = np.unpackbits(np.ascontiguousarray(valid).view(np.uint8), bitorder="little")[:count]
    return ~bits.astype(np.bool_)


def _strings(offsets: npt.NDArray[np.int64], text: npt.NDArray[np.uint8]) -> pa.Array:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(np.ascontiguousarray(text))]
    return pa.Array.from_buffers(pa.large_string(), offsets.size - 1, buffers)


def _lists(offsets: npt.NDArray[np.int64], values: pa.Array, null: npt.NDArray[np.bool_] | None) -> pa.Array:
    mask = None if null is None else pa.array(null)
    return pa.LargeListArray.from_arrays(pa.array(offsets), values, mask=mask)
