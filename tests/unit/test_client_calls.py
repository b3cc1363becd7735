"""The client against gRPC servers that misbehave in ways a real one is hard to bring to."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import numpy as np
import pytest

from nann.errors import InvalidInputError, NannError
from nann.serving.client import (
    AsyncNannClient,
    DeadlineExceededError,
    NannClient,
    NannClientError,
    RequestRejectedError,
    ResponseError,
    StaleReplicaError,
    UnavailableError,
)
from nann.serving.protocol import messages, tensors
from support.scripted_server import Handler, metadata_answer, predict_answer, scripted_server


def _top_k(target: str, **options: Any) -> Any:
    with NannClient(target, **options) as client:
        return client.top_k(np.ones((1, 2, 3), np.float32), level_topn=[4, 2], timeout=20)


_IDS, _SCORES = np.array([[1, 2]]), np.array([[2, 1]], np.float32)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"\xff\xff", "unusable answer"),
        (b"", "no output 'top_k'"),
        (predict_answer(top_k=_IDS), "no output 'scores'"),
        (predict_answer(top_k=_IDS.astype(np.int32), scores=_SCORES), "'top_k' is int32"),
        (
            predict_answer(top_k=_IDS.ravel(), scores=_SCORES),
            r"'top_k' is int64 \[2\], expected int64 \[1, 2\]",
        ),
        (predict_answer(top_k=_IDS, scores=_SCORES[:, :1]), r"'scores' is float32 \[1, 1\]"),
        (predict_answer(top_k=_IDS, scores=_SCORES, items_scored=[[1]]), "'items_scored'"),
    ],
    # The bytes are no name: the order of a message's map changes from process to process.
    ids=lambda value: value if isinstance(value, str) else "answer",
)
def test_bad_answers(answer: bytes, message: str) -> None:
    with (
        scripted_server(lambda method, request, context: answer) as target,
        pytest.raises(ResponseError, match=message),
    ):
        _top_k(target)


def test_good_answer_of_a_server_without_a_version() -> None:
    answer = predict_answer(top_k=_IDS, scores=_SCORES)
    with scripted_server(lambda method, request, context: answer) as target:
        result = _top_k(target)
    np.testing.assert_array_equal(result.ids, _IDS)
    assert (result.items_scored, result.model_version) == (None, None)


def test_request_on_the_wire() -> None:
    seen = []

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append((method, messages.PredictRequest.FromString(request), context.time_remaining()))
        return predict_answer(top_k=_IDS, scores=_SCORES)

    with scripted_server(handler) as target, NannClient(target, model="m", version="canary") as client:
        client.top_k(np.ones((1, 2, 3), np.float16), level_topn=[4, 2], timeout=20)
        client.top_k(np.ones((1, 2, 3), np.float32), level_topn=[4, 2], exclude_ids=[7, 8], version=3)
    (method, half, remaining), (_, single, default_remaining) = seen
    assert method == "Predict"
    assert 0 < default_remaining < 11 < remaining < 21
    assert (half.model_spec.name, half.model_spec.version_label) == ("m", "canary")
    assert half.model_spec.signature_name == "serving_default"
    assert sorted(half.inputs) == ["comm_seq", "level_topn"]
    assert half.inputs["comm_seq"].dtype == messages.DataType.HALF
    assert single.model_spec.version.value == 3
    assert single.model_spec.signature_name == "retrieve"
    assert sorted(single.inputs) == ["comm_seq", "exclude_ids", "level_topn"]
    assert [dim.size for dim in single.inputs["exclude_ids"].tensor_shape.dim] == [1, 2]


def test_a_state_by_name_is_sent_flat_and_in_the_model_s_types() -> None:
    seen = []
    types = messages.DataType
    inputs = {"taste": (types.FLOAT, [-1, 6]), "mood": (types.INT32, [-1, 1]), "age": (types.FLOAT, [-1, 1])}
    known = metadata_answer({"retrieve": inputs, "score": inputs})

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        if method == "GetModelMetadata":
            return known
        seen.append(messages.PredictRequest.FromString(request))
        return predict_answer(top_k=[_IDS[0]] * 2, scores=np.tile(_SCORES, (2, 1)))

    state = {"taste": np.ones((2, 2, 3)), "mood": [4, 5], "age": [30, 40]}
    with scripted_server(handler) as target, NannClient(target) as client:
        assert client.top_k(state, level_topn=[4, 2]).ids.shape == (2, 2)
        assert client.score(state, [1, 2]).shape == (2, 2)
        with pytest.raises(InvalidInputError, match="mood: expected int32, got values from 4 to 4294967296"):
            client.top_k({**state, "mood": [4, 2**32]}, level_topn=[4, 2])
        with pytest.raises(InvalidInputError, match="as many users"):
            client.top_k({**state, "mood": [4, 5, 6]}, level_topn=[4, 2])
    for request in seen:
        inputs = {name: tensors.decode(proto) for name, proto in request.inputs.items()}
        shapes = {name: (inputs[name].shape, inputs[name].dtype.name) for name in state}
        assert shapes == {"taste": ((2, 6), "float32"), "mood": ((2, 1), "int32"), "age": ((2, 1), "float32")}


def _abort(code: grpc.StatusCode) -> Handler:
    return lambda method, request, context: context.abort(code, "because")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, RequestRejectedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, NannClientError),
        (grpc.StatusCode.INTERNAL, NannClientError),
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
    ],
)
def test_status_codes(code: grpc.StatusCode, kind: type[NannClientError]) -> None:
    with scripted_server(_abort(code)) as target, pytest.raises(kind, match="because") as error:
        _top_k(target, model="m", retries=0)
    assert isinstance(error.value, NannError)
    assert (error.value.code, error.value.target) == (code.name, target)
    assert (error.value.model, error.value.details) == ("m", "because")


def test_unavailable_is_tried_again() -> None:
    calls = []

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        calls.append(method)
        if len(calls) < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return predict_answer(top_k=_IDS, scores=_SCORES)

    with scripted_server(handler) as target:
        np.testing.assert_array_equal(_top_k(target, retries=2).ids, _IDS)
    assert len(calls) == 3


def test_deadline() -> None:
    release = threading.Event()

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        release.wait(60)
        return b""

    with scripted_server(handler) as target, NannClient(target) as client:
        with pytest.raises(TimeoutError) as error:
            client.top_k(np.ones((1, 2, 3), np.float16), level_topn=[1], timeout=0.1)
        release.set()
    assert isinstance(error.value, DeadlineExceededError)
    assert error.value.code == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_deadline_after_a_stale_answer_is_staleness(asynchronous: bool) -> None:
    """Whichever ends the wait: the client's own clock, or a last request that is not answered in time."""
    release, answers = (
        threading.Event(),
        iter([predict_answer(top_k=_IDS, scores=_SCORES, applied_segment=[3])]),
    )

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        answer = next(answers, None)
        if answer is None:
            release.wait(60)
        return answer or b""

    state, options = np.ones((1, 2, 3), np.float32), {"level_topn": [4, 2], "min_segment": 4, "timeout": 2}

    async def ask(target: str) -> None:
        async with AsyncNannClient(target) as client:
            await client.top_k(state, **options)

    with scripted_server(handler) as target, NannClient(target) as client:
        with pytest.raises(StaleReplicaError, match="expected an answer that has segment 4, found 3"):
            asyncio.run(ask(target)) if asynchronous else client.top_k(state, **options)
        release.set()


