"""The load generator: schedules, coordinated omission, what is counted."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading

import numpy as np
import pytest

from nann.bench.load._histogram import Latencies
from nann.bench.load.generator import NOT_SENT, Record, run_load
from nann.bench.load.schedule import Stage, intended_starts
from nann.bench.requests import Request
from nann.bench.targets import Answer, CallFailedError
from nann.errors import InvalidInputError

REQUESTS = [Request("retrieve", {"number": np.array([number])}) for number in range(3)]


class FakeClock:
    """Time that passes only where somebody waits; for one caller."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def sleep_until(self, instant: float) -> None:
        self.time = max(self.time, instant)


def test_constant_arrivals_are_evenly_spaced_and_end_with_the_stage() -> None:
    starts = list(intended_starts(Stage(1, 1.0, 10.0, "constant"), seed=0))
    np.testing.assert_allclose(starts, np.arange(10) / 10)


def test_poisson_arrivals_have_the_rate_and_the_spread_of_independent_users() -> None:
    stage = Stage(1, 1000.0, 20.0, "poisson")
    starts = np.array(list(intended_starts(stage, seed=1)))
    gaps = np.diff(starts)
    assert len(starts) == pytest.approx(20_000, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 20, rel=0.05)  # of an exponential distribution: the mean
    assert starts[-1] < 1000.0
    assert starts.tolist() == list(intended_starts(stage, seed=1))
    assert starts.tolist() != list(intended_starts(stage, seed=2))


@pytest.mark.parametrize("qps", [None, 30.0])
def test_shares_of_a_stage_make_the_whole(qps: float | None) -> None:
    stage = Stage(7, 2.0, qps, "constant", 0.2, 5.0)
    shares = [stage.share(3, part) for part in range(3)]
    assert sum(share.callers for share in shares) == 7
    assert qps is None or sum(share.qps or 0 for share in shares) == pytest.approx(qps)
    for share in shares:
        assert (share.seconds, share.arrivals, share.interval_seconds) == (2.0, "constant", 0.2)
        assert share.give_up_seconds == 5.0


@pytest.mark.parametrize("stage", [Stage(0, 1.0), Stage(1, 0.0), Stage(1, 1.0, 0.0)])
def test_impossible_stages_are_refused(stage: Stage) -> None:
    with pytest.raises(InvalidInputError, match="load: expected"):
        stage.check()


def test_a_stall_counts_for_every_request_that_was_to_start_during_it() -> None:
    """A server that stops for a second: in an open loop at 10/s ten requests feel it, not one."""
    clock = FakeClock()

    def stalls_once(request: Request) -> Answer:
        clock.time += 1.0 if not answered else 0.001
        answered.append(request)
        return Answer(None, 0.0)

    answered: list[Request] = []
    record = run_load(stalls_once, REQUESTS, Stage(1, 2.0, 10.0, "constant"), clock=clock)
    assert record.latencies.count == 20
    # Meant for 0.0, 0.1, 0.2, ..., sent one after the other from 1.0 on: 1.0, 0.901, 0.802, ... waited.
    assert record.latencies.milliseconds(100) == pytest.approx(1000, rel=0.01)
    assert record.latencies.milliseconds(75) == pytest.approx(505, rel=0.01)
    # Measured from when they were sent, the stall would be one slow request of twenty.
    assert record.service.milliseconds(50) == pytest.approx(1, rel=0.01)
    assert record.service.milliseconds(90) == pytest.approx(1, rel=0.01)


def test_a_stall_in_a_closed_loop_is_one_slow_request() -> None:
    clock = FakeClock()

    def stalls_once(request: Request) -> Answer:
        clock.time += 1.0 if not answered else 0.125
        answered.append(request)
        return Answer(10, 0.0)

    answered: list[Request] = []
    record = run_load(stalls_once, REQUESTS, Stage(1, 2.0), clock=clock)
    assert record.latencies.count == 9
    assert record.latencies.milliseconds(50) == pytest.approx(125, rel=0.01)
    assert record.items_scored == 90
    assert record.seconds == pytest.approx(2.0)
    assert sorted(record.intervals) == [1, 2]  # by when they ended
    assert [int(r.inputs["number"][0]) for r in answered[:4]] == [1, 2, 0, 1]  # in turn, over and over


