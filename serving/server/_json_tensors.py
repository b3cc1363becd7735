"""Converts JSON values to arrays and back, by the rules of TensorFlow Serving's REST API."""

from __future__ import annotations

import base64
import binascii
import re
from itertools import chain
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from nann.serving.protocol.tensors import MAX_DIMENSIONS
from nann.serving.server._json_parser import members
from nann.serving.server._json_writer import PrettyWriter, dump, format_float, quote
from nann.serving.server._status import Code, StatusError, invalid_argument

_BASE64_KEY = "b64"
# Abseil takes a dot for padding, too.
_BASE64 = re.compile(r"([A-Za-z0-9+/]*)([=.]{0,2})")
_ASCII_SPACE = re.compile(r"[ \t-\r]")
_INT32, _UINT32 = np.iinfo(np.int32), np.iinfo(np.uint32)
INT64, _UINT64 = np.iinfo(np.int64), np.iinfo(np.uint64)
# The range that a JSON integer must be in, by type. As in TensorFlow Serving, values for the 8- and 16-bit
# types are read as int32 and then wrap around.
_INTEGERS: dict[Any, Any] = {
    tf.int8: _INT32,
    tf.uint8: _INT32,
    tf.int16: _INT32,
    tf.int32: _INT32,
    tf.int64: INT64,
    tf.uint32: _UINT32,
    tf.uint64: _UINT64,
}
_TYPE_NAMES = {int: "Number", float: "Number", str: "String", list: "Array"}
# TensorFlow's limit.
_MAX_TENSOR_DIMENSIONS = 254


class TooManyDimensionsError(Exception):
    """Lists are nested more deeply than a tensor has dimensions."""


def dtype_name(dtype: tf.DType) -> str:
    """Return the name of a type in TensorFlow's C++ code, which error texts use."""
    return str({tf.float32: "float", tf.float64: "double", tf.float16: "half"}.get(dtype, dtype.name))


