"""A server without TensorFlow's runs behind it, for tests that send it anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from nann.serving.server import StatusError
from nann.serving.server._metrics import Metrics
from nann.serving.server._predict import predict_proto
from nann.serving.server._rest import RestApi, RestOptions
from nann.serving.server._status import invalid_argument

_RECORDINGS = Path(__file__).parents[1] / "data" / "serving_recordings"
_VERBS = ("predict", "classify", "regress")
# A mutation changes so many places at most: more of them leave nothing of the request.
_PLACES = 4


def _signature(inputs: dict[str, tf.DType], outputs: Sequence[str]) -> Any:
    signature = meta_graph_pb2.SignatureDef()
    for name, dtype in inputs.items():
        signature.inputs[name].name = f"{name}:0"
        signature.inputs[name].dtype = dtype.as_datatype_enum
    for name in outputs:
        signature.outputs[name].name = f"{name}:0"
    return signature


# A tensor without elements may claim any number of rows, and an answer takes memory for each.
_MOST_ROWS = 10_000


class FakeServable:
    """Answers with as many rows as its first input has."""

    signatures = {  # noqa: RUF012
        "serving_default": _signature({"x": tf.float32, "s": tf.string, "n": tf.int8}, ["y"]),
        "one": _signature({"x": tf.int64}, ["y"]),
        "classify": _signature({"inputs": tf.string}, ["scores"]),
        "regress": _signature({"inputs": tf.string}, ["outputs"]),
    }

    fetches_all = False

    def run(self, feeds: Any, fetches: Sequence[str], *, timeout_ms: int | None) -> list[Any]:
        if not all(isinstance(feed, np.ndarray) for feed in feeds.values()):
            raise invalid_argument("A TensorProto of this type does not fit")
        first = next(iter(feeds.values()), np.zeros(1))
        rows = len(first) if first.ndim else 1
        if rows > _MOST_ROWS:
            raise invalid_argument(f"{rows} rows")
        shapes = {"scores:0": (rows, 2)}
        return [np.zeros(shapes.get(name, (rows,)), np.float32) for name in fetches]


class _Manager:
    @contextmanager
    def lease(self, name: str, **choice: Any) -> Iterator[Any]:
        yield SimpleNamespace(servable=FakeServable(), version=1)


API = RestApi(_Manager(), RestOptions(), Metrics())  # type: ignore[arg-type]


def is_answered(ask: Any) -> None:
    """Check that an answer or a status comes, and none that says the server is at fault."""
    try:
        ask()
        return
    except StatusError as error:
        code = error.code.name
    assert code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED")


def any_request(data: bytes) -> None:
    """Send one request: the first byte says which API, the others are the body or the message."""
    kind, data = data[:1] or b"\0", data[1:]
    verb = kind[0] % (len(_VERBS) + 1)
    if verb < len(_VERBS):
        status, answer = API.answer("POST", f"/v1/models/m:{_VERBS[verb]}", data)
        assert status in (200, 400), (status, answer)
        return
    try:
        request = predict_pb2.PredictRequest.FromString(data)
    except DecodeError:
        return
    is_answered(lambda: predict_proto(FakeServable(), request, version=1, timeout_ms=None))  # type: ignore[arg-type]


def seeds() -> list[bytes]:
    """Return requests for `any_request`: the bodies that the real server was sent, and some tensors."""
    found = []
    for line in (_RECORDINGS / "rest.jsonl").read_text().splitlines():
        case = json.loads(line)
        verb = case["path"].rpartition(":")[2].partition("?")[0]
        if verb in _VERBS and case["request_body"]:
            found.append(
                bytes([_VERBS.index(verb)]) + case["request_body"].encode("utf-8", "surrogateescape")
            )
    for array in (np.ones((2, 3), np.float32), np.array([b"a", b""], object), np.ones((1, 2), np.int8)):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        for name in ("x", "s", "n"):
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        found.append(bytes([len(_VERBS)]) + request.SerializeToString())
    return found


def mutated(data: bytes, random: Random) -> bytes:
    """Return the request with some bytes changed, left out, doubled or put in."""
    changed = bytearray(data)
    for _ in range(random.randint(1, _PLACES)):
        start = random.randrange(len(changed) + 1)
        end = min(len(changed), start + random.randint(0, 8))
        piece = random.choice(
            (b"", bytes(changed[start:end]) * 2, random.randbytes(2), b'"', b"[", b"9" * 30)
        )
        changed[start:end] = piece
    return bytes(changed)