def test_requests_beyond_what_the_target_can_take_count_as_late_as_they_were() -> None:
    clock = FakeClock()

    def slow(request: Request) -> Answer:
        clock.time += 1.0
        return Answer(None, 0.0)

    record = run_load(slow, REQUESTS, Stage(1, 2.0, 10.0, "constant", give_up_seconds=1.0), clock=clock)
    sent = record.service.count
    assert record.errors == {NOT_SENT: 20 - sent}
    assert 3 <= sent <= 4
    assert record.latencies.count == 20
    assert record.latencies.milliseconds(50) > 2000


def test_errors_are_counted_by_code_and_are_no_latencies() -> None:
    clock = FakeClock()

    def every_second_fails(request: Request) -> Answer:
        clock.time += 0.125
        if next(turn) % 2:
            raise CallFailedError("UNAVAILABLE")
        return Answer(None, 0.0)

    turn = itertools.count()
    record = run_load(every_second_fails, REQUESTS, Stage(1, 1.0), clock=clock)
    assert record.errors == {"UNAVAILABLE": 4}
    assert record.latencies.count == 4
    assert sum(interval.errors for interval in record.intervals.values()) == 4


def test_a_fault_of_the_generator_is_raised_not_counted() -> None:
    def broken(request: Request) -> Answer:
        raise KeyError("comm_seq")

    with pytest.raises(KeyError, match="comm_seq"):
        run_load(broken, REQUESTS, Stage(4, 10.0))


def test_as_many_callers_as_asked_for_are_under_way_at_once() -> None:
    clock = FakeClock()

    def end_of_stage() -> None:
        clock.time += 1.0

    all_there = threading.Barrier(5, end_of_stage)

    def waits_for_the_others(request: Request) -> Answer:
        all_there.wait(60)  # Fails unless five calls are under way.
        return Answer(None, 0.0)

    record = run_load(waits_for_the_others, REQUESTS, Stage(5, 1.0), clock=clock)
    assert record.latencies.count == 5


def test_histograms_of_several_processes_merge_to_that_of_all() -> None:
    random = np.random.default_rng(0).exponential(0.01, 3000)
    whole, parts = Record(0.5), [Record(0.5) for _ in range(3)]
    for number, latency in enumerate(random):
        for record in (whole, parts[number % 3]):
            answer = Answer(7, 0.001)
            record.answered(answer, intended=number / 1000, sent=number / 1000, ended=number / 1000 + latency)
    for number, part in enumerate(parts):
        part.failed("UNAVAILABLE", ended=0.1)
        part.seconds = float(number)
    merged = Record(0.5)
    for part in parts:
        merged.merge(part.packed())
    assert merged.latencies.summary() == whole.latencies.summary()
    assert merged.service.encode() == whole.service.encode()
    assert merged.items_scored == 21_000
    assert merged.client_seconds == pytest.approx(3.0)
    assert merged.errors == {"UNAVAILABLE": 3}
    assert merged.intervals[0].errors == 3
    for number, interval in whole.intervals.items():
        assert merged.intervals[number].latencies.encode() == interval.latencies.encode()


def test_a_generator_process_imports_no_tensorflow() -> None:
    heavy = "('tensorflow', 'faiss', 'matplotlib')"
    code = f"import sys, nann.bench.load._processes; print([m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_a_histogram_keeps_three_digits() -> None:
    latencies = Latencies()
    values = np.random.default_rng(0).lognormal(-5, 1, 10_000)
    for value in values:
        latencies.record(value)
    for percentile in (50, 90, 99):
        exact = np.percentile(values, percentile, method="inverted_cdf") * 1e3
        assert latencies.milliseconds(percentile) == pytest.approx(exact, rel=2e-3)
    summary = latencies.summary()
    assert (summary["count"], summary["p99_ms"]) == (10_000, latencies.milliseconds(99))


def test_no_latency_and_an_endless_one() -> None:
    latencies = Latencies()
    assert latencies.summary()["p99_ms"] == 0.0
    latencies.record(1e6)
    assert latencies.milliseconds(50) == pytest.approx(3.6e6, rel=1e-3)
