"""The fixed walk (docs/design.md#the-search) made of the primitives: an example, and a test of the op."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from nann.ops import _primitives as primitives
from nann.ops._index_resource import IndexResource


def composed_beam_search(
    index: IndexResource,
    score: Callable[[tf.Tensor], tf.Tensor],
    level_topn: tf.Tensor,
    exclude_ids: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Walk the index for one user with the fixed walk; `tf.function` can trace it.

    Args:
      index: the index.
      score: int32 [n] positions -> float32 [n] scores; n may be 0.
      level_topn: int32 [1 + hops + 1]: the entry beam, one beam per hop from the top level down, k.
      exclude_ids: int64 [X] item ids that are left out of the result.

    Returns:
      Item ids int64 [k] and scores float32 [k], best first, padded with -1 and -inf; the number of items that
      were scored, int32 [].

    Example:
      >>> embs = nann.ops.gather_table_rows(index, tf.range(5), table="item_embs")
      >>> ids, scores, items_scored = nann.ops.composed_beam_search(
      ...     index,
      ...     lambda positions: tf.gather(embs[:, 0], positions),
      ...     tf.constant([1, 2, 2, 2]),
      ...     tf.constant([50], tf.int64),
      ... )
      >>> ids.numpy().tolist(), scores.numpy().tolist(), int(items_scored)
      ([40, 30], [3.0, 2.0], 5)
    """
    frontier = primitives.enter_points(index)
    results, result_scores = primitives.top_k(index, frontier, score(frontier), level_topn[0])
    items_scored = tf.size(frontier)
    beam = 0
    for level in reversed(range(index.meta.start_level)):
        _, visited = primitives.filter_visited(primitives.visited_set(index), results)
        candidates = results
        for _ in range(index.meta.hops_per_level[level]):
            beam += 1
            neighbors = primitives.gather_neighbors(index, candidates, level=level)
            frontier, visited = primitives.filter_visited(visited, neighbors)
            items_scored += tf.size(frontier)
            candidates, scores = primitives.top_k(index, frontier, score(frontier), level_topn[beam])
            results = tf.concat([results, candidates], 0)
            result_scores = tf.concat([result_scores, scores], 0)
        if level > 0:
            results, result_scores = primitives.top_k(index, results, result_scores, level_topn[beam])
    ids, scores = _final(index, results, result_scores, level_topn[-1], exclude_ids)
    return ids, scores, items_scored


def _final(
    index: IndexResource, results: tf.Tensor, scores: tf.Tensor, k: tf.Tensor, exclude_ids: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    excluded = primitives.ids_to_positions(index, exclude_ids)
    kept = tf.logical_not(tf.reduce_any(results[:, None] == excluded[None, :], axis=1))
    results, scores = primitives.top_k(index, results[kept], scores[kept], k)
    padding = [[0, k - tf.size(results)]]
    ids = tf.pad(primitives.positions_to_ids(index, results), padding, constant_values=-1)
    return ids, tf.pad(scores, padding, constant_values=float("-inf"))
