"""Converts the caller's arrays to the shapes and types of the signatures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nann.errors import InvalidInputError
from nann.serving.client._results import TensorSpec

# A row of ids for each user: [B, L], or as many arrays as users where the rows differ in length.
IdRows = NDArray[np.int64] | list[NDArray[np.int64]]


def as_array(values: ArrayLike, *, name: str, expected: str = "rows of equal length") -> NDArray[Any]:
    """Return the array of values that may be nested lists."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidInputError(f"{name}: expected {expected}, got {error}") from error


def as_floats(values: ArrayLike, dtype: type[np.floating[Any]], *, name: str) -> NDArray[Any]:
    """Return the array as `dtype`. A finite value that would become infinite is refused."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise InvalidInputError(f"{name}: expected numbers, got dtype {array.dtype}; pass float16 or float32")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype, copy=False)
    if cast is not array and bool(np.any(np.isinf(cast) & np.isfinite(array.astype(np.float64)))):
        raise InvalidInputError(
            f"{name}: a value is too large for {np.dtype(dtype)}, the signature's type; scale the input"
        )
    return cast


def as_ids(values: ArrayLike, *, name: str) -> NDArray[np.int64]:
    """Return the array as int64."""
    array = as_array(values, name=name, expected="rows of integers")
    if array.size == 0:
        return array.astype(np.int64)
    is_large = array.dtype == np.uint64 and bool((array > np.iinfo(np.int64).max).any())
    if is_large or (array.dtype.hasobject and all(isinstance(each, int) for each in array.flat)):
        raise InvalidInputError(f"{name}: an id is beyond int64, from -2^63 to 2^63 - 1")
    if array.dtype.kind not in "iu":
        raise InvalidInputError(f"{name}: expected integers, got dtype {array.dtype}; pass an int64 array")
    return array.astype(np.int64)


def flatten_state(array: NDArray[Any], *, width: int | None, name: str) -> NDArray[Any]:
    """Return [B, width], given one user ([width] or [L, E]) or several ([B, width] or [B, L, E]).

    `width` is L*E of the signature. It distinguishes [L, E] of one user from [B, L*E] of several. With None
    (not known), two dimensions are several users.
    """
    if array.ndim == 3:
        flat = array.reshape(array.shape[0], array.shape[1] * array.shape[2])
    elif array.ndim == 1 or (array.ndim == 2 and width is not None and _is_one_user(array, width)):
        flat = array.reshape(1, array.size)
    else:
        flat = array
    if flat.ndim != 2 or (width is not None and flat.shape[1] != width):
        expected = "[L*E], [L, E], [B, L*E] or [B, L, E]" + (f" with L*E = {width}" if width else "")
        raise InvalidInputError(f"{name}: expected {expected}, got shape {list(array.shape)}")
    return flat


def _is_one_user(array: NDArray[Any], width: int) -> bool:
    return array.shape[1] != width and array.size == width


def id_rows(values: Any, *, name: str) -> IdRows:
    """Return the rows of ids of one user or several: int64 [B, L], or a list of rows of their own lengths."""
    is_nested = isinstance(values, list | tuple) and any(
        isinstance(row, Sequence | np.ndarray) for row in values
    )
    if not is_nested:
        rows = as_ids(values, name=name)
        if rows.ndim <= 2:
            return np.atleast_2d(rows)
    else:
        lists = [as_ids(row, name=name) for row in values]
        if all(row.ndim == 1 for row in lists):
            return lists
    raise InvalidInputError(f"{name}: expected a row of ids, or one row per user; got deeper nesting")


def pad_ids(rows: IdRows, *, length: int | None, fill: int, name: str) -> NDArray[np.int64]:
    """Return rows of ids as int64 [B, length]. Shorter ones are padded with `fill` at the front.

    `length` None means the length of the longest row.
    """
    if isinstance(rows, np.ndarray) and length in (None, rows.shape[1]):
        return rows
    longest = max((len(row) for row in rows), default=0)
    if length is not None and longest > length:
        raise InvalidInputError(
            f"{name}: the model takes {length} ids a user, got {longest}; send only the last {length}"
        )
    padded = np.full((len(rows), longest if length is None else length), fill, np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[len(target) - len(row) :] = row
    return padded


_NUMPY_NAMES = {"string": "object", "float": "float32", "half": "float16", "double": "float64"}


def numpy_type(spec: TensorSpec) -> np.dtype[Any]:
    """The array type of an input; strings are objects."""
    return np.dtype(_NUMPY_NAMES.get(spec.dtype, spec.dtype))


def is_row_of_ids(spec: TensorSpec) -> bool:
    """Whether an input is [B, L] of integers: rows of ids may be shorter."""
    return numpy_type(spec).kind in "iu" and (spec.shape is None or len(spec.shape) == 2)


def as_type(values: Any, dtype: np.dtype[Any], *, name: str) -> NDArray[Any]:
    """Return the values as an array of an input's type; refused where a value would become another."""
    try:
        array = np.asarray(values, object) if dtype.hasobject else np.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(f"{name}: expected {dtype} of one shape for all users: {error}") from error
    if array.size == 0:
        return array.astype(dtype)
    if dtype.hasobject:
        return _as_strings(array, name)
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if dtype.kind == "f":
        return as_floats(array, dtype.type, name=name)
    return _as_integers(array, dtype, name)


