"""Top-k lists, overlap and the paired bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nann.export.agreement import overlap
from nann.training import SweepPoint
from nann.training._sweep import cheapest
from nann.training.metrics import ndcg, paired_ratio_interval, top_k

IDS = np.array([40, 10, 30, 20], np.int64)


def test_top_k_orders_by_score_then_by_smaller_id() -> None:
    scores = np.array([1.0, 1.0, 2.0, 1.0], np.float32)
    nothing = np.zeros(4, bool)
    assert top_k(scores, IDS, 3, nothing).tolist() == [30, 10, 20]
    assert top_k(scores, IDS, 9, nothing).tolist() == [30, 10, 20, 40]


def test_top_k_leaves_out_excluded_and_nan() -> None:
    scores = np.array([5.0, np.nan, 2.0, 1.0], np.float32)
    excluded = np.array([True, False, False, False])
    assert top_k(scores, IDS, 2, excluded).tolist() == [30, 20]


def test_top_k_agrees_with_a_full_sort() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        ids = rng.permutation(100).astype(np.int64)
        scores = rng.integers(0, 8, 100).astype(np.float32)
        excluded = rng.random(100) < 0.3
        expected = [
            i for _, i in sorted((-s, i) for s, i, e in zip(scores, ids, excluded, strict=True) if not e)
        ]
        assert top_k(scores, ids, 20, excluded).tolist() == expected[:20]


def test_overlap_is_a_share_of_what_was_wanted() -> None:
    assert overlap(np.array([[1, 2, 3]]), np.array([[3, 4]])) == 0.5
    assert overlap(np.empty((1, 0), np.int64), np.empty((1, 0), np.int64)) == 1.0
    # -1 pads a row; other negative numbers are ids.
    assert overlap(np.array([[-5, 7, -1]]), np.array([[-5, 8, -1]])) == 0.5


def test_the_interval_of_equal_lists_is_one_point() -> None:
    hits = np.arange(100) % 3 == 0
    assert paired_ratio_interval(hits, hits, resamples=200) == (1.0, 1.0, 1.0)


def test_the_interval_is_paired_and_seeded() -> None:
    rng = np.random.default_rng(1)
    second = rng.random(1000) < 0.2
    first = second | (rng.random(1000) < 0.1)
    ratio, low, high = paired_ratio_interval(first, second, seed=3)
    assert 1.0 < low < ratio < high
    assert ratio == first.sum() / second.sum()
    assert (ratio, low, high) == paired_ratio_interval(first, second, seed=3)
    # Without pairing the same two rates have a wider interval.
    _, unpaired_low, unpaired_high = paired_ratio_interval(rng.permutation(first), second, seed=3)
    assert unpaired_high - unpaired_low > high - low


def test_the_interval_covers_the_true_ratio() -> None:
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        first, second = rng.random(400) < 0.4, rng.random(400) < 0.2
        _, low, high = paired_ratio_interval(first, second, seed=seed, resamples=400)
        covered += low <= 2.0 <= high
    assert covered >= 88


def test_no_hits_give_no_figures_and_none_below_give_infinity() -> None:
    nothing, some = np.zeros(10, bool), np.arange(10) < 5
    assert all(math.isnan(value) for value in paired_ratio_interval(nothing, nothing))
    assert paired_ratio_interval(some, nothing, resamples=500)[0] == math.inf
    assert paired_ratio_interval(nothing, some, resamples=500) == pytest.approx((0.0, 0.0, 0.0))


def test_ndcg_of_one_item_falls_with_its_place() -> None:
    found = ndcg(np.array([0.0, 1.0, 6.0, np.inf]))
    assert found.tolist() == pytest.approx([1.0, 1 / np.log2(3), 1 / 3, 0.0])


def test_the_fastest_point_that_reaches_the_target_is_recommended() -> None:
    def point(agreement: float, milliseconds: float, items_scored: float) -> SweepPoint:
        return SweepPoint(
            walk="fixed",
            level_topn=(100, 50),
            agreement=agreement,
            agreement_low=0.0,
            agreement_high=1.0,
            agreement_worst_5_percent=0.0,
            worst_users=(),
            items_scored=items_scored,
            milliseconds=milliseconds,
        )

    points = [
        point(0.9, 1.0, 100.0),
        point(0.98, 3.0, 300.0),
        point(0.98, 3.0, 200.0),
        point(1.0, 9.0, 400.0),
    ]
    assert cheapest(points, 0.98) == points[2]
    assert cheapest(points, 0.5) == points[0]
    assert cheapest(points[:1], 0.98) is None
