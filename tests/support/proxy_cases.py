"""A scorer over small corpora, and random features for the proxy walk over them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

import nann.ops
from nann.export.index.proxy_oracle import ProxyTables
from nann.ops import AttributeFiles, ProxyWalk
from support.graphs import DIM, Corpus

TILE_ROWS = 16


def score(user, items):
    """user . item, NaN or infinite where the user's last value is 9 or 8 and the item's first value is 1."""
    scores = tf.linalg.matvec(items, user)
    marked = items[:, 0] == 1
    scores = tf.where(tf.logical_and(user[-1] == 9, marked), float("nan"), scores)
    return tf.where(tf.logical_and(user[-1] == 8, marked), float("inf"), scores)


SCORER = tf.function(
    score, input_signature=[tf.TensorSpec([DIM]), tf.TensorSpec([TILE_ROWS, DIM])]
).get_concrete_function()


def numpy_score(corpus: Corpus, user):
    def score(positions):
        items = corpus.item_embs[positions]
        scores = (items @ user).astype(np.float32)
        marked = items[:, 0] == 1
        scores = np.where((user[-1] == 9) & marked, np.float32("nan"), scores)
        return np.where((user[-1] == 8) & marked, np.float32("inf"), scores)

    return score


def random_samples(
    rng: np.random.Generator, allowed: npt.NDArray[np.int64], num_items: int, anchors: int, clusters: int
):
    """`anchors` and random clusters of the positions `allowed`; some are empty."""
    shuffled = rng.permutation(allowed)
    groups = [rng.choice(allowed, min(anchors, allowed.size), replace=False)]
    groups += np.array_split(shuffled[: allowed.size // 2], clusters) if clusters else []
    return np.concatenate([g * num_items + np.sort(rows) for g, rows in enumerate(groups)])


def proxy_of(
    corpus: Corpus, rng: np.random.Generator, *, columns: int = 16, good: float = 0.5, **options
) -> ProxyTables:
    """Features that tell the scores, as far as `good` says, and random samples."""
    n = corpus.graph.meta.num_items
    features = rng.normal(size=(n, columns)) * (1 - good)
    features[:, 1 : 1 + DIM] += good * corpus.item_embs
    allowed = np.flatnonzero(corpus.item_embs[:, 0] != 1)
    samples = random_samples(rng, allowed, n, options.pop("anchors", 20), options.pop("clusters", 8))
    walk = ProxyWalk(features="f", samples="s", **{"noise": 0.1, **options})
    return ProxyTables(walk, features.astype(np.float16), samples)


def index_of(
    corpus: Corpus, proxy: ProxyTables, folder: Path, *, attributes: Sequence[AttributeFiles] = ()
) -> nann.ops.IndexResource:
    arguments = corpus.write(folder)
    np.save(folder / "f.npy", proxy.features)
    np.save(folder / "s.npy", proxy.samples)
    arguments["item_tables"]["f"] = folder / "f.npy"
    tables = {"s": folder / "s.npy"}
    return nann.ops.IndexResource(**arguments, user_tables=tables, attributes=attributes)
