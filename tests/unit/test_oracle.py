"""The oracle against cases worked out by hand from docs/design.md#the-search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from nann.errors import InvalidInputError
from nann.export.index.files import GraphIndex, Level
from nann.export.index.oracle import beam_search
from nann.ops.index_meta import IndexMeta


def _level(lists: Sequence[Sequence[int]]) -> Level:
    splits = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return Level(np.array([node for row in lists for node in row], np.int32), splits)


def _graph(*levels: Sequence[Sequence[int]], enter: Sequence[int], hops: tuple[int, ...]) -> GraphIndex:
    meta = IndexMeta(1, len(levels[0]), 1, "l2", 2, 40, len(levels), hops)
    return GraphIndex(meta, np.array(enter, np.int32), tuple(map(_level, levels)))


def _search(
    graph: GraphIndex,
    scores: Sequence[float],
    level_topn: Sequence[int],
    *,
    exclude: Sequence[int] = (),
    ids: Sequence[int] | None = None,
) -> tuple[list[int], list[float], int]:
    table = np.array(scores, np.float32)
    item_ids = np.arange(table.size, dtype=np.int64) * 10 if ids is None else np.array(ids, np.int64)
    found, found_scores, count = beam_search(graph, item_ids, lambda at: table[at], level_topn, exclude)
    assert found.dtype == np.int64
    assert found_scores.dtype == np.float32
    return found.tolist(), found_scores.tolist(), count


CHAIN = _graph([[1], [2], [3], []], enter=[0], hops=(2,))


def test_walks_one_hop_a_beam() -> None:
    assert _search(CHAIN, [1, 2, 3, 9], [1, 1, 1, 2]) == ([20, 10], [3.0, 2.0], 3)


def test_only_the_best_of_a_hop_are_expanded_and_the_rest_is_not_returned() -> None:
    star = _graph([[1, 2], [3], [4], [], []], enter=[0], hops=(2,))
    assert _search(star, [0, 5, 4, 1, 9], [1, 1, 5, 5]) == (
        [10, 30, 0, -1, -1],
        [5, 1, 0, -np.inf, -np.inf],
        4,
    )


def test_a_level_starts_again_with_the_kept_nodes_as_the_only_visited_ones() -> None:
    # Node 2 is dropped at level 1 (beam 1 keeps 0 and 1 only as far as the re-cut), found again at level 0.
    graph = _graph([[2], [2], []], [[1, 2], [], []], enter=[0], hops=(1, 1))
    assert _search(graph, [5, 4, 3], [1, 1, 3, 3]) == ([0, 20, -1], [5, 3, -np.inf], 4)


def test_ties_go_to_the_smaller_item_id_not_position() -> None:
    graph = _graph([[], [], []], enter=[0, 1, 2], hops=(1,))
    assert _search(graph, [7, 7, 7], [2, 1, 3], ids=[30, 10, 20]) == ([10, 20, -1], [7, 7, -np.inf], 3)


def test_nan_drops_the_item_but_counts_it() -> None:
    assert _search(CHAIN, [1, np.nan, 3, 4], [1, 1, 1, 2]) == ([0, -1], [1, -np.inf], 2)


def test_minus_infinity_is_a_score_like_any_other() -> None:
    assert _search(CHAIN, [1, -np.inf, 3, 4], [1, 1, 1, 3])[0] == [20, 0, 10]


def test_excluded_items_are_walked_through() -> None:
    assert _search(CHAIN, [1, 2, 3, 9], [1, 1, 1, 2], exclude=[20, -1, 999]) == ([10, 0], [2, 1], 3)


def test_duplicate_neighbours_are_scored_once() -> None:
    graph = _graph([[1, 1, 0], [0, 1]], enter=[0], hops=(2,))
    assert _search(graph, [1, 2], [1, 5, 5, 2]) == ([10, 0], [2, 1], 2)


def test_an_empty_hop_ends_the_walk_quietly() -> None:
    assert _search(_graph([[]], [[]], enter=[0], hops=(3, 1)), [4], [1, 1, 1, 1, 1, 2]) == (
        [0, -1],
        [4, -np.inf],
        1,
    )


def test_beams_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="expected 4 integers"):
        _search(CHAIN, [1, 2, 3, 4], [1, 1, 1])
