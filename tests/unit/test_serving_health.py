"""Health checking: what watchers are told, whoever leaves meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from nann.serving.server._grpc_extras import Health

_SECONDS = 60
_SERVING, _NOT_SERVING = 1, 2


class _Context:
    """The part of gRPC's context that a watch uses."""

    def __init__(self) -> None:
        self.leave: Callable[[], None] | None = None

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.leave = callback
        return True


def _watch(health: Health, context: _Context, send: Callable[[Any], None]) -> None:
    health._watch(SimpleNamespace(service=""), context, send)  # type: ignore[arg-type]


def test_a_watcher_may_leave_while_another_is_told() -> None:
    """gRPC tells of both in one thread: it would wait for ever if leaving had to wait for the message."""
    health, first = Health([]), _Context()
    _watch(health, first, lambda _: None)
    has_left = threading.Event()

    def send(_: Any) -> None:
        def leave() -> None:
            assert first.leave is not None
            first.leave()
            has_left.set()

        threading.Thread(target=leave, daemon=True).start()
        assert has_left.wait(_SECONDS)

    _watch(health, _Context(), send)


def test_watchers_are_told_of_the_end() -> None:
    health, told, ended = Health([]), [], threading.Event()

    def send(response: Any) -> None:
        told.append(response.status)
        if response.status == _NOT_SERVING:
            ended.set()

    _watch(health, _Context(), send)
    health.stop()
    assert ended.wait(_SECONDS)
    assert told == [_SERVING, _NOT_SERVING]
