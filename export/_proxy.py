"""Features of items from which the proxy walk guesses scores (docs/design.md, "The search").

The scores of some sample users over all items are decomposed: an item's row is its mean score and its share
in the directions in which users differ most. A user's scores are then nearly a linear function of these rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._assets import Assets, item_table_file, user_table_file
from nann.export._samples import Sample
from nann.export.index.proxy_oracle import ProxyTables
from nann.export.items import CHUNK_ROWS
from nann.export.scorer import Scorer
from nann.files import write_array_in_chunks
from nann.ops import IndexResource, ProxyWalk, score_items

FEATURES, SAMPLES = "proxy_features", "proxy_samples"
# Users whose scores are decomposed. With 128 a walk scores a fifth more items; more gain nothing.
SAMPLE_USERS = 256
# Columns of an item's row: its mean and 63 features, two cache lines in float16. With 32 a walk scores a
# fifth more items, and an unusual user may be lost.
COLUMNS = 64
# One batch of the walk; with the tops of the clusters enough for a fit that finds its way.
ANCHORS = 48
# So many regions of the corpus are looked at, whatever the first fit says of them, by so many items of each.
# More of these gain nothing.
CLUSTERS, MEMBERS = 48, 16
# Variance of a standardized score that no feature explains, at least: float16 rounds, and users differ from
# the sample.
_LEAST_NOISE = 0.003
# faiss warns below 39.
_TRAINING_POINTS_PER_CLUSTER = 256
# Items per call: 256 users' scores of them take 16 MB.
_ITEMS_AT_ONCE = 16_384

Doubles = npt.NDArray[np.float64]


def add_proxy(
    assets: Assets,
    index: IndexResource,
    scorer: Scorer,
    sample: Sample,
    *,
    columns: int = COLUMNS,
    on_progress: Callable[[int, int], None],
) -> ProxyWalk:
    """Write the tables that the proxy walk reads into `assets`, and describe the walk.

    sample: users that take no part in any other choice or measurement of the export.

    Raises InvalidInputError when the scores of all users are constant.
    """
    embs = np.load(assets.item_tables["item_embs"], mmap_mode="r")
    with tempfile.TemporaryFile(dir=assets.folder) as file:
        shape = (len(embs), sample.users)
        scores = np.memmap(file, np.float32, "w+", shape=shape)
        for start, block in _score_all(index, scorer, sample, len(embs)):
            scores[start : start + len(block)] = block
            on_progress(start + len(block), len(embs))
        decomposed = _Decomposition(scores, columns)
        path = item_table_file(assets.folder, FEATURES)
        rows = (decomposed.rows(chunk) for chunk in _chunks(scores))
        write_array_in_chunks(path, rows, dtype=np.float16, shape=(len(embs), columns))
    assets.item_tables[FEATURES] = path
    assets.user_tables[SAMPLES] = user_table_file(assets.folder, SAMPLES)
    np.save(assets.user_tables[SAMPLES], _samples(embs))
    return ProxyWalk(features=FEATURES, samples=SAMPLES, noise=decomposed.noise)


def remove_proxy(assets: Assets) -> None:
    """Delete what `add_proxy` has added."""
    assets.item_tables.pop(FEATURES).unlink()
    assets.user_tables.pop(SAMPLES).unlink()


def open_proxy_tables(walk: ProxyWalk, assets_dir: Path) -> ProxyTables:
    """The tables of an export's proxy walk, mapped."""
    features = np.load(item_table_file(assets_dir, walk.features), mmap_mode="r")
    return ProxyTables(walk, features, np.load(user_table_file(assets_dir, walk.samples)))


def _score_all(
    index: IndexResource, scorer: Scorer, sample: Sample, num_items: int
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """(first position, scores float32 [<= _ITEMS_AT_ONCE, T]) of all items."""
    state = [tf.constant(value) for value in sample.state.values()]
    for start in range(0, num_items, _ITEMS_AT_ONCE):
        positions = np.arange(start, min(start + _ITEMS_AT_ONCE, num_items), dtype=np.int32)
        rows = np.broadcast_to(positions, (sample.users, positions.size))
        yield start, score_items(index, state, rows, **scorer.scoring_options()).numpy().T


def _chunks(scores: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    for start in range(0, len(scores), _ITEMS_AT_ONCE):
        yield np.asarray(scores[start : start + _ITEMS_AT_ONCE])


class _Decomposition:
    """The principal components of scores [N, T], read a chunk of items at a time.

    noise: variance of a standardized score that the components leave.
    """

    def __init__(self, scores: npt.NDArray[np.float32], columns: int) -> None:
        self._columns = columns
        self._users, self._mean, self._deviation = _moments(scores)
        users = self._users.size
        if users == 0:
            raise InvalidInputError(
                "walk: expected sample users to whom items differ, found that every one of them has the same "
                "score for all items, or none that is finite. Export with --walk adaptive, or correct the "
                "model."
            )
        gram = np.zeros((users, users))
        for chunk in _chunks(scores):
            centred = self._standardized(chunk)[1]
            gram += centred.T @ centred
        values, vectors = np.linalg.eigh(gram / len(scores))
        kept = min(columns - 1, users)
        self._directions = vectors[:, ::-1][:, :kept] / np.sqrt(users)
        left = (values.sum() - values[::-1][:kept].sum()) / users
        self.noise = max(float(left), _LEAST_NOISE)

    def rows(self, chunk: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
        """Features float16 [n, columns] of items with these scores."""
        means, centred = self._standardized(chunk)
        rows = np.zeros((len(chunk), self._columns))
        rows[:, 0] = means
        rows[:, 1 : 1 + self._directions.shape[1]] = centred @ self._directions
        largest = float(np.finfo(np.float16).max)
        return np.clip(rows, -largest, largest).astype(np.float16)

    def _standardized(self, chunk: npt.NDArray[np.float32]) -> tuple[Doubles, Doubles]:
        """Mean standardized score of each item, and the users' differences from it [n, T].

        A score that is not finite counts as the user's mean.
        """
        scores = (chunk[:, self._users].astype(np.float64) - self._mean) / self._deviation
        scores[~np.isfinite(scores)] = 0.0
        means = scores.mean(axis=1)
        return means, scores - means[:, np.newaxis]


def _moments(scores: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], Doubles, Doubles]:
    """The users to whom items differ, and mean and deviation of the finite scores of each."""
    count, total, squares = np.zeros((3, scores.shape[1]))
    for chunk in _chunks(scores):
        finite = np.isfinite(chunk)
        exact = np.where(finite, chunk, 0.0).astype(np.float64)
        count += finite.sum(axis=0)
        total += exact.sum(axis=0)
        squares += (exact * exact).sum(axis=0)
    mean = total / np.maximum(count, 1)
    variance = squares / np.maximum(count, 1) - mean * mean
    # What is less than a sum in double precision can tell from zero is no difference.
    users = np.flatnonzero((count > 0) & (variance > 1e-12 * mean * mean))
    return users, mean[users], np.sqrt(variance[users])


def _samples(embs: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """group x N + position, ascending: `ANCHORS` random items, and `MEMBERS` of each cluster."""
    random = np.random.default_rng(0)
    groups = [random.choice(len(embs), min(ANCHORS, len(embs)), replace=False)]
    cluster = _clusters(embs, random)
    shuffled = random.permutation(len(embs))
    groups += [shuffled[cluster[shuffled] == number][:MEMBERS] for number in range(CLUSTERS)]
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
