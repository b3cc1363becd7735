"""The items that a proxy walk scores first: anchors, and some items of every region of the corpus."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from nann.export.items import CHUNK_ROWS

# Tables of an export's proxy walk.
FEATURES, SAMPLES = "proxy_features", "proxy_samples"
# One batch of the walk; with the tops of the clusters enough for a fit that finds its way.
ANCHORS = 48
# So many regions of the corpus are looked at, whatever the first fit says of them; more gain nothing.
CLUSTERS = 48
# Members of each, at least and at most, and items of the corpus for each of them. Of 100,000 items 16 do as
# well as 64. Of a million, 64 find regions without which a user gets 0.89 of the best 200 (docs/quality.md).
_ITEMS_PER_MEMBER, _LEAST_MEMBERS, _MOST_MEMBERS = 15_000, 16, 64
# faiss warns below 39.
_TRAINING_POINTS_PER_CLUSTER = 256


def proxy_samples(embs: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The table of samples, int64: group x N + position, ascending.

    Group 0 are `ANCHORS` random items, and each other group is some items of a cluster of `embs` [N, D].

    Example:
      >>> proxy_samples(np.zeros([3, 8], np.float32))[:3]
      array([0, 1, 2])
    """
    random = np.random.default_rng(0)
    groups = [random.choice(len(embs), min(ANCHORS, len(embs)), replace=False)]
    cluster = _clusters(embs, random)
    shuffled = random.permutation(len(embs))
    members = min(max(len(embs) // _ITEMS_PER_MEMBER, _LEAST_MEMBERS), _MOST_MEMBERS)
    groups += [shuffled[cluster[shuffled] == number][:members] for number in range(CLUSTERS)]
    return np.concatenate([group * len(embs) + np.sort(rows) for group, rows in enumerate(groups)])


def _clusters(embs: npt.NDArray[Any], random: np.random.Generator) -> npt.NDArray[np.int64]:
    """The cluster of each item, [N], by k-means of a sample of the embeddings."""
    clusters = min(CLUSTERS, len(embs))
    drawn = np.sort(random.permutation(len(embs))[: clusters * _TRAINING_POINTS_PER_CLUSTER])
    kmeans = faiss.Kmeans(embs.shape[1], clusters, niter=10, seed=1, min_points_per_centroid=1)
    kmeans.train(np.asarray(embs[drawn], np.float32))
    cluster = np.empty(len(embs), np.int64)
    for start in range(0, len(embs), CHUNK_ROWS):
        chunk = np.asarray(embs[start : start + CHUNK_ROWS], np.float32)
        cluster[start : start + len(chunk)] = kmeans.index.search(chunk, 1)[1][:, 0]
    return cluster
