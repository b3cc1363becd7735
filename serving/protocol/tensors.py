"""`TensorProto` to and from NumPy arrays, with the rules of TensorFlow's own `Tensor::FromProto`.

The functions take the messages of this package and those of TensorFlow, which have the same fields.
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nann.errors import InvalidInputError
from nann.serving.protocol.messages import DataType

# Element type -> (NumPy type on the wire, field that lists the values one by one).
_TYPES: dict[int, tuple[np.dtype[Any], str]] = {
    DataType.FLOAT: (np.dtype("<f4"), "float_val"),
    DataType.DOUBLE: (np.dtype("<f8"), "double_val"),
    DataType.INT32: (np.dtype("<i4"), "int_val"),
    DataType.UINT8: (np.dtype("u1"), "int_val"),
    DataType.INT16: (np.dtype("<i2"), "int_val"),
    DataType.INT8: (np.dtype("i1"), "int_val"),
    DataType.STRING: (np.dtype(object), "string_val"),
    DataType.COMPLEX64: (np.dtype("<c8"), "scomplex_val"),
    DataType.INT64: (np.dtype("<i8"), "int64_val"),
    DataType.BOOL: (np.dtype("?"), "bool_val"),
    # NumPy has no bfloat16; these are its bits.
    DataType.BFLOAT16: (np.dtype("<u2"), "half_val"),
    DataType.UINT16: (np.dtype("<u2"), "int_val"),
    DataType.COMPLEX128: (np.dtype("<c16"), "dcomplex_val"),
    DataType.HALF: (np.dtype("<f2"), "half_val"),
    DataType.UINT32: (np.dtype("<u4"), "uint32_val"),
    DataType.UINT64: (np.dtype("<u8"), "uint64_val"),
}
# Attributes of an enum take long to find, and every tensor asks.
_BFLOAT16 = int(DataType.BFLOAT16)
_BY_NUMPY = {dtype: int(number) for number, (dtype, _) in _TYPES.items() if number != DataType.BFLOAT16}
# Fields that list a number's 16 bits, or its real and imaginary part.
_LISTED_AS: dict[str, np.dtype[Any]] = {
    "half_val": np.dtype("<u2"),
    "scomplex_val": np.dtype("<f4"),
    "dcomplex_val": np.dtype("<f8"),
}
# What the fields hold.
_FIELD_TYPES: dict[str, np.dtype[Any]] = {
    "float_val": np.dtype(np.float32),
    "double_val": np.dtype(np.float64),
    "int_val": np.dtype(np.int32),
    "int64_val": np.dtype(np.int64),
    "bool_val": np.dtype(np.bool_),
    "half_val": np.dtype(np.int32),
    "scomplex_val": np.dtype(np.float32),
    "dcomplex_val": np.dtype(np.float64),
    "uint32_val": np.dtype(np.uint32),
    "uint64_val": np.dtype(np.uint64),
}
# A message of a few bytes may claim a tensor of any size. A message that brings its values has no such limit.
_MAX_REPEATED_BYTES = 2**28
_SIZE = attrgetter("size")
# NumPy 1's limit; NumPy 2 allows 64 and TensorFlow 254.
MAX_DIMENSIONS = 32


def encode(array: NDArray[Any], proto: Any, *, name: str = "array", one_by_one: bool = False) -> None:
    """Write an array into an empty `TensorProto`.

    Args:
      array: numbers or booleans of any width, bfloat16 (of `ml_dtypes`), or strings (`str` or `bytes`).
      name: what an error calls the array.
      one_by_one: list the values in the field of their type, as the answers of TensorFlow Serving do, instead
        of as raw bytes.

    Raises:
      InvalidInputError: no tensor type corresponds to the array's dtype.
    """
    number = _element_type(array, name)
    dtype, field = _TYPES[number]
    proto.dtype = number
    # A scalar has a shape too, one without dimensions.
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if number == DataType.STRING:
        proto.string_val.extend(_as_bytes(value, name) for value in array.ravel())
        return
    numbers = array.view(np.uint16) if number == DataType.BFLOAT16 else array
    numbers = numbers.astype(dtype, copy=False)
    if one_by_one:
        getattr(proto, field).extend(numbers.ravel().view(_LISTED_AS.get(field, dtype)).tolist())
    else:
        proto.tensor_content = numbers.tobytes()


def _element_type(array: NDArray[Any], name: str) -> int:
    number = _BY_NUMPY.get(array.dtype)
    if number is not None:
        return number
    if array.dtype.kind in "SUO":
        return int(DataType.STRING)
    if array.dtype.name == "bfloat16":
        return int(DataType.BFLOAT16)
    number = _BY_NUMPY.get(array.dtype.newbyteorder("<"))
    if number is None:
        raise InvalidInputError(
            f"{name}: dtype {array.dtype} has no tensor type; convert it, such as with .astype(np.float32)"
        )
    return number


def _as_bytes(value: object, name: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise InvalidInputError(
        f"{name}: expected numbers, str or bytes, got an element of type {type(value).__name__}; "
        "build a NumPy array of one numeric type"
    )


def has_array(element_type: int) -> bool:
    """Return whether tensors of an element type, a `DataType`, have arrays here."""
    return element_type in _TYPES


def decode(proto: Any, *, ignore_surplus: bool = False, bfloat16: Any = None) -> NDArray[Any]:
    """Return the array of a `TensorProto`, whichever of its fields holds the values.

    As in TensorFlow, missing trailing values repeat the last one, and no values at all mean zeros. Strings
    become an object array of `bytes`. The array may be a read-only view of the message.

    Args:
      ignore_surplus: ignore values beyond the shape, and a shape's claim that its rank is unknown, as
        TensorFlow does, instead of refusing them.
      bfloat16: NumPy type of bfloat16 results (`ml_dtypes.bfloat16`); None widens them to float32.

    Raises:
      InvalidInputError: the element type is not supported, the shape is not definite or too large for memory,
        or the values do not fit the shape.
    """
    number = proto.dtype
    if number not in _TYPES:
        raise InvalidInputError(f"element type {number} is not supported")
    dtype, field = _TYPES[number]
    shape = _definite_shape(proto.tensor_shape, ignore_surplus)
    count = math.prod(shape)
    content = proto.tensor_content
    if content and (count or not ignore_surplus):
        flat = _from_content(content, count, dtype)
    else:
        flat = _listed_values(proto, dtype, field, ignore_surplus)
        if len(flat) != count or dtype.hasobject:
            flat = _fill(flat, count, dtype, ignore_surplus)
    native = flat if dtype.isnative else flat.astype(dtype.newbyteorder("="))
    try:
        array = native.reshape(shape)
    except ValueError as error:  # Without values, yet its other dimensions are too large for NumPy.
        raise InvalidInputError(f"shape {list(shape)} is too large") from error
    if number != _BFLOAT16:
        return array
    return (array.astype(np.uint32) << 16).view(np.float32) if bfloat16 is None else array.view(bfloat16)


def _definite_shape(proto: Any, ignore_unknown_rank: bool) -> tuple[int, ...]:
    shape = tuple(map(_SIZE, proto.dim))
    if (proto.unknown_rank and not ignore_unknown_rank) or min(shape, default=0) < 0:
        raise InvalidInputError(f"expected a definite shape, got {list(shape)}")
    if len(shape) > MAX_DIMENSIONS or math.prod(shape) >= 2**63:
        raise InvalidInputError(f"shape {list(shape)} is too large")
    return shape


def _from_content(content: bytes, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.hasobject:
        return _strings(content, count)
    if len(content) != count * dtype.itemsize:
        raise InvalidInputError(f"the shape needs {count * dtype.itemsize} bytes, got {len(content)}")
    return np.frombuffer(content, dtype)


def _strings(content: bytes, count: int) -> NDArray[Any]:
    """Return strings from raw bytes: the length of each as a varint, then all of them."""
    lengths: list[int] = []
    at = 0
    while len(lengths) < count:
        length, shift = 0, 0
        while True:
            # A length is a uint32: more than five bytes are none.
            if at == len(content) or shift > 28:
                raise InvalidInputError(f"raw bytes do not begin with the lengths of {count} strings")
            byte = content[at]
            length |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                break
        lengths.append(length)
    if sum(lengths) != len(content) - at:
        raise InvalidInputError(f"the strings need {sum(lengths)} bytes, got {len(content) - at}")
    strings = np.empty(count, object)
    for index, length in enumerate(lengths):
        strings[index] = content[at : at + length]
        at += length
    return strings


def _listed_values(proto: Any, dtype: np.dtype[Any], field: str, ignore_surplus: bool) -> Any:
    values = getattr(proto, field)
    if dtype.hasobject:
        return list(values)
    listed_as = _LISTED_AS.get(field)
    if listed_as is None:
        # The fields are wider than some types. Values that do not fit wrap around, as in TensorFlow.
        return np.array(values, _FIELD_TYPES[field]).astype(dtype, copy=False)
    half = len(values) % (dtype.itemsize // listed_as.itemsize)
    if half and not ignore_surplus:
        raise InvalidInputError("the values end with half a complex number")
    listed = np.array(values, _FIELD_TYPES[field])
    return listed[: len(values) - half].astype(listed_as, copy=False).view(dtype)


def _fill(values: Any, count: int, dtype: np.dtype[Any], ignore_surplus: bool) -> NDArray[Any]:
    if len(values) > count and not ignore_surplus:
        raise InvalidInputError(f"the shape holds {count} values, got {len(values)}")
    if len(values) < count and count * dtype.itemsize > _MAX_REPEATED_BYTES:
        raise InvalidInputError(
            f"{count} values are claimed and {len(values)} are there: a message may repeat its last value "
            f"up to {_MAX_REPEATED_BYTES} bytes"
        )
    try:
        flat = np.empty(count, dtype)
    except (MemoryError, ValueError) as error:
        raise InvalidInputError(f"{count} values do not fit into memory") from error
    values = values[:count]
    flat[: len(values)] = values
    flat[len(values) :] = values[-1] if len(values) else (b"" if dtype.hasobject else 0)
    return flat
