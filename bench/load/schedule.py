"""Levels of load, and when their requests should start."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nann.errors import InvalidInputError

Arrivals = Literal["poisson", "constant"]


@dataclass(frozen=True)
class Stage:
    """One level of load, for `seconds`.

    Attributes:
      callers: number of concurrent requests: exact in a closed loop, the maximum in an open loop.
      qps: requests per second of an open loop. None: a closed loop, in which every caller sends its next
        request when the last one is answered.
      arrivals: arrivals of an open loop: "poisson" (independent users) or "constant" (every 1 / qps seconds).
      interval_seconds: resolution of the record over time.
      give_up_seconds: how long after the end of the stage delayed requests are still sent.
    """

    callers: int
    seconds: float
    qps: float | None = None
    arrivals: Arrivals = "poisson"
    interval_seconds: float = 1.0
    give_up_seconds: float = 30.0

    def check(self) -> None:
        """Raise InvalidInputError when a value is out of range."""
        if self.callers < 1 or self.seconds <= 0 or (self.qps is not None and self.qps <= 0):
            raise InvalidInputError(
                f"load: expected at least 1 caller, and seconds and qps above 0, found {self.callers}, "
                f"{self.seconds} and {self.qps}. Correct them."
            )

    def share(self, parts: int, part: int) -> Stage:
        """The load of generator process `part` of `parts`; all of them together are this load."""
        callers = self.callers // parts + (part < self.callers % parts)
        qps = None if self.qps is None else self.qps / parts
        return Stage(callers, self.seconds, qps, self.arrivals, self.interval_seconds, self.give_up_seconds)


def intended_starts(stage: Stage, *, seed: int) -> Iterator[float]:
    """Seconds since the beginning of an open-loop stage at which requests should start.

    They do not depend on the answers: a slow server does not slow its users down.
    """
    assert stage.qps is not None
    if stage.arrivals == "constant":
        yield from (number / stage.qps for number in range(math.ceil(stage.seconds * stage.qps)))
        return
    generator = np.random.default_rng(seed)
    at = generator.exponential(1 / stage.qps)
    while at < stage.seconds:
        yield at
        at += generator.exponential(1 / stage.qps)
