"""The answers of shards with disjoint items, put together exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PAD_ID = -1


def merge_top_k(
    ids: Sequence[NDArray[np.int64]], scores: Sequence[NDArray[np.float32]], results: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The best items of each user over all shards: the higher score first, the smaller id among equals.

    Args:
      ids: for each shard int64 [B, k]; -1 pads.
      scores: for each shard float32 [B, k].
      results: int32 [] or [B], how many each user asked for; k of the answer is the largest.

    Returns ids and scores [B, k], padded by -1 and -inf.
    """
    all_ids, all_scores = np.concatenate(ids, axis=1), np.concatenate(scores, axis=1)
    k = int(results.max())
    # The last key counts first. Padding is no item, whatever its score.
    order = np.lexsort((all_ids, -all_scores, all_ids == PAD_ID), axis=1)[:, :k]
    best_ids = np.take_along_axis(all_ids, order, axis=1)
    best_scores = np.take_along_axis(all_scores, order, axis=1)
    is_padding = (np.arange(k) >= np.reshape(results, (-1, 1))) | (best_ids == PAD_ID)
    best_ids[is_padding], best_scores[is_padding] = PAD_ID, -np.inf
    return best_ids, best_scores


def repeated_id(ids: NDArray[np.int64]) -> int | None:
    """An id that stands twice in a row of a merged answer, if any: its shards are not disjoint.

    Equal items have equal scores, so that they stand next to each other.
    """
    again = ids[:, 1:][(ids[:, 1:] == ids[:, :-1]) & (ids[:, 1:] != PAD_ID)]
    return int(again[0]) if again.size else None
