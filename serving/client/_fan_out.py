"""Several calls at the same time, each to one of several replicas, with hedging and failover."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from nann.serving.client._connection import Connection, PendingCall
from nann.serving.client._errors import NannClientError, RequestRejectedError, ResponseError

T = TypeVar("T")

# With fewer, the slowest answer would be the 95th percentile.
_LEAST_LATENCIES = 20
# Recent enough to follow a change of the load; ten answers lie beyond the percentile.
_MOST_LATENCIES = 200


class Latencies:
    """The latencies of the last answers. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: deque[float] = deque(maxlen=_MOST_LATENCIES)

    def add(self, seconds: float) -> None:
        with self._lock:
            self._seconds.append(seconds)

    def p95(self) -> float | None:
        """Return the time in seconds within which 95 % of the last 200 answers came; None before the 20th."""
        with self._lock:
            ordered = sorted(self._seconds)
        return ordered[len(ordered) * 95 // 100] if len(ordered) >= _LEAST_LATENCIES else None


@dataclass(frozen=True)
class _Attempt(Generic[T]):
    call: PendingCall[T]
    started: float


class Group(Generic[T]):
    """One request that any of several replicas may answer. For one `fan_out`, used by its thread only.

    The replicas are asked in the given order. The next one is asked at once when one fails, and after
    `hedge_after` seconds without an answer, the latter at most `hedges` times. The first answer counts and
    the other calls are cancelled. A request that one replica refuses is not sent to another.

    Args:
      start: starts the call to a replica. The call has a deadline of its own.
      hedge_after: None means never.
      latencies: receives the latency of the answer.
    """

    def __init__(
        self,
        replicas: Sequence[Connection],
        start: Callable[[Connection], PendingCall[T]],
        *,
        hedge_after: float | None = None,
        hedges: int = 1,
        latencies: Latencies | None = None,
    ) -> None:
        self.answer: T | None = None
        self.error: NannClientError | None = None
        self.hedge_at: float | None = None
        self._unasked = deque(replicas)
        self._start_call = start
        self._hedge_after = hedge_after
        self._hedges = hedges
        self._latencies = latencies
        self._pending: list[_Attempt[T]] = []

    @property
    def is_done(self) -> bool:
        """Whether there is an answer or an error."""
        return self.answer is not None or self.error is not None

    def start(self, ended: Callable[[_Attempt[T]], None]) -> None:
        """Ask the next replica. `ended` is called when the call ends, in a thread of gRPC."""
        attempt = _Attempt(self._start_call(self._unasked.popleft()), time.monotonic())
        self._pending.append(attempt)
        self.hedge_at = None
        if self._hedge_after is not None and self._hedges > 0 and self._unasked:
            self.hedge_at = attempt.started + self._hedge_after
        attempt.call.when_done(lambda: ended(attempt))

    def hedge(self, ended: Callable[[_Attempt[T]], None]) -> None:
        """Ask the next replica because no answer came in time."""
        self._hedges -= 1
        self.start(ended)

    def take(self, attempt: _Attempt[T], ended: Callable[[_Attempt[T]], None]) -> None:
        """Take the result of a call that ended."""
        if self.is_done:
            return
        self._pending.remove(attempt)
        try:
            self.answer = attempt.call.result()
        except NannClientError as error:
            self._take_error(error, ended)
        else:
            if self._latencies is not None:
                self._latencies.add(time.monotonic() - attempt.started)
            self.cancel()

    def cancel(self) -> None:
        """Cancel the calls that are under way."""
        for attempt in self._pending:
            attempt.call.cancel()

    def _take_error(self, error: NannClientError, ended: Callable[[_Attempt[T]], None]) -> None:
        if isinstance(error, RequestRejectedError | ResponseError):
            self.error = error
            self.cancel()
        elif self._unasked and error.code != "DEADLINE_EXCEEDED":
            self.start(ended)
        elif not self._pending:
            self.error = error


def fan_out(groups: Sequence[Group[T]], *, stop_at_failure: bool) -> None:
    """Run all groups at the same time until each one has an answer or an error.

    With `stop_at_failure` the first error ends the run. Groups that have not finished then have neither.
    """
    events: queue.SimpleQueue[tuple[Group[T], _Attempt[T]]] = queue.SimpleQueue()

    def reporting(group: Group[T]) -> Callable[[_Attempt[T]], None]:
        return lambda attempt: events.put((group, attempt))

    try:
        for group in groups:
            group.start(reporting(group))
        while waiting := [group for group in groups if not group.is_done]:
            due = min((group.hedge_at for group in waiting if group.hedge_at is not None), default=None)
            try:
                group, attempt = events.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
            except queue.Empty:
                for group in waiting:
                    if group.hedge_at is not None and group.hedge_at <= time.monotonic():
                        group.hedge(reporting(group))
                continue
            group.take(attempt, reporting(group))
            if stop_at_failure and group.error is not None:
                return
    finally:
        for group in groups:
            group.cancel()
