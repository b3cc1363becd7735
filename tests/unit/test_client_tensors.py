"""How the client writes and reads `TensorProto`, with TensorFlow's code as the reference."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2

from nann.errors import InvalidInputError
from nann.serving.client import NannClient, ResponseError
from nann.serving.client._encoding import encode_inputs
from nann.serving.protocol import tensors
from nann.serving.protocol.messages import DataType, PredictRequest, PredictResponse, TensorProto
from support.scripted_server import scripted_server

_NUMPY_TYPES = [
    np.bool_,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.float16,
    np.float32,
    np.float64,
    np.complex64,
    np.complex128,
]
_shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
_arrays = st.sampled_from(_NUMPY_TYPES).flatmap(lambda dtype: hnp.arrays(dtype, _shapes))
_strings = hnp.arrays(object, _shapes, elements=st.binary(max_size=5), fill=st.nothing())


def encode(array: Any, **options: Any) -> Any:
    proto = TensorProto()
    tensors.encode(array, proto, **options)
    return proto


def decode(proto: Any, *, name: str = "x") -> Any:
    """What the client returns for a server's answer with this tensor."""
    answer = PredictResponse()
    answer.outputs[name].CopyFrom(proto)
    data = answer.SerializeToString()
    with scripted_server(lambda method, request, context: data) as target, NannClient(target) as client:
        return client.predict({})[name]


def _reference(proto: Any) -> Any:
    return tensor_pb2.TensorProto.FromString(proto.SerializeToString())


@given(st.one_of(_arrays, _strings))
def test_tensorflow_reads_what_the_client_writes(array: Any) -> None:
    np.testing.assert_array_equal(tf.make_ndarray(_reference(encode(array))), array)


@given(st.dictionaries(st.text("ab", min_size=1), st.one_of(_arrays, _strings), max_size=3), st.booleans())
def test_a_request_says_what_the_caller_gave(arrays: dict[str, Any], in_other_order: bool) -> None:
    if in_other_order:
        arrays = {name: array.T for name, array in arrays.items()}
    for given_arrays in (
        arrays,
        {name: array.astype(array.dtype.newbyteorder()) for name, array in arrays.items()},
    ):
        request = PredictRequest.FromString(encode_inputs(given_arrays, ["scores"]))
        assert list(request.output_filter) == ["scores"]
        assert set(request.inputs) == set(arrays)
        for name, array in arrays.items():
            assert request.inputs[name] == encode(array)


@given(st.one_of(_arrays, _strings))
def test_client_reads_what_it_and_tensorflow_write(array: Any) -> None:
    by_tensorflow = TensorProto.FromString(tf.make_tensor_proto(array).SerializeToString())
    for proto in (encode(array), by_tensorflow):
        got = tensors.decode(proto)
        np.testing.assert_array_equal(got, array)
        assert got.dtype == array.dtype


@given(st.one_of(_arrays, _strings))
def test_client_reads_the_typed_fields_of_the_server(array: Any) -> None:
    proto = encode(array, one_by_one=True)
    assert not proto.tensor_content
    np.testing.assert_array_equal(tensors.decode(proto), array)


def test_bfloat16_goes_out_as_it_is_and_comes_back_as_float32() -> None:
    array = tf.constant([1.5, -2.0, np.nan], tf.bfloat16).numpy()
    proto = encode(array)
    assert proto.dtype == DataType.BFLOAT16
    assert _reference(proto).tensor_content == array.tobytes()
    typed = TensorProto(dtype=DataType.BFLOAT16, half_val=[0x3FC0, 0xC000, 0x7FC0])
    typed.tensor_shape.dim.add(size=3)
    for message in (proto, typed):
        got = decode(message)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, [1.5, -2.0, np.nan])


def test_big_endian_and_strided_arrays_are_sent_in_order() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4).T
    np.testing.assert_array_equal(tf.make_ndarray(_reference(encode(array))), array)


@pytest.mark.parametrize(
    ("values", "expected"),
    [({"float_val": [7.0]}, [7, 7, 7]), ({}, [0, 0, 0]), ({"float_val": [1, 2]}, [1, 2, 2])],
    ids=["one value", "none", "the last repeats"],
)
def test_missing_values(values: dict[str, Any], expected: list[float]) -> None:
    proto = TensorProto(dtype=DataType.FLOAT, **values)
    proto.tensor_shape.dim.add(size=3)
    np.testing.assert_array_equal(decode(proto), expected)


def test_result_can_be_written_to() -> None:
    got = decode(encode(np.zeros(3, np.float32)))
    got[0] = 1
    assert got[0] == 1


def _proto(dtype: int, size: int, **fields: Any) -> Any:
    proto = TensorProto(dtype=dtype, **fields)
    proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (_proto(999, 1), "999"),
        (_proto(0, 1), "element type 0"),
        (_proto(DataType.FLOAT, -1), "definite shape"),
        (_proto(DataType.FLOAT, 2, tensor_content=b"1234"), "8 bytes, got 4"),
        (_proto(DataType.FLOAT, 1, float_val=[1, 2]), "holds 1 values, got 2"),
        (_proto(DataType.COMPLEX64, 1, scomplex_val=[1]), "half a complex"),
        (_proto(DataType.STRING, 1, string_val=[b"a", b"b"]), "holds 1 values, got 2"),
    ],
)
def test_bad_answers_are_refused(proto: Any, message: str) -> None:
    with pytest.raises(ResponseError, match=message):
        decode(proto, name="scores")


def test_unknown_rank_is_refused() -> None:
    proto = TensorProto(dtype=DataType.FLOAT)
    proto.tensor_shape.unknown_rank = True
    with pytest.raises(ResponseError, match="definite shape"):
        decode(proto)


@pytest.mark.parametrize("array", [np.array(["2020-01-01"], "M8[D]"), np.array([object()])])
def test_arrays_without_a_tensor_type_are_refused(array: Any) -> None:
    with pytest.raises(InvalidInputError, match="comm_seq"):
        encode(array, name="comm_seq")
