"""The asyncio client against servers in this process."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np
import pytest

from nann.serving.client import (
    AsyncNannClient,
    DeadlineExceededError,
    ModelNotFoundError,
    NannClient,
    NannClientError,
    RequestRejectedError,
    ResponseError,
    UnavailableError,
)
from nann.serving.protocol import messages
from support.scripted_server import Handler, metadata_answer, predict_answer, scripted_server

_IDS, _SCORES = np.array([[1, 2]]), np.array([[2, 1]], np.float32)
_ANSWER = predict_answer(top_k=_IDS, scores=_SCORES, version=7)
_USER = np.ones((1, 2, 3), np.float32)


def _ask(handler: Handler, ask: Callable[[AsyncNannClient], Awaitable[Any]], **options: Any) -> Any:
    async def run(target: str) -> Any:
        async with AsyncNannClient(target, **options) as client:
            return await ask(client)

    with scripted_server(handler) as target:
        return asyncio.run(run(target))


def _search(client: AsyncNannClient) -> Awaitable[Any]:
    return client.top_k(_USER, level_topn=[4, 2], timeout=20)


def test_it_has_the_methods_of_the_other_client_with_the_same_arguments() -> None:
    for name, method in inspect.getmembers(NannClient, inspect.isfunction):
        if not name.startswith("_"):
            expected = set(inspect.signature(method).parameters) - {"allow_partial"}
            assert set(inspect.signature(getattr(AsyncNannClient, name)).parameters) == expected, name
    expected = set(inspect.signature(NannClient).parameters)
    assert set(inspect.signature(AsyncNannClient).parameters) == expected


def test_a_search() -> None:
    result = _ask(lambda method, request, context: _ANSWER, _search)
    np.testing.assert_array_equal(result.ids, _IDS)
    np.testing.assert_array_equal(result.scores, _SCORES)
    assert result.model_version == 7


def test_many_calls_run_at_once() -> None:
    """The server answers none before all have come."""
    barrier = threading.Barrier(8)

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        barrier.wait(30)
        return _ANSWER

    async def ask(client: AsyncNannClient) -> Any:
        return await asyncio.gather(*(_search(client) for _ in range(8)))

    assert len(_ask(handler, ask)) == 8


_METADATA = metadata_answer({"retrieve_by_ids": {"item_ids": (messages.DataType.INT64, (-1, 3))}})


def test_the_signatures_are_fetched_once_and_again_after_a_rejection() -> None:
    seen = []

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(method)
        if method == "GetModelMetadata":
            return _METADATA
        item_ids = messages.PredictRequest.FromString(request).inputs["item_ids"]
        assert [dim.size for dim in item_ids.tensor_shape.dim] == [1, 3]
        if seen.count("Predict") == 2:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "another model has come")
        return _ANSWER

    async def ask(client: AsyncNannClient) -> None:
        await client.top_k_by_ids([5], level_topn=[4, 2])
        with pytest.raises(RequestRejectedError):
            await client.top_k_by_ids([5], level_topn=[4, 2])
        await client.top_k_by_ids([5], level_topn=[4, 2])

    _ask(handler, ask)
    assert seen == ["GetModelMetadata", "Predict", "Predict", "GetModelMetadata", "Predict"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, ModelNotFoundError),
        (grpc.StatusCode.INVALID_ARGUMENT, RequestRejectedError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceededError),
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.INTERNAL, NannClientError),
    ],
)
def test_errors_carry_code_and_text(code: grpc.StatusCode, kind: type[NannClientError]) -> None:
    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(code, "the server's text")

    with pytest.raises(kind, match="the server's text") as error:
        _ask(handler, _search, retries=0)
    assert (error.value.code, error.value.details) == (code.name, "the server's text")


def test_unusable_answers_and_closed_clients() -> None:
    with pytest.raises(ResponseError, match="no output 'top_k'"):
        _ask(lambda method, request, context: b"", _search)

    async def after_close(client: AsyncNannClient) -> None:
        await client.close()
        await _search(client)

    with pytest.raises(NannClientError) as error:
        _ask(lambda method, request, context: _ANSWER, after_close)
    assert error.value.code == "CANCELLED"


def test_only_unavailable_is_sent_again() -> None:
    for code, calls in ((grpc.StatusCode.UNAVAILABLE, 3), (grpc.StatusCode.RESOURCE_EXHAUSTED, 1)):
        seen = []

        def handler(
            method: str,
            request: bytes,
            context: grpc.ServicerContext,
            code: grpc.StatusCode = code,
            seen: list[str] = seen,
        ) -> bytes:
            seen.append(method)
            context.abort(code, "busy")

        with pytest.raises(NannClientError):
            _ask(handler, _search, retries=2)
        assert len(seen) == calls


def test_retries_have_a_budget() -> None:
    seen = []

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(method)
        context.abort(grpc.StatusCode.UNAVAILABLE, "down")

    async def ask(client: AsyncNannClient) -> None:
        for _ in range(30):
            with pytest.raises(UnavailableError):
                await _search(client)

    _ask(handler, ask, retries=1)
    # Ten failures use the budget up; from then on each call is sent once.
    assert len(seen) < 30 + 12


def test_wait_ready_without_an_available_version() -> None:
    response = messages.GetModelStatusResponse()
    response.model_version_status.add(version=3, state=messages.VersionState.LOADING)
    with pytest.raises(ModelNotFoundError, match="3 is LOADING"):
        _ask(
            lambda method, request, context: response.SerializeToString(),
            lambda client: client.wait_ready(20),
        )

    async def nobody() -> None:
        async with AsyncNannClient("localhost:1") as client:
            await client.wait_ready(0.2)

    with pytest.raises(DeadlineExceededError, match="did not answer"):
        asyncio.run(nobody())
