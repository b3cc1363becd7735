"""Putting the answers of shards together, against plain Python sorting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nann.serving.client._merge import merge_passing, merge_top_k, repeated_id

# Few values, so that ties are frequent; -inf is a score, too.
_SCORES = st.sampled_from([-np.inf, -2.0, -0.0, 0.0, 0.5, 1.0, 3.0e38])
_ID = st.integers(-(2**63), 2**63 - 1).filter(lambda item: item != -1)


@st.composite
def _answers(draw: st.DrawFn) -> Any:
    """Shards' answers: rows of different items, best first, padded to one width a shard."""
    users = draw(st.integers(1, 3))
    shards = draw(st.integers(1, 4))
    results = draw(st.lists(st.integers(1, 6), min_size=users, max_size=users))
    rows = []
    for k in results:
        ids = draw(st.lists(_ID, unique=True, max_size=shards * k))
        found = [(item, draw(_SCORES), draw(st.integers(0, shards - 1))) for item in ids]
        rows.append([[(i, s) for i, s, shard in found if shard == n][:k] for n in range(shards)])
    return rows, results


def _padded(row: list[tuple[int, float]], width: int) -> list[tuple[int, float]]:
    ordered = sorted(row, key=lambda item: (-item[1], item[0]))
    return (ordered + [(-1, -np.inf)] * width)[:width]


@given(_answers())
def test_merge_is_sorting_everything(answers: Any) -> None:
    rows, results = answers
    k = max(results)
    shards = range(len(rows[0]))
    parts = [[_padded(row[shard], k) for row in rows] for shard in shards]
    ids = [np.array([[item for item, _ in row] for row in part], np.int64) for part in parts]
    scores = [np.array([[score for _, score in row] for row in part], np.float32) for part in parts]
    found_ids, found_scores = merge_top_k(ids, scores, np.array(results, np.int32))
    assert (found_ids.dtype, found_scores.dtype) == (np.int64, np.float32)
    for user, row in enumerate(rows):
        everything = [pair for shard in shards for pair in row[shard]]
        expected = _padded(_padded(everything, len(everything))[: results[user]], k)
        assert found_ids[user].tolist() == [item for item, _ in expected]
        np.testing.assert_array_equal(found_scores[user], np.array([s for _, s in expected], np.float32))


def test_one_number_of_results_for_all_users() -> None:
    ids = [np.array([[5, 7], [1, -1]]), np.array([[6, 4], [-1, -1]])]
    scores = [np.array([[2, 1], [0, -np.inf]], np.float32), np.array([[2, 1], [-np.inf] * 2], np.float32)]
    found_ids, found_scores = merge_top_k(ids, scores, np.array(3, np.int32))
    assert found_ids.tolist() == [[5, 6, 4], [1, -1, -1]]
    assert found_scores.tolist() == [[2, 2, 1], [0, -np.inf, -np.inf]]


@pytest.mark.parametrize(
    ("ids", "repeated"), [([[3, 3, 1]], 3), ([[3, 1, 3]], None), ([[1, -1, -1]], None), ([[4]], None)]
)
def test_an_item_of_two_shards_is_noticed(ids: list[list[int]], repeated: int | None) -> None:
    assert repeated_id(np.array(ids)) == repeated


def test_items_that_pass_are_summed_where_every_shard_counted_them() -> None:
    merged = merge_passing([np.array([3, -1, 0]), np.array([4, 7, 0])])
    np.testing.assert_array_equal(merged, [7, -1, 0])
