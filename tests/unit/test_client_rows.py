"""Users of one request of whom the server refused some."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from nann.serving.client import (
    AsyncNannClient,
    NannClient,
    RequestRejectedError,
    ResponseError,
    RowsRejectedError,
    ShardedClient,
)
from support.scripted_server import predict_answer, scripted_server

USERS = np.ones((2, 6), np.float32)
BEAMS = np.array([[4, 2], [0, 3]])


def _answer(status: Any, width: int = 3, first_id: int = 1, **outputs: Any) -> bytes:
    ids = np.full((2, width), -1, np.int64)
    scores = np.full((2, width), -np.inf, np.float32)
    ids[0, :2], scores[0, :2] = [first_id, first_id + 1], [2, 1]
    return predict_answer(top_k=ids, scores=scores, row_status=np.array(status, np.int32), **outputs)


@pytest.mark.parametrize("width", [2, 3, 9], ids=["narrower", "own", "wider"])
def test_the_error_names_the_users_and_has_the_answer_of_the_others(width: int) -> None:
    with (
        scripted_server(lambda method, request, context: _answer([0, 3], width)) as target,
        NannClient(target) as client,
        pytest.raises(RowsRejectedError) as caught,
    ):
        client.top_k({"comm_seq": USERS}, BEAMS)
    error = caught.value
    assert (error.code, error.rows, error.target) == ("INVALID_ARGUMENT", (1,), target)
    assert error.details == "row 1: level_topn[0]: expected 1 to 65536, found 0"
    assert isinstance(error, RequestRejectedError)
    np.testing.assert_array_equal(error.result.ids, [[1, 2, -1], [-1, -1, -1]])
    assert error.result.scores.shape == (2, 3)


@pytest.mark.parametrize(
    ("status", "beams", "code", "details"),
    [
        (
            [3, 3],
            [[4, 2], [4, 3]],
            "INVALID_ARGUMENT",
            "row 0: the model does not accept .*and 1 more",
        ),
        (
            [0, 8],
            [[4, 2], [4, 3]],
            "RESOURCE_EXHAUSTED",
            "row 1: its beams take too large a share",
        ),
    ],
)
def test_reasons(status: list[int], beams: Any, code: str, details: str) -> None:
    with (
        scripted_server(lambda method, request, context: _answer(status)) as target,
        NannClient(target) as client,
        pytest.raises(RowsRejectedError, match=details) as caught,
    ):
        client.top_k({"comm_seq": USERS}, np.array(beams))
    assert caught.value.code == code


def test_an_accepted_row_must_have_its_results() -> None:
    answer = _answer([0, 0], width=2)
    with (
        scripted_server(lambda method, request, context: answer) as target,
        NannClient(target) as client,
        pytest.raises(ResponseError, match=r"'top_k' is int64 \[2, 2\], expected int64 \[2, 3\]"),
    ):
        client.top_k({"comm_seq": USERS}, BEAMS)


def test_the_asynchronous_client_and_the_client_of_shards_say_the_same() -> None:
    import asyncio

    async def ask(target: str) -> None:
        async with AsyncNannClient(target) as client:
            await client.top_k({"comm_seq": USERS}, BEAMS)

    def second(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        return _answer([0, 0], first_id=11)

    with scripted_server(lambda method, request, context: _answer([0, 3])) as target:
        with pytest.raises(RowsRejectedError, match="row 1: level_topn"):
            asyncio.run(ask(target))
        with (
            scripted_server(second) as other,
            ShardedClient([other, target]) as sharded,
            pytest.raises(RowsRejectedError, match="row 1: level_topn") as caught,
        ):
            sharded.top_k({"comm_seq": USERS}, BEAMS)
    assert caught.value.result.ids[0].tolist() == [1, 11, -1]
