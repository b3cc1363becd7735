"""Timing of several candidates in the same rounds, and ratios with confidence intervals."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]
Measure = Callable[[], float]
Argument = TypeVar("Argument")


class Ratio(NamedTuple):
    """A ratio of medians and its 95 % interval."""

    value: float
    low: float
    high: float


def timed(work: Callable[[], object]) -> Measure:
    """A measure that returns the seconds that `work` takes."""

    def measure() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return measure


def timed_each(call: Callable[[Argument], object], arguments: Sequence[Argument]) -> Measure:
    """A measure that returns the seconds for calling `call` with each of `arguments` in turn."""

    def call_all() -> None:
        for argument in arguments:
            call(argument)

    return timed(call_all)


def interleaved(
    measures: Mapping[str, Measure],
    rounds: int,
    *,
    seed: int = 0,
    on_round: Callable[[int], None] | None = None,
) -> dict[str, Seconds]:
    """Run every measure once per round, in a new random order each round; seconds [rounds] by name.

    Whatever slows the machine for a while then slows all of them. The first round warms up and is dropped.
    """
    generator = np.random.default_rng(seed)
    names = list(measures)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for done in range(-1, rounds):
        for index in generator.permutation(len(names)):
            measured = measures[names[index]]()
            if done >= 0:
                seconds[names[index]].append(measured)
        if on_round is not None:
            on_round(done + 1)
    return {name: np.array(values) for name, values in seconds.items()}


def ratio_of_medians(
    numerator: npt.ArrayLike, denominator: npt.ArrayLike, *, seed: int = 0, resamples: int = 10_000
) -> Ratio:
    """median(numerator) / median(denominator) of the same rounds, with its percentile bootstrap interval.

    Rounds are drawn with replacement, and both values of a round are taken together: what slowed the round
    slowed both.
    """
    pairs = np.stack([np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)])
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, pairs.shape[1], (resamples, pairs.shape[1]))
    medians = np.median(pairs[:, drawn], axis=2)
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    value = np.median(pairs[0]) / np.median(pairs[1])
    return Ratio(float(value), float(low), float(high))
