"""The server's reading of TensorProto, with TensorFlow's `Tensor::FromProto` as the reference."""

from __future__ import annotations

import tracemalloc
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2

from nann.errors import InvalidInputError
from nann.serving.protocol import tensors

_INT32 = st.integers(-(2**31), 2**31 - 1)
_VALUES = {
    "float_val": st.floats(width=32),
    "double_val": st.floats(),
    "int_val": _INT32,
    "string_val": st.binary(max_size=3),
    "scomplex_val": st.floats(width=32),
    "int64_val": st.integers(-(2**63), 2**63 - 1),
    "bool_val": st.booleans(),
    "half_val": st.integers(0, 2**16 - 1),
    "dcomplex_val": st.floats(),
    "uint32_val": st.integers(0, 2**32 - 1),
    "uint64_val": st.integers(0, 2**64 - 1),
}
_FIELDS = {tf.as_dtype(int(number)): field for number, (_, field) in tensors._TYPES.items()}
_DTYPES = sorted(_FIELDS, key=lambda dtype: dtype.name)


def from_proto(proto: Any) -> Any:
    """The array as the server reads it, None where it is refused."""
    try:
        return tensors.decode(proto, ignore_surplus=True, bfloat16=tf.bfloat16.as_numpy_dtype)
    except InvalidInputError:
        return None


def to_proto(array: Any) -> Any:
    proto = tensor_pb2.TensorProto()
    tensors.encode(array, proto, one_by_one=True)
    return proto


def _as_tensorflow_reads(proto: Any, dtype: Any) -> Any:
    try:
        return tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    except (tf.errors.InvalidArgumentError, tf.errors.OpError):
        return None


@st.composite
def _string_contents(draw: st.DrawFn, count: int) -> bytes:
    """Strings as raw bytes: their lengths as varints, then the strings; sometimes a byte more or less."""
    strings = draw(st.lists(st.binary(max_size=3) | st.just(b"x" * 200), min_size=count, max_size=count))
    lengths = b"".join(b"\xc8\x01" if len(text) == 200 else bytes([len(text)]) for text in strings)
    content = lengths + b"".join(strings)
    return draw(st.sampled_from([content, content, content + b"y", content[:-1]]))


@st.composite
def _protos(draw: st.DrawFn) -> tuple[Any, Any]:
    dtype = draw(st.sampled_from(_DTYPES))
    shape = draw(st.lists(st.integers(-1 if draw(st.booleans()) else 0, 3), max_size=3))
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    proto.tensor_shape.unknown_rank = draw(st.booleans())
    field = _FIELDS[dtype]
    # Pairs for complex numbers: half of one is undefined behaviour in TensorFlow.
    count = draw(st.integers(0, 5)) * (2 if "complex" in field else 1)
    getattr(proto, field).extend(draw(st.lists(_VALUES[field], min_size=count, max_size=count)))
    if dtype == tf.string and draw(st.booleans()):
        proto.tensor_content = draw(_string_contents(max(int(np.prod(shape)), 0)))
    elif dtype != tf.string and draw(st.booleans()):
        elements = max(int(np.prod(shape)), 0) + draw(st.sampled_from([0, 0, 1]))
        proto.tensor_content = draw(st.binary(min_size=elements * dtype.size, max_size=elements * dtype.size))
        if dtype == tf.bool:
            proto.tensor_content = bytes(byte & 1 for byte in proto.tensor_content)
    return proto, dtype


@settings(max_examples=300)
@given(_protos())
def test_reads_as_tensorflow_does(case: tuple[Any, Any]) -> None:
    proto, dtype = case
    expected, got = _as_tensorflow_reads(proto, dtype), from_proto(proto)
    assert (got is None) == (expected is None)
    if got is not None:
        assert got.dtype == np.asarray(expected).dtype or dtype == tf.string
        assert got.shape == np.shape(expected)
        assert np.array_equal(got, np.asarray(expected, got.dtype), equal_nan=dtype != tf.string)


@pytest.mark.parametrize("dtype", _DTYPES, ids=lambda dtype: dtype.name)
def test_typed_fields_are_written_as_tensorflow_reads_them(dtype: Any) -> None:
    numpy_type = object if dtype == tf.string else dtype.as_numpy_dtype
    values: Any = [b"a", b"", b"\xff"] if dtype == tf.string else [1, 0, 1]
    array = np.array([values], numpy_type)
    proto = to_proto(array)
    assert not proto.tensor_content
    np.testing.assert_array_equal(_as_tensorflow_reads(proto, dtype), array)
    np.testing.assert_array_equal(from_proto(proto), array)


@pytest.mark.parametrize("dtype", [0, 999, tf.variant.as_datatype_enum, 101])
def test_other_types_are_refused(dtype: int) -> None:
    assert from_proto(tensor_pb2.TensorProto(dtype=dtype)) is None


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, min_side=0, max_dims=2)))
def test_scalars_and_empty_arrays_have_a_shape(array: Any) -> None:
    proto = to_proto(array)
    assert proto.HasField("tensor_shape")
    assert [dim.size for dim in proto.tensor_shape.dim] == list(array.shape)


@pytest.mark.parametrize("content", [b"\x80", b"\xff\xff\xff\xff\xff\x01", b"\xff\xff\xff\xff\x7fa"])
def test_lengths_of_strings_that_are_no_numbers_are_refused(content: bytes) -> None:
    proto = tensor_pb2.TensorProto(dtype=tf.string.as_datatype_enum, tensor_content=content)
    assert _as_tensorflow_reads(proto, tf.string) is None
    assert from_proto(proto) is None


def test_a_shape_without_values_that_numpy_cannot_hold_is_refused() -> None:
    proto = tensor_pb2.TensorProto(dtype=tf.float32.as_datatype_enum)
    proto.tensor_shape.dim.add(size=2**62)
    proto.tensor_shape.dim.add(size=0)
    assert from_proto(proto) is None


def test_a_shape_too_large_for_memory_is_refused() -> None:
    proto = tensor_pb2.TensorProto(dtype=tf.float32.as_datatype_enum, float_val=[1.0])
    for _ in range(3):
        proto.tensor_shape.dim.add(size=2**20)
    assert from_proto(proto) is None


@pytest.mark.parametrize("dtype", [tf.float32, tf.int64, tf.string, tf.bool])
@pytest.mark.parametrize("has_value", [False, True])
def test_a_claim_of_a_million_million_values_is_refused_without_memory(dtype: Any, has_value: bool) -> None:
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    proto.tensor_shape.dim.add(size=10**12)
    if has_value:
        getattr(proto, _FIELDS[dtype]).append(b"x" if dtype == tf.string else 1)
    tracemalloc.start()
    with pytest.raises(InvalidInputError, match="1000000000000 values are claimed"):
        tensors.decode(proto, ignore_surplus=True)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_small_and_large_uint64_in_one_message() -> None:
    proto = tensor_pb2.TensorProto(dtype=tf.uint64.as_datatype_enum, uint64_val=[0, 2**63 + 1])
    proto.tensor_shape.dim.add(size=2)
    assert from_proto(proto).tolist() == [0, 2**63 + 1]