def test_answer_over_the_limit_names_the_option() -> None:
    answer = predict_answer(top_k=np.zeros((1, 500), np.int64), scores=np.zeros((1, 500), np.float32))
    with (
        scripted_server(lambda method, request, context: answer) as target,
        pytest.raises(NannClientError, match="max_message_bytes"),
    ):
        _top_k(target, max_message_bytes=1000)


def test_wait_ready_times_out_where_nobody_listens() -> None:
    with (
        NannClient("localhost:1") as client,
        pytest.raises(DeadlineExceededError, match="is the server running"),
    ):
        client.wait_ready(timeout=0.2)


def test_closed_client_says_so_and_a_given_channel_stays_open() -> None:
    answer = predict_answer(top_k=_IDS, scores=_SCORES)
    with scripted_server(lambda method, request, context: answer) as target:
        client = NannClient(target)
        client.close()
        with pytest.raises(NannClientError, match="closed"):
            client.top_k(np.ones((1, 2, 3)), level_topn=[1])
        with grpc.insecure_channel(target) as channel:
            _top_k(target, channel=channel)
            _top_k(target, channel=channel, compression=grpc.Compression.Gzip)


def test_options_are_checked() -> None:
    for client in (NannClient, AsyncNannClient):
        with pytest.raises(InvalidInputError, match=r"target: expected an address .*got ''"):
            client("")
    with pytest.raises(InvalidInputError, match="retries"):
        NannClient("localhost:1", retries=9)
    with grpc.insecure_channel("localhost:1") as channel, pytest.raises(InvalidInputError, match="not both"):
        NannClient("localhost:1", channel=channel, credentials=grpc.local_channel_credentials())


