"""Servers of shards in this process that fail, hang and differ as a test says, and a client of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np

from nann.serving.client import ShardedClient
from nann.serving.protocol import messages
from support.scripted_server import metadata_answer, predict_answer, scripted_server

USER = np.ones((1, 2, 3), np.float32)
BEAMS = [4, 2]
SECONDS = 60


class Server:
    """A server of some items: `scores` by id, best first. Which versions it has may change."""

    target: str

    def __init__(self, scores: dict[int, float], versions: tuple[int, ...] = (1,)) -> None:
        self.scores = scores
        self.versions = versions
        self.requests: list[Any] = []
        self.asked: list[int | str | None] = []
        self.remaining: list[float] = []
        self.described = 0
        self.fails: grpc.StatusCode | None = None
        self.waits_for = threading.Event()
        self.waits_for.set()
        self.hangs = False
        self.called = threading.Event()
        self.cancelled = threading.Event()
        self.release = threading.Event()

    def __call__(self, method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.remaining.append(context.time_remaining())
        if self.hangs:
            context.add_callback(self.cancelled.set)
        self.called.set()
        if self.hangs:
            self.release.wait(SECONDS)
        self.waits_for.wait(SECONDS)
        if self.fails is not None:
            context.abort(self.fails, "because")
        if method == "GetModelMetadata":
            self.described += 1
            return _METADATA
        if method == "GetModelStatus":
            response = messages.GetModelStatusResponse()
            for version in self.versions:
                response.model_version_status.add(version=version, state=messages.VersionState.AVAILABLE)
            return bytes(response.SerializeToString())
        assert method == "Predict"
        return self._predict(messages.PredictRequest.FromString(request), context)

    def _predict(self, request: Any, context: grpc.ServicerContext) -> bytes:
        self.requests.append(request)
        spec = request.model_spec
        wanted = spec.version.value if spec.HasField("version") else None
        self.asked.append(wanted if wanted is not None else spec.version_label or None)
        version = max(self.versions) if wanted is None else wanted
        if version not in self.versions:
            context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found")
        if spec.signature_name == "score":
            return predict_answer(version=version, scores=[list(self.scores.values())])
        padded = [*self.scores.items(), *[(-1, -np.inf)] * 2][:2]
        return predict_answer(
            version=version,
            top_k=[[item for item, _ in padded]],
            scores=np.array([[score for _, score in padded]], np.float32),
            items_scored=np.array([len(self.scores)], np.int32),
        )


# `retrieve` takes comm_seq [B, 6]; its type, which none of the tests asks for, is left out.
_METADATA = metadata_answer({"retrieve": {"comm_seq": (0, (-1, USER.size))}})


@contextlib.contextmanager
def starting_servers() -> Iterator[Callable[..., Server]]:
    """Yields what starts a `Server`; all are released and stopped at the end."""
    with contextlib.ExitStack() as stack:

        def start(*args: Any, **options: Any) -> Server:
            server = Server(*args, **options)
            server.target = stack.enter_context(scripted_server(server))
            stack.callback(server.release.set)
            return server

        yield start


def client_of(*shards: Any, **options: Any) -> ShardedClient:
    targets = [s.target if isinstance(s, Server) else [replica.target for replica in s] for s in shards]
    return ShardedClient(targets, **{"timeout": SECONDS, "retries": 0, **options})


def top_k(client: ShardedClient, **options: Any) -> Any:
    return client.top_k(USER, BEAMS, **options)
