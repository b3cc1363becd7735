"""Any bytes that callers send are answered, and never with "internal error"."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, predict_pb2, regression_pb2

from nann.serving.server._inference import Run, classify, multi_inference, regress
from nann.serving.server._predict import predict_proto
from support.serving_fuzz import API, FakeServable, any_request, is_answered, mutated, seeds

_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.just({"b64": "aGk="})
    | st.just({"b64": "?"})
)
_NAMES = st.sampled_from(["x", "s", "n", "b64", "inputs", "a_bytes", ""])
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)
_KEYS = st.sampled_from(["instances", "inputs", "examples", "context", "signature_name"])
_SIGNATURES = st.sampled_from(["one", "classify", "regress", "", "nope"])
_DOCUMENTS = st.fixed_dictionaries({}, optional={"signature_name": _SIGNATURES}).flatmap(
    lambda base: st.dictionaries(_KEYS, _VALUES, max_size=3).map(lambda more: {**more, **base})
)

_BODIES = _DOCUMENTS.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)


@pytest.mark.parametrize("verb", ["predict", "classify", "regress"])
@settings(max_examples=300)
@given(body=_BODIES, cut=st.integers(0, 9))
def test_bodies(verb: str, body: bytes, cut: int) -> None:
    for sent in (body, body[: len(body) - cut]):
        status, answer = API.answer("POST", f"/v1/models/m:{verb}", sent)
        assert status in (200, 400), (status, answer)


def _tensors() -> st.SearchStrategy[Any]:
    return st.builds(
        lambda dtype, sizes, content, floats, strings: tensor_pb2.TensorProto(
            dtype=dtype,
            tensor_shape={"dim": [{"size": size} for size in sizes]},
            tensor_content=content,
            float_val=floats,
            string_val=strings,
        ),
        st.integers(0, 30),
        st.lists(st.integers(-2, 2**62) | st.integers(0, 3), max_size=4),
        st.binary(max_size=8),
        st.lists(st.floats(width=32), max_size=3),
        st.lists(st.binary(max_size=3), max_size=3),
    )


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(["x", "s", "n", "zz"]), _tensors(), max_size=4), _SIGNATURES)
def test_tensor_protos(inputs: dict[str, Any], signature: str) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "m", signature
    for name, proto in inputs.items():
        request.inputs[name].CopyFrom(proto)
    is_answered(lambda: predict_proto(FakeServable(), request, version=1, timeout_ms=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("infer", "kind"),
    [
        (classify, classification_pb2.ClassificationRequest),
        (regress, regression_pb2.RegressionRequest),
        (multi_inference, inference_pb2.MultiInferenceRequest),
    ],
)
@settings(max_examples=100)
@given(data=st.binary(max_size=80))
def test_other_requests(infer: Any, kind: Any, data: bytes) -> None:
    try:
        request = kind.FromString(data)
    except DecodeError:
        return
    is_answered(lambda: infer(FakeServable(), request, Run(1, None)))


def test_mutations_of_recorded_requests() -> None:
    """Each of them 40 times; `make test-long` tries a million by what they reach in the code."""
    random = Random(0)
    recorded = seeds()
    assert len(recorded) > 100
    for seed in recorded:
        for _ in range(40):
            any_request(mutated(seed, random))