def test_arguments_are_checked_before_a_call() -> None:
    """Nobody listens: a call would fail otherwise."""
    users = np.ones((2, 2, 3), np.float32)
    with NannClient("localhost:1") as client:
        with pytest.raises(InvalidInputError, match="serving_default"):
            client.top_k(users, level_topn=[1], exclude_ids=[1], signature="serving_default")
        with pytest.raises(InvalidInputError, match="one for each of 2 users, got 3"):
            client.top_k(users, level_topn=[[1]] * 3)
        with pytest.raises(InvalidInputError, match="at least one feature"):
            client.top_k_by_ids(level_topn=[1])
        with pytest.raises(InvalidInputError, match=r"at least one, got \{'a': 0\}"):
            client.top_k({"a": np.float32(1)}, level_topn=[1])
        with pytest.raises(InvalidInputError, match=r"at least one, got \{\}"):
            client.top_k({}, level_topn=[1])
        with pytest.raises(InvalidInputError, match="as many users"):
            client.top_k({"a": np.ones((1, 3)), "b": np.ones((2, 3))}, level_topn=[1])


def test_calls_of_this_machine_take_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy cannot reach the caller's own machine."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    answer = predict_answer(top_k=_IDS, scores=_SCORES)
    with scripted_server(lambda method, request, context: answer) as target:
        np.testing.assert_array_equal(_top_k(target, retries=0).ids, _IDS)
    with (
        pytest.raises(UnavailableError, match=r"through the proxy in \$grpc_proxy.*no_proxy"),
        NannClient("nann.example:8500", retries=0) as client,
    ):
        client.status(timeout=20)


def test_a_call_without_a_time_limit() -> None:
    answer = predict_answer(top_k=_IDS, scores=_SCORES)
    seen = []

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(context.time_remaining())
        return answer

    with scripted_server(handler) as target, NannClient(target, timeout=None) as client:
        client.top_k(np.ones((1, 2, 3), np.float32), level_topn=[4, 2])
        client.top_k(np.ones((1, 2, 3), np.float32), level_topn=[4, 2], timeout=9e9)
    assert min(seen) > 1e7


def test_an_answer_of_a_batch_is_cut_to_the_caller_s_k() -> None:
    wide = predict_answer(top_k=np.array([[1, 2, 9]]), scores=np.array([[2, 1, -np.inf]], np.float32))
    with scripted_server(lambda method, request, context: wide) as target:
        result = _top_k(target)
    np.testing.assert_array_equal(result.ids, _IDS)
    np.testing.assert_array_equal(result.scores, _SCORES)


def test_a_mapping_of_features_may_hold_any_name() -> None:
    seen = []

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        if method == "GetModelMetadata":
            response = messages.GetModelMetadataResponse()
            response.metadata["signature_def"].SetInParent()
            return bytes(response.SerializeToString())
        seen.append(sorted(messages.PredictRequest.FromString(request).inputs))
        return predict_answer(top_k=_IDS, scores=_SCORES)

    features = {"item_ids": [1], "cate_ids": [2], "timeout": [3], "version": [4]}
    with scripted_server(handler) as target, NannClient(target) as client:
        client.top_k_by_ids(features, level_topn=[4, 2])
    assert seen == [["cate_ids", "exclude_ids", "item_ids", "level_topn", "timeout", "version"]]