def _as_strings(array: NDArray[Any], name: str) -> NDArray[Any]:
    other = next((each for each in array.flat if not isinstance(each, str | bytes)), None)
    if other is not None:
        raise InvalidInputError(f"{name}: expected strings, got {other!r}")
    return array


def _as_integers(array: NDArray[Any], dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """Integers, or booleans, of any width."""
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "iu":
        raise InvalidInputError(f"{name}: expected {dtype}, got {array.dtype}")
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if int(array.min()) < least or int(array.max()) > most:
        raise InvalidInputError(f"{name}: expected {dtype}, got values from {array.min()} to {array.max()}")
    return array.astype(dtype)


def one_value_each(values: Any, spec: TensorSpec | None) -> Any:
    """Return one value per user as [B, 1] where the input has that shape; all others as they are.

    `keras.Input([1])` declares a single number or string so, and callers think of it as one.
    """
    if spec is None or spec.shape is None or len(spec.shape) != 2 or spec.shape[1] != 1 or _depth(values) > 1:
        return values
    return [[value] for value in (values if _depth(values) else [values])]


def as_feature(values: Any, spec: TensorSpec, *, name: str) -> NDArray[Any]:
    """Return the values in the type of the input, [B, ...]; those of one user get the batch dimension."""
    array = as_type(values, numpy_type(spec), name=name)
    if spec.shape is not None and array.ndim == len(spec.shape) - 1:
        array = array[np.newaxis]
    expected = spec.shape
    if expected is not None and (
        array.ndim != len(expected)
        or any(size not in (-1, n) for size, n in zip(expected, array.shape, strict=True))
    ):
        raise InvalidInputError(f"{name}: expected shape {list(expected)}, got {list(array.shape)}")
    return array


def open_rows(values: Any, spec: TensorSpec, *, name: str) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return rows of any length as [B, T, ...], values at the front, and their lengths, int32 [B].

    One user is a list of values, several are a list of such lists.
    """
    assert spec.shape is not None
    rank, dtype = len(spec.shape) - 1, numpy_type(spec)
    is_one = _depth(values) == rank
    rows = [as_type(row, dtype, name=name) for row in ([values] if is_one else values)]
    if any(row.ndim != rank and row.size for row in rows):
        raise InvalidInputError(f"{name}: expected a list of values, or one list per user; got other nesting")
    lengths = np.array([len(row) for row in rows], np.int32)
    fill: Any = b"" if dtype.hasobject else 0
    # One column at least: a server that batches requests cannot pad an input without values.
    padded = np.full((len(rows), int(lengths.max(initial=1)), *spec.shape[2:]), fill, dtype)
    for target, row in zip(padded, rows, strict=True):
        if row.size:
            target[: len(row)] = row
    return padded, lengths


def _depth(values: Any) -> int:
    """How many lists are in each other; the first that holds anything tells."""
    if isinstance(values, np.ndarray):
        return values.ndim
    if not isinstance(values, list | tuple):
        return 0
    return 1 + max((_depth(each) for each in values), default=0)


def check_parallel(features: Mapping[str, tuple[IdRows, int]]) -> None:
    """Raise InvalidInputError when two features of the same events have rows of different lengths.

    Features, given as their rows and the number of ids that the model takes, describe the same events where
    that number is the same. Padded separately, rows of different lengths would pair an id with the attribute
    of another event.
    """
    first: dict[int, tuple[str, list[int]]] = {}
    for name, (rows, length) in features.items():
        row_lengths = [len(row) for row in rows]
        other, expected = first.setdefault(length, (name, row_lengths))
        if row_lengths != expected:
            raise InvalidInputError(
                f"{name}: expected one id for each id of {other}, rows of {expected}; "
                f"got rows of {row_lengths}"
            )


def as_level_topn(values: ArrayLike) -> NDArray[np.int32]:
    """Return beams as int32 [n] or [B, n]."""
    array = as_array(values, name="level_topn")
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2) or array.size == 0:
        raise InvalidInputError(
            "level_topn: expected integers of shape [n] or [B, n] with n >= 1, "
            f"got {array.dtype} of shape {list(array.shape)}"
        )
    beams = array.astype(np.int32)
    if bool((beams != array).any()):
        raise InvalidInputError("level_topn: a beam does not fit in int32; beams are 1 to 65,536")
    return beams


def as_filters(where: str | Sequence[str], users: int) -> NDArray[Any]:
    """Return filters as strings [users], given one for all users or one for each."""
    texts = [where] if isinstance(where, str) or not isinstance(where, Iterable) else list(where)
    if not all(map(_is_text, texts)) or len(texts) not in (1, users):
        raise InvalidInputError(
            f"where: expected a filter such as 'price <= 20', or one for each of {users} users, got {where!r}"
        )
    return np.array(texts * (users // len(texts)), object)


def _is_text(value: object) -> bool:
    """Whether a value is a string that UTF-8 can write: half of a surrogate pair is none."""
    return isinstance(value, str) and not any("\ud800" <= each <= "\udfff" for each in value)


def repeat_rows(array: NDArray[Any], rows: int, *, name: str) -> NDArray[Any]:
    """Return [rows, n], given [n], [1, n] or [rows, n]."""
    if array.ndim < 2:
        array = array.reshape(1, array.size)
    if len(array) == rows:
        return array
    if len(array) != 1:
        raise InvalidInputError(
            f"{name}: expected one row, or one for each of {rows} users, got {len(array)}"
        )
    return array.repeat(rows, axis=0)
