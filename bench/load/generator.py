"""The load generator: threads of this process that send requests, and the record of the answers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nann.bench.load._histogram import Latencies
from nann.bench.load.schedule import Stage, intended_starts
from nann.bench.requests import Request
from nann.bench.targets import Answer, CallFailedError

# The status of a request that no caller was free for.
NOT_SENT = "NOT_SENT"


Call = Callable[[Request], Answer]


class Clock(Protocol):
    """The time source of a load; tests have their own."""

    def now(self) -> float:
        """Seconds since an arbitrary instant."""

    def sleep_until(self, instant: float) -> None:
        """Return at `instant`, or immediately when it has passed."""


class MonotonicClock:
    """The system's clock."""

    def now(self) -> float:
        return time.monotonic()

    def sleep_until(self, instant: float) -> None:
        remaining = instant - time.monotonic()
        if remaining > 0:
            time.sleep(remaining)


@dataclass
class Interval:
    """The requests that ended in one interval of a stage."""

    latencies: Latencies = field(default_factory=lambda: Latencies(digits=2))
    errors: int = 0


class Record:
    """The measurements of one stage. Thread-safe.

    Attributes:
      latencies: latencies of answered requests. In an open loop they start at the intended start, so that the
        time a request waited for a free caller counts (this avoids coordinated omission).
      service: latencies of the same requests from when they were sent.
      errors: status code -> count. NOT_SENT: the target could not take the load and the stage gave up; such
        requests count in `latencies` with the time that they had waited by then.
      intervals: number of the interval within the stage -> the requests that ended in it.
      seconds: time until the last answer, at least the stage's duration.
    """

    def __init__(self, interval_seconds: float) -> None:
        self.latencies = Latencies()
        self.service = Latencies()
        self.errors: Counter[str] = Counter()
        self.intervals: dict[int, Interval] = {}
        self.items_scored = 0
        self.answers_with_counts = 0
        self.client_seconds = 0.0
        self.seconds = 0.0
        self.generator_cpu_seconds = 0.0
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()

    def answered(self, answer: Answer, *, intended: float, sent: float, ended: float) -> None:
        """Count an answer; times are seconds since the beginning of the stage."""
        with self._lock:
            self.seconds = max(self.seconds, ended)
            self.latencies.record(ended - intended)
            self.service.record(ended - sent)
            self._interval(ended).latencies.record(ended - intended)
            self.client_seconds += answer.client_seconds
            if answer.items_scored is not None:
                self.items_scored += answer.items_scored
                self.answers_with_counts += 1

    def failed(self, code: str, *, ended: float) -> None:
        """Count an error."""
        with self._lock:
            self.seconds = max(self.seconds, ended)
            self.errors[code] += 1
            self._interval(ended).errors += 1

    def not_sent(self, *, intended: float, now: float) -> None:
        """Count a request that no caller was free for."""
        with self._lock:
            self.latencies.record(now - intended)
            self.errors[NOT_SENT] += 1

    def _interval(self, ended: float) -> Interval:
        return self.intervals.setdefault(int(ended / self._interval_seconds), Interval())

    def merge(self, other: dict[str, Any]) -> None:
        """Add the record that another process has packed."""
        self.latencies.merge(other["latencies"])
        self.service.merge(other["service"])
        self.errors.update(other["errors"])
        for number, (encoded, errors) in other["intervals"].items():
            interval = self.intervals.setdefault(number, Interval())
            interval.latencies.merge(encoded)
            interval.errors += errors
        self.seconds = max(self.seconds, other["seconds"])
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + other[name])

    def packed(self) -> dict[str, Any]:
        """The whole record in picklable form, for `merge`."""
        return {
            "latencies": self.latencies.encode(),
            "service": self.service.encode(),
            "errors": dict(self.errors),
            "intervals": {n: (i.latencies.encode(), i.errors) for n, i in self.intervals.items()},
            "seconds": self.seconds,
            **{name: getattr(self, name) for name in _SUMS},
        }


_SUMS = ("items_scored", "answers_with_counts", "client_seconds", "generator_cpu_seconds")


def run_load(
    call: Call, requests: Sequence[Request], stage: Stage, *, seed: int = 0, clock: Clock | None = None
) -> Record:
    """Put the load of `stage` on `call` from threads of this process, and return its record.

    `requests` are sent in turn, repeatedly. Every request that should start within the stage is sent or
    counted as NOT_SENT.
    """
    run = _Run(call, requests, stage, seed, clock or MonotonicClock())
    threads = [threading.Thread(target=run.caller, daemon=True) for _ in range(stage.callers)]
    cpu = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.record.seconds = max(run.record.seconds, stage.seconds)
    run.record.generator_cpu_seconds = time.process_time() - cpu
    if run.failure is not None:
        raise run.failure
    return run.record


class _Run:
    """The state that the callers of a stage share."""

    def __init__(
        self, call: Call, requests: Sequence[Request], stage: Stage, seed: int, clock: Clock
    ) -> None:
        self.record = Record(stage.interval_seconds)
        self.failure: BaseException | None = None
        self._call = call
        self._requests = requests
        self._stage = stage
        self._clock = clock
        self._starts: Iterator[float] | None = None
        if stage.qps is not None:
            self._starts = intended_starts(stage, seed=seed)
        self._next = seed
        self._lock = threading.Lock()
        self._began = clock.now()

    def caller(self) -> None:
        """Send until the stage is over."""
        try:
            while (turn := self._turn()) is not None:
                self._send(*turn)
        except BaseException as error:
            # The generator or the request is at fault, not the target: the stage measures nothing.
            self.failure = error

    def _turn(self) -> tuple[Request, float] | None:
        """The next request and its intended start; None when the stage is over."""
        with self._lock:
            if self.failure is not None:
                return None
            now = self._clock.now() - self._began
            if self._starts is None:
                intended: float | None = now if now < self._stage.seconds else None
            else:
                intended = next(self._starts, None)
            if intended is None:
                return None
            self._next += 1
            return self._requests[self._next % len(self._requests)], intended

    def _send(self, request: Request, intended: float) -> None:
        self._clock.sleep_until(self._began + intended)
        sent = self._clock.now() - self._began
        if sent > self._stage.seconds + self._stage.give_up_seconds:
            self.record.not_sent(intended=intended, now=sent)
            return
        try:
            answer = self._call(request)
        except CallFailedError as error:
            self.record.failed(str(error), ended=self._clock.now() - self._began)
        else:
            ended = self._clock.now() - self._began
            self.record.answered(answer, intended=intended, sent=sent, ended=ended)
