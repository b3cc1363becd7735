"""Interleaved rounds, ratios with intervals, and the search for the least effort."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nann.bench.peers.rounds import compared_graphs, effort_grid, least_effort
from nann.bench.statistics import interleaved, ratio_of_medians


def test_every_candidate_is_measured_once_a_round_in_changing_order() -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return float(len(order))

    seconds = interleaved({name: lambda name=name: measure(name) for name in "abc"}, 20)
    assert {name: values.shape for name, values in seconds.items()} == dict.fromkeys("abc", (20,))
    rounds = ["".join(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert len(rounds) == 21
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 3
    # The first round is not kept.
    assert min(values.min() for values in seconds.values()) == 4.0


def test_the_ratio_is_of_medians_and_its_interval_holds_it() -> None:
    random = np.random.default_rng(0)
    slow, fast = 4.0 * random.lognormal(0, 0.1, 31), random.lognormal(0, 0.1, 31)
    ratio = ratio_of_medians(slow, fast)
    assert ratio.value == pytest.approx(np.median(slow) / np.median(fast))
    assert ratio.low < ratio.value < ratio.high
    assert ratio.low > 3.0
    assert ratio.high < 5.0
    assert ratio_of_medians(slow, fast) == ratio


def test_what_slows_both_sides_of_a_round_does_not_widen_the_interval() -> None:
    speed_of_the_machine = np.random.default_rng(0).lognormal(0, 1.0, 31)
    together = ratio_of_medians(2.0 * speed_of_the_machine, speed_of_the_machine)
    apart = ratio_of_medians(
        2.0 * speed_of_the_machine, np.random.default_rng(1).permutation(speed_of_the_machine)
    )
    assert together == pytest.approx((2.0, 2.0, 2.0))
    assert apart.high - apart.low > 0.5


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        ratio = ratio_of_medians(
            2.0 * random.lognormal(0, 0.2, 25), random.lognormal(0, 0.2, 25), resamples=500
        )
        covered += ratio.low <= 2.0 <= ratio.high
    assert 180 <= covered <= 200


@pytest.mark.parametrize(("least", "most"), [(1, 1), (1, 1000), (200, 8192), (5, 6)])
def test_efforts_go_from_least_to_most_in_steps_of_a_fifth(least: int, most: int) -> None:
    grid = effort_grid(least, most)
    assert (grid[0], grid[-1]) == (least, most)
    assert grid == sorted(set(grid))
    assert all(b <= a * 1.25 + 1 for a, b in itertools.pairwise(grid))


@pytest.mark.parametrize("wanted", [1, 2, 17, 100, 999, 1000])
def test_the_least_effort_that_is_enough_is_found(wanted: int) -> None:
    asked: list[int] = []

    def recall(effort: int) -> float:
        asked.append(effort)
        return 0.95 if effort >= wanted else 0.5

    effort, found = least_effort(recall, 0.95, (1, 1000))
    grid = effort_grid(1, 1000)
    assert effort == min(value for value in grid if value >= wanted)
    assert found == 0.95
    assert max(asked) <= max(2.1 * wanted, 8)  # wide searches are dear


def test_an_effort_that_is_never_enough_is_reported_as_it_is() -> None:
    assert least_effort(lambda effort: effort / 10_000, 0.95, (1, 1000)) == (1000, 0.1)


def test_graph_libraries_that_miss_the_recall_are_not_compared_with_unless_all_do() -> None:
    found = {"faiss HNSW": 0.88, "hnswlib": 0.9, "ScaNN": 0.95, "nann, adaptive walk": 0.96}
    assert compared_graphs(found, 0.9) == {"hnswlib": "hnswlib"}
    assert compared_graphs(found, 0.88) == {"faiss HNSW": "faiss HNSW", "hnswlib": "hnswlib"}
    assert compared_graphs(found, 0.95) == {"hnswlib": "hnswlib, which ends at 0.900"}
    assert compared_graphs({"ScaNN": 0.95}, 0.9) == {}
