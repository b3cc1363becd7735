"""Attributes of new items as columns of a segment (docs/live.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidInputError

Values = Mapping[str, Any]
_INT64 = np.iinfo(np.int64)
_LIST = "list<"
_TYPES: dict[str, Any] = {"int64": np.int64, "float32": np.float32, "bool": np.uint8}


def check_attributes(given: object, types: Mapping[str, str]) -> dict[str, Any]:
    """The attributes of one event, by name. Raises InvalidInputError for a name or a value that does not fit.

    types: attribute -> int64, float32, bool, string, or list<...> of one of these. An attribute that is not
           given has no value.

    Example:
      >>> check_attributes({"price": 3, "tags": ["new"]}, {"price": "float32", "tags": "list<string>"})
      {'price': 3, 'tags': ['new']}
    """
    if not isinstance(given, dict) or not set(given) <= set(types):
        found = sorted(given) if isinstance(given, dict) else given
        raise InvalidInputError(f"attributes: expected some of {sorted(types)}, found {found}")
    for name, value in given.items():
        kind = types[name]
        element = kind.removeprefix(_LIST).rstrip(">")
        values = value if kind.startswith(_LIST) else [value]
        fits = value is None or (isinstance(values, list) and all(_is_a(each, element) for each in values))
        if not fits:
            raise InvalidInputError(f"attributes: expected {name} to be {kind} or null, found {value!r}")
    return dict(given)


def attribute_columns(rows: Sequence[Values], types: Mapping[str, str]) -> dict[str, npt.NDArray[Any]]:
    """The columns `attribute/...` of items with these attributes, in their order.

    Example:
      >>> attribute_columns([{"price": 3}, {}], {"price": "float32"})["attribute/price/nulls"]
      array([0, 1], dtype=uint8)
    """
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, kind in types.items():
        values = [row.get(name) for row in rows]
        parts: dict[str, npt.NDArray[Any]] = {}
        missing = np.array([value is None for value in values], np.uint8)
        if kind.startswith(_LIST):
            lists = [value or [] for value in values]
            parts["row_splits"] = _splits(lists)
            parts |= _values(
                [each for value in lists for each in value], kind.removeprefix(_LIST).rstrip(">")
            )
        else:
            parts |= _values(values, kind)
        if missing.any():
            parts["nulls"] = missing
        columns.update({f"attribute/{name}/{part}": array for part, array in parts.items()})
    return columns


def attribute_column_names(types: Mapping[str, str]) -> set[str]:
    """The names that columns of these attributes may have."""
    names = set()
    for name, kind in types.items():
        parts = ["values", "nulls"]
        parts += ["row_splits"] if kind.startswith(_LIST) else []
        parts += ["string_splits"] if kind.removeprefix(_LIST).rstrip(">") == "string" else []
        names |= {f"attribute/{name}/{part}" for part in parts}
    return names


def check_attribute_columns(
    columns: Mapping[str, npt.NDArray[Any]],
    types: Mapping[str, str],
    num_new: int,
    expect: Callable[[bool, str, object], None],
) -> None:
    """Check the columns `attribute/...` of `num_new` items.

    expect: called with whether something holds, what was expected, and what was found.
    """

    def read(name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        column = columns.get(name, np.zeros(0, dtype))
        fits = column.ndim == 1 and column.dtype == np.dtype(dtype)
        expect(fits, f"{name} as {np.dtype(dtype).str} of width 1", column.dtype.str)
        return column

    def splits(name: str, count: int) -> int:
        found = read(name, np.int64)
        ascend = found.size == count + 1 and found[0] == 0 and not (np.diff(found) < 0).any()
        expect(ascend, f"{name} with {count + 1} ascending offsets from 0 on", "others")
        return int(found[-1])

    for name, kind in types.items():
        prefix, element = f"attribute/{name}", kind.removeprefix(_LIST).rstrip(">")
        count = splits(f"{prefix}/row_splits", num_new) if kind.startswith(_LIST) else num_new
        if element == "string":
            count = splits(f"{prefix}/string_splits", count)
        values = read(f"{prefix}/values", _TYPES.get(element, np.uint8))
        expect(values.size == count, f"{prefix}/values with {count} values", values.size)
        expect(element != "bool" or not (values > 1).any(), f"{prefix}/values of 0 or 1", "others")
        if f"{prefix}/nulls" in columns:
            nulls = read(f"{prefix}/nulls", np.uint8)
            fits = nulls.size == num_new and not (nulls > 1).any()
            expect(fits, f"{prefix}/nulls with {num_new} values of 0 or 1", "others")


def _is_a(value: object, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    if kind == "int64":
        return isinstance(value, int) and _INT64.min <= value <= _INT64.max
    return isinstance(value, (int, float)) and abs(value) <= float(np.finfo(np.float32).max)


def _values(values: Sequence[Any], kind: str) -> dict[str, npt.NDArray[Any]]:
    """None counts as 0 or an empty string."""
    if kind != "string":
        return {"values": np.array([value or 0 for value in values], _TYPES[kind])}
    texts = [(value or "").encode() for value in values]
    return {"values": np.frombuffer(b"".join(texts), np.uint8), "string_splits": _splits(texts)}


def _splits(parts: Sequence[Any]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *map(len, parts)], dtype=np.int64)
