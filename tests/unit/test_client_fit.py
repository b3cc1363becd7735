"""What the client knows of a model's signatures: what does not fit them is named, and not sent."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import numpy as np
import pytest

from nann.errors import InvalidInputError
from nann.serving.client import AsyncNannClient, NannClient
from nann.serving.protocol import messages
from support.scripted_server import metadata_answer, predict_answer, scripted_server

_IDS = np.array([[7, 3]])
_SCORES = np.array([[2.0, 1.0]], np.float32)
_WIDTHS = {
    name: {"comm_seq": (messages.DataType.FLOAT, [-1, 6])}
    for name in ("retrieve", "retrieve_by_ids", "score")
}
_WIDE, _NARROW = np.ones((1, 2, 3), np.float32), np.ones((1, 2, 2), np.float32)
_BEAMS = {"level_topn": [4, 2]}
_MISFITS: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("top_k", (_NARROW,), _BEAMS, r"comm_seq: expected shape \[-1, 6\], got \[1, 4\]"),
    ("top_k", (np.ones(4, np.float32),), _BEAMS, r"comm_seq: expected shape \[-1, 6\], got \[1, 4\]"),
    ("top_k", ({"comm_seq": _NARROW},), _BEAMS, r"comm_seq: expected shape \[-1, 6\], got \[1, 4\]"),
    ("top_k", ({"comm_seq": np.ones(4)},), _BEAMS, r"comm_seq: expected shape \[-1, 6\], got \[1, 4\]"),
    ("top_k", ({"comm_seq": _WIDE, "mood": [[1.0]]},), _BEAMS, "mood: expected an input of the signature"),
    (
        "top_k",
        ({"mood": [[1.0]]},),
        _BEAMS,
        r"comm_seq: expected values, got none; retrieve takes \['comm_seq",
    ),
    ("top_k", (_WIDE,), {**_BEAMS, "signature": "nope"}, "signature: expected one of the model's .*'nope'"),
    ("top_k_by_ids", ([1], [2]), _BEAMS, "comm_seq: expected values, got none; retrieve_by_ids takes"),
    ("score", (_NARROW, [1]), {}, r"comm_seq: expected shape \[-1, 6\], got \[1, 4\]"),
    ("score", (_WIDE, [[[1]]]), {}, r"item_ids: expected shape \[-1, -1\], got \[1, 1, 1\]"),
]


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("method", "arguments", "options", "message"), _MISFITS)
def test_what_does_not_fit_the_known_signatures_is_not_sent(
    method: str, arguments: tuple[Any, ...], options: dict[str, Any], message: str, asynchronous: bool
) -> None:
    seen = []

    def handler(name: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(name)
        return metadata_answer(_WIDTHS) if name == "GetModelMetadata" else predict_answer()

    async def ask_asynchronously(target: str) -> None:
        async with AsyncNannClient(target) as client:
            await client.metadata()
            await getattr(client, method)(*arguments, **options)

    def ask(target: str) -> None:
        with NannClient(target) as client:
            client.metadata()
            getattr(client, method)(*arguments, **options)

    with scripted_server(handler) as target, pytest.raises(InvalidInputError, match=message):
        asyncio.run(ask_asynchronously(target)) if asynchronous else ask(target)
    assert set(seen) == {"GetModelMetadata"}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("shape", [(1, 4), (1, 2, 2)])
def test_a_model_of_another_shape_may_come(shape: tuple[int, ...], asynchronous: bool) -> None:
    width = 6

    def handler(name: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        if name == "GetModelMetadata":
            return metadata_answer({"retrieve": {"comm_seq": (messages.DataType.FLOAT, [-1, width])}})
        return predict_answer(top_k=_IDS, scores=_SCORES)

    async def ask(target: str) -> Any:
        nonlocal width
        async with AsyncNannClient(target) as client:
            await client.metadata()
            width = 4
            return await client.top_k(np.ones(shape, np.float32), level_topn=[4, 2])

    with scripted_server(handler) as target:
        if asynchronous:
            found = asyncio.run(ask(target))
        else:
            with NannClient(target) as client:
                client.metadata()
                width = 4
                found = client.top_k(np.ones(shape, np.float32), level_topn=[4, 2])
    np.testing.assert_array_equal(found.ids, _IDS)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"comm_seq": [[1.0], [1.0, 2.0]]}, "comm_seq: expected rows of equal length"),
        ({"level_topn": [[1, 2], [1]]}, "level_topn: expected rows of equal length"),
        ({"where": 5}, "where: expected a filter"),
        ({"where": "\ud800"}, "where: expected a filter"),
    ],
)
def test_values_that_are_no_array_are_named(inputs: dict[str, Any], message: str) -> None:
    given = {"comm_seq": _WIDE, "level_topn": [4, 2], **inputs}
    metadata = metadata_answer({"retrieve_where": {"filter": (messages.DataType.STRING, [-1])}})
    with scripted_server(lambda *_: metadata) as target, NannClient(target) as client:
        with pytest.raises(InvalidInputError, match=message):
            client.top_k(**given)
        if "comm_seq" in inputs:
            with pytest.raises(InvalidInputError, match=message):
                client.predict(inputs)


@pytest.mark.parametrize("version", [-1, 2**63, 1.5, True])
def test_a_version_that_no_server_has_is_refused(version: Any) -> None:
    with (
        NannClient("localhost:1") as client,
        pytest.raises(InvalidInputError, match="version: expected a number"),
    ):
        client.top_k(_WIDE, **_BEAMS, version=version)


def test_outputs_are_a_list_of_names() -> None:
    with (
        NannClient("localhost:1") as client,
        pytest.raises(InvalidInputError, match=r"write \['scores'\]"),
    ):
        client.predict({"comm_seq": _WIDE}, outputs="scores")
