"""The fixed walk composed of the primitives: an example for other walks, and a check of the fused op."""

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
    """Walk the index for one user, with the same answer as `beam_search`; `tf.function` can trace it.

    score:       positions int32 [n] -> scores float32 [n]; n may be 0.
    level_topn:  int32 [1 + hops + 1]: entry beam, one beam per hop from the top level down, final k.
    exclude_ids: int64 [X], left out of the result.

    Returns ids int64 [k], scores float32 [k] and items_scored int32 [].

    Example:
      >>> embs = tf.constant(np.load("RUN/embeddings/item_embs.npy"))
      >>> def score(positions):
      ...     return tf.linalg.matvec(tf.gather(embs, positions), tf.ones([8]))
      >>> no_ids = tf.zeros([0], tf.int64)
      >>> ids, scores, items_scored = composed_beam_search(
      ...     index, score, tf.constant([100, 200, 200, 200, 200, 3]), no_ids
      ... )
      >>> ids.shape, scores.shape, int(items_scored) <= 500
      (TensorShape([3]), TensorShape([3]), True)
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