def type_name(value: Any) -> str:
    """Return the name of a parsed value's JSON type, which error texts use."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    return _TYPE_NAMES.get(type(value), "Object")


def is_base64(value: Any) -> bool:
    """Return whether a value is `{"b64": "..."}`, which stands for bytes."""
    if not isinstance(value, dict) or not isinstance(value.get(_BASE64_KEY), str):
        return False
    return len(list(members(value))) == 1


def to_array(value: Any, dtype: tf.DType, *, outer_dimensions: int = 0) -> NDArray[Any]:
    """Return nested lists, or a single value, as an array.

    `outer_dimensions` is how many dimensions more the tensor has that the array is to be a part of.

    Raises:
      StatusError: lists of the same level have different lengths, or an element does not fit the type.
      TooManyDimensionsError: the values are right otherwise.
    """
    shape = _shape(value)
    if len(shape) <= MAX_DIMENSIONS:
        array = _regular_numbers(value, dtype)
        if array is not None:
            return array
    elements = _elements(value, shape, dtype)
    if len(shape) + outer_dimensions > _MAX_TENSOR_DIMENSIONS:
        raise TooManyDimensionsError
    if len(shape) > MAX_DIMENSIONS:
        raise invalid_argument(
            f"Lists are nested {len(shape)} deep, more than the {MAX_DIMENSIONS} supported"
        )
    if dtype == tf.string:
        strings = np.empty(len(elements), object)
        strings[:] = elements
        return strings.reshape(shape)
    return _cast(elements, dtype).reshape(shape)


def _regular_numbers(value: Any, dtype: tf.DType) -> NDArray[Any] | None:
    """Convert numbers in lists of equal lengths, which is what nearly every request sends.

    Returns None for everything else, errors included; the general code then handles it.
    """
    shape: list[int] = []
    level = [value]
    while level and type(level[0]) is list:
        if set(map(type, level)) != {list} or len(set(map(len, level))) != 1:
            return None
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    kinds = set(map(type, level))
    if dtype in _INTEGERS and kinds <= {int}:
        limits = _INTEGERS[dtype]
        fits = not level or (limits.min <= min(level) and max(level) <= limits.max)
    elif dtype in (tf.float32, tf.float64) and kinds <= {int, float}:
        fits = True
    else:
        fits = False
    if not fits:
        return None
    return _cast(level, dtype).reshape(shape)


def _cast(elements: list[Any], dtype: tf.DType) -> NDArray[Any]:
    numpy_type = dtype.as_numpy_dtype
    if dtype in _INTEGERS:
        # NumPy refuses to convert out-of-range values directly, but lets wide integers wrap around.
        wide = np.uint64 if dtype == tf.uint64 else np.int64
        return np.array(elements, wide).astype(numpy_type)
    if dtype in (tf.float32, tf.float64):
        # As in TensorFlow Serving, numbers are read as doubles, and one too large for a float is infinite.
        with np.errstate(over="ignore"):
            return np.array(elements, np.float64).astype(numpy_type)
    return np.array(elements, numpy_type)


def _shape(value: Any) -> tuple[int, ...]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _elements(value: Any, shape: tuple[int, ...], dtype: tf.DType) -> list[Any]:
    """Return the elements of nested lists, of whatever depth, in their order.

    Raises:
      StatusError: a list has another length than the first list of its level, or an element does not fit.
    """
    elements: list[Any] = []
    rank = len(shape)
    # The lists that are walked, outermost first; the value itself is the only item of a list around it.
    open_lists = [iter([value])]
    while open_lists:
        level = len(open_lists) - 1
        for item in open_lists[-1]:
            if isinstance(item, list):
                _check_length(item, level, shape)
                open_lists.append(iter(item))
                break
            if level != rank:
                raise invalid_argument(
                    f"JSON Value: {dump(item)} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {rank}"
                )
            elements.append(_element(item, dtype))
        else:
            open_lists.pop()
    return elements


def _check_length(value: list[Any], level: int, shape: tuple[int, ...]) -> None:
    if level >= len(shape):
        raise invalid_argument(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid_argument(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )


def _element(value: Any, dtype: tf.DType) -> Any:
    if isinstance(value, dict):
        if dtype == tf.string:
            return decode_base64(value)
        raise _type_error(value, dtype)
    if dtype in (tf.float32, tf.float64):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _type_error(value, dtype)
        return value
    if dtype in _INTEGERS:
        limits = _INTEGERS[dtype]
        if type(value) is not int or not limits.min <= value <= limits.max:
            raise _type_error(value, dtype)
        return value
    if dtype == tf.bool:
        if not isinstance(value, bool):
            raise _type_error(value, dtype)
        return value
    if dtype == tf.string:
        if not isinstance(value, str):
            raise _type_error(value, dtype)
        return value.encode("utf-8", "surrogateescape")
    raise StatusError(
        Code.UNIMPLEMENTED, f"Conversion of JSON Value: {dump(value)} to type: {dtype_name(dtype)}"
    )


def _type_error(value: Any, dtype: tf.DType) -> StatusError:
    return invalid_argument(
        f"JSON Value: {dump(value)} Type: {type_name(value)} is not of expected type: {dtype_name(dtype)}"
    )


def decode_base64(value: dict[str, Any]) -> bytes:
    """Return the bytes that `{"b64": "..."}` stands for. Padding may be missing, white space is ignored.

    Raises:
      StatusError: the value has another form, or its text is not base64.
    """
    if not is_base64(value):
        raise invalid_argument(f"JSON Value: {dump(value)} not formatted correctly for base64 data")
    text = _ASCII_SPACE.sub("", value[_BASE64_KEY])
    found = _BASE64.fullmatch(text)
    if found is not None:
        digits, padding = found.groups()
        needed = -len(digits) % 4
        if needed < 3 and len(padding) in (0, needed):
            try:
                return base64.b64decode(digits + "=" * needed, validate=True)
            except binascii.Error:
                pass
    raise invalid_argument("Unable to base64 decode")


def write_values(writer: PrettyWriter, name: str, array: NDArray[Any]) -> None:
    """Write an output as nested lists. Strings of an output named `..._bytes` are written in base64.

    Raises:
      StatusError: the type cannot be written as JSON.
    """
    if array.ndim:
        writer.start_array()
        if array.ndim == 1 and array.dtype.kind in "iufb":
            writer.values(_texts(array))
        else:
            for item in array:
                write_values(writer, name, np.asarray(item, array.dtype))
        writer.end()
    elif array.dtype == object and name.endswith("_bytes"):
        writer.start_object()
        writer.key(_BASE64_KEY)
        writer.value(quote(base64.b64encode(array.item()).decode()))
        writer.end()
    elif array.dtype == object:
        writer.value(quote(array.item().decode("utf-8", "surrogateescape")))
    else:
        writer.values(_texts(array.reshape(1)))


def _texts(array: NDArray[Any]) -> list[str]:
    if not array.size:
        return []
    if array.dtype in (np.float32, np.float64):
        return [format_float(value) for value in array]
    if array.dtype == np.bool_:
        return ["true" if value else "false" for value in array]
    dtype = tf.as_dtype(array.dtype)
    if dtype not in _INTEGERS:
        raise invalid_argument(f"Failed to write JSON value for tensor type: {dtype_name(dtype)}")
    return [str(value) for value in array.tolist()]
