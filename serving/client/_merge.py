"""Merges the answers of shards with disjoint items. The merge is exact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PAD_ID = -1


def merge_top_k(
    ids: Sequence[NDArray[np.int64]], scores: Sequence[NDArray[np.float32]], results: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the best items of each user over all shards.

    Higher scores come first, and among equal scores the smaller id.

    Args:
      ids: int64 [B, k] per shard; -1 is padding.
      scores: float32 [B, k] per shard.
      results: int32 [] or [B], how many items are returned per user; the result's k is the largest.

    Returns ids and scores [B, k], padded with -1 and -inf.
    """
    all_ids, all_scores = np.concatenate(ids, axis=1), np.concatenate(scores, axis=1)
    k = int(results.max())
    # lexsort sorts by the last key first. Padding goes to the end, whatever its score.
    order = np.lexsort((all_ids, -all_scores, all_ids == PAD_ID), axis=1)[:, :k]
    best_ids = np.take_along_axis(all_ids, order, axis=1)
    best_scores = np.take_along_axis(all_scores, order, axis=1)
    is_padding = (np.arange(k) >= np.reshape(results, (-1, 1))) | (best_ids == PAD_ID)
    best_ids[is_padding], best_scores[is_padding] = PAD_ID, -np.inf
    return best_ids, best_scores


def merge_passing(passing: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return how many items of all shards pass, [B]; -1 where a shard has not counted them."""
    counts = np.stack(passing)
    total: NDArray[np.int64] = np.where((counts < 0).any(axis=0), -1, counts.sum(axis=0))
    return total


def repeated_id(ids: NDArray[np.int64]) -> int | None:
    """Return an id that occurs twice in a row of a merged answer, or None. Its shards are not disjoint.

    The same item has the same score in both shards, so its two entries are neighbours.
    """
    again = ids[:, 1:][(ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] != PAD_ID)]
    return int(again[0]) if again.size else None
