"""Many users in several requests, and what a hook hears of calls."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import grpc
import numpy as np
import pytest

from nann.errors import InvalidInputError
from nann.serving.client import (
    AsyncNannClient,
    CallRecord,
    NannClient,
    RowsRejectedError,
    UnavailableError,
    in_batches,
)
from nann.serving.protocol import messages, tensors
from support.scripted_server import predict_answer, scripted_server

USERS = np.arange(10, dtype=np.float32)[:, np.newaxis] * np.ones(4, np.float32)


def _first_values(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answer each user with an item of the user's own first value; refuse the user 7."""
    if method == "GetModelMetadata":
        return bytes(messages.GetModelMetadataResponse(metadata={"signature_def": {}}).SerializeToString())
    inputs = messages.PredictRequest.FromString(request).inputs
    users = tensors.decode(inputs["comm_seq"])[:, 0]
    status = np.where(users == 7, 3, 0).astype(np.int32)
    ids = np.where(status[:, None] > 0, -1, users[:, None].astype(np.int64))
    return predict_answer(
        version=1, top_k=ids, scores=ids.astype(np.float32), items_scored=status, row_status=status
    )


def test_the_order_is_that_of_the_users() -> None:
    with scripted_server(_first_values) as target, NannClient(target) as client:
        found = in_batches(client.top_k, {"comm_seq": USERS[:7]}, batch_size=2, level_topn=[[4, 1]])
        assert found.ids.ravel().tolist() == list(range(7))
        assert found.items_scored is not None
        assert (len(found.items_scored), found.model_version) == (7, 1)


def test_refused_users_are_numbered_over_all() -> None:
    with (
        scripted_server(_first_values) as target,
        NannClient(target) as client,
        pytest.raises(RowsRejectedError, match="1 of 10 users were refused, the first is user 7") as caught,
    ):
        in_batches(client.top_k, {"comm_seq": USERS}, batch_size=3, level_topn=[[4, 1]])
    assert caught.value.rows == (7,)
    assert caught.value.result.ids.ravel().tolist() == [0, 1, 2, 3, 4, 5, 6, -1, 8, 9]


def test_requests_are_under_way_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=60)

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        together.wait()
        return _first_values(method, request, context)

    with scripted_server(handler) as target, NannClient(target, timeout=60) as client:
        in_batches(client.top_k, {"comm_seq": USERS[:6]}, batch_size=2, parallel=3, level_topn=[[4, 1]])


def test_a_failure_ends_the_rest() -> None:
    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(request)
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return b""

    seen: list[bytes] = []
    with (
        scripted_server(handler) as target,
        NannClient(target, retries=0) as client,
        pytest.raises(UnavailableError),
    ):
        in_batches(client.top_k, {"comm_seq": USERS}, batch_size=1, parallel=1, level_topn=[[4, 1]])
    assert len(seen) < len(USERS)


@pytest.mark.parametrize(
    ("users", "options"),
    [
        ({"a": [1], "b": [1, 2]}, {}),
        ({"a": []}, {}),
        ({"a": [1]}, {"batch_size": 0}),
        ({"a": [1]}, {"parallel": 0}),
    ],
)
def test_arguments_are_checked(users: Any, options: Any) -> None:
    with pytest.raises(InvalidInputError, match="in_batches: expected"):
        in_batches(lambda **_: pytest.fail("called"), users, **options)


def test_a_hook_hears_of_every_call() -> None:
    heard: list[CallRecord] = []

    def fail(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        return b""

    async def ask(target: str) -> None:
        async with AsyncNannClient(target, on_call=heard.append) as client:
            await client.top_k(USERS[:1, np.newaxis], [[4, 1]])

    with scripted_server(_first_values) as target, NannClient(target, on_call=heard.append) as client:
        client.top_k(USERS[:1, np.newaxis], [[4, 1]])
        asyncio.run(ask(target))
    with scripted_server(fail) as other, NannClient(other, on_call=heard.append) as client:
        with pytest.raises(LookupError):
            client.status()
        with pytest.raises(LookupError):
            client.wait_ready(timeout=30)
    assert [(call.method, call.code, call.model) for call in heard] == [
        ("Predict", "OK", "nann"),
        ("Predict", "OK", "nann"),
        ("GetModelStatus", "NOT_FOUND", "nann"),
        ("GetModelStatus", "NOT_FOUND", "nann"),
    ]
    assert [call.target for call in heard] == [target, target, other, other]
    assert all(0 < call.seconds < 60 for call in heard)


def test_a_hook_hears_of_a_call_whose_caller_left() -> None:
    heard: list[CallRecord] = []
    asked, left = threading.Event(), threading.Event()

    def wait(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        asked.set()
        left.wait(60)
        return b""

    async def leave(target: str) -> None:
        async with AsyncNannClient(target, on_call=heard.append) as client:
            call = asyncio.create_task(client.status(timeout=60))
            await asyncio.to_thread(asked.wait, 60)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    with scripted_server(wait) as target:
        asyncio.run(leave(target))
        left.set()
    assert [(call.method, call.code) for call in heard] == [("GetModelStatus", "CANCELLED")]


def test_a_hook_that_fails_fails_no_call(caplog: pytest.LogCaptureFixture) -> None:
    def hook(call: CallRecord) -> None:
        raise RuntimeError("the hook's own fault")

    with scripted_server(_first_values) as target, NannClient(target, on_call=hook) as client:
        assert client.top_k(USERS[:1, np.newaxis], [[4, 1]]).ids.shape == (1, 1)
    assert "the hook's own fault" in caplog.text


def test_a_channel_that_is_wrapped_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's instrumentation replaces `grpc.insecure_channel` by one with interceptors."""
    seen: list[str] = []

    class Trace(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        def intercept_unary_unary(self, call: Any, details: Any, request: Any) -> Any:
            seen.append(details.method)
            return call(details, request)

    opened = grpc.insecure_channel
    monkeypatch.setattr(
        grpc, "insecure_channel", lambda *args, **more: grpc.intercept_channel(opened(*args, **more), Trace())
    )
    with scripted_server(_first_values) as target, NannClient(target) as client:
        client.top_k(USERS[:1, np.newaxis], [[4, 1]])
    assert seen == ["/tensorflow.serving.PredictionService/Predict"]


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_keepalive_is_checked(seconds: float) -> None:
    with pytest.raises(InvalidInputError, match="keepalive_seconds: expected"):
        NannClient("localhost:1", keepalive_seconds=seconds)


def test_keepalive_notices_a_server_that_hangs_and_is_off_by_default() -> None:
    from nann.serving.client._channel import channel_options

    names = dict(channel_options("nann:8500", retries=2, max_message_bytes=1, keepalive_seconds=30))
    assert (names["grpc.keepalive_time_ms"], names["grpc.keepalive_permit_without_calls"]) == (30_000, 1)
    assert "grpc.keepalive_time_ms" not in dict(channel_options("nann:8500", retries=2, max_message_bytes=1))
