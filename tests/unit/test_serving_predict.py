"""Which outputs a Predict request runs, and which it returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from nann.serving.protocol import tensors
from nann.serving.server._predict import predict_arrays, predict_proto
from nann.serving.server._servable import MANIFEST, Servable, SessionOptions
from nann.serving.server._status import Code, StatusError


class _Servable:
    """Returns the number of the output in the signature."""

    def __init__(self, *, fetches_all: bool) -> None:
        signature = meta_graph_pb2.SignatureDef()
        for name in ("items_scored", "scores", "top_k"):
            signature.outputs[name].name = f"{name}:0"
        self.signatures = {"retrieve": signature}
        self.fetches_all = fetches_all
        self.runs: list[list[str]] = []

    def run(self, feeds: Any, fetches: Sequence[str], *, timeout_ms: int | None) -> list[Any]:
        self.runs.append(list(fetches))
        every = ["items_scored:0", "scores:0", "top_k:0"]
        return [np.array([every.index(name)]) for name in fetches]


@pytest.mark.parametrize(
    ("fetches_all", "fetched"),
    [(False, ["top_k:0", "scores:0"]), (True, ["items_scored:0", "scores:0", "top_k:0"])],
)
def test_a_filtered_search_fetches_all_outputs_and_returns_those_asked_for(
    fetches_all: bool, fetched: list[str]
) -> None:
    request = predict_pb2.PredictRequest(output_filter=["top_k", "scores"])
    request.model_spec.signature_name = "retrieve"
    servable = _Servable(fetches_all=fetches_all)
    response = predict_proto(servable, request, version=1, timeout_ms=None)  # type: ignore[arg-type]
    assert servable.runs == [fetched]
    assert {name: tensors.decode(proto).tolist() for name, proto in response.outputs.items()} == {
        "scores": [1],
        "top_k": [2],
    }


@pytest.mark.parametrize("method", ["", "foo/bar"])
def test_method_names_are_checked_where_that_is_asked_for(method: str) -> None:
    servable: Any = _Servable(fetches_all=False)
    signature = servable.signatures["retrieve"]
    signature.method_name = method
    request = predict_pb2.PredictRequest(output_filter=["top_k"])
    request.model_spec.signature_name = "retrieve"
    for predict in (
        lambda check: predict_proto(servable, request, version=1, timeout_ms=None, check_method_names=check),
        lambda check: predict_arrays(servable, signature, {}, timeout_ms=None, check_method_names=check),
    ):
        with pytest.raises(StatusError) as error:
            predict(True)
        assert error.value.code is Code.INTERNAL
        assert error.value.message == (
            "Expected prediction signature method_name to be one of {tensorflow/serving/predict, "
            f"tensorflow/serving/classify, tensorflow/serving/regress}}. Was: {method}"
        )
        predict(False)
        signature.method_name = "tensorflow/serving/regress"
        predict(True)
        signature.method_name = method


def test_element_types_without_arrays_do_not_fit_but_are_read(tmp_path: Path) -> None:
    """The texts of TensorFlow's own session, which gets the values."""
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": x + 1}, input_signature=[tf.TensorSpec(None, tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path), signatures=module.f)
    servable = Servable(tmp_path, SessionOptions())

    def error(dtype: int, *dims: int, **fields: Any) -> str:
        request = predict_pb2.PredictRequest()
        request.inputs["x"].CopyFrom(tensor_pb2.TensorProto(dtype=dtype, **fields))
        for size in dims:
            request.inputs["x"].tensor_shape.dim.add(size=size)
        with pytest.raises(StatusError) as raised:
            predict_proto(servable, request, version=1, timeout_ms=None)
        assert raised.value.code is Code.INVALID_ARGUMENT
        return raised.value.message

    expects = "Expects arg[0] to be float but {} is provided"
    assert error(types_pb2.DT_QINT8, 1, int_val=[1]) == expects.format("qint8")
    assert error(types_pb2.DT_VARIANT, 2) == expects.format("variant")
    assert error(types_pb2.DT_INT4) == expects.format("int4")
    assert error(types_pb2.DT_RESOURCE, 1).startswith("Invalid resource type hash code: 0(name:  type: ). P")
    handle = [{"hash_code": 7, "name": "n", "maybe_type_name": "t"}]
    assert "code: 7(name: n type: t)" in error(types_pb2.DT_RESOURCE, resource_handle_val=handle)
    unread = "tensor parsing error: x"
    assert error(types_pb2.DT_RESOURCE, 2) == unread
    assert error(types_pb2.DT_VARIANT, 1, variant_val=[{"type_name": "tensorflow::TensorList"}]) == unread
    assert error(types_pb2.DT_QINT8, 2, tensor_content=b"abc") == unread
    assert error(types_pb2.DT_QINT8, 2**21) == unread
    # Where it is freed with what it happens to hold, some of many end the process.
    assert {error(types_pb2.DT_QINT8, -1) for _ in range(300)} == {unread}
    assert error(types_pb2.DT_FLOAT_REF, 1) == error(999, 1) == unread
    servable.close()


def test_only_an_export_fetches_all_outputs(tmp_path: Path) -> None:
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": x + 1}, input_signature=[tf.TensorSpec(None, tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path), signatures=module.f)
    plain = Servable(tmp_path, SessionOptions())
    assert not plain.fetches_all
    plain.close()
    (tmp_path / MANIFEST).parent.mkdir()
    (tmp_path / MANIFEST).write_text("{}")
    export = Servable(tmp_path, SessionOptions())
    assert export.fetches_all
    export.close()
