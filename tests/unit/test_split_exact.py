"""Numbers that are compared with what they were taken from: a split may not change their last bits apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.programs import Score, weighted
from support.splitting import frozen, largest_difference, split

RANDOM = np.random.default_rng(6)
L, D = 6, 8
KERNEL = RANDOM.normal(size=(D, D)).astype(np.float32)
BIAS = RANDOM.normal(size=D).astype(np.float32)


def _gates(user: Any, item: tf.Tensor) -> tf.Tensor:
    """[n, D], as a layer with a bias makes them of user and item."""
    return tf.matmul(item * user["events"][0], KERNEL) + tf.matmul(user["events"][1:2], KERNEL) + BIAS


def _logits(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.matmul(item, user["events"], transpose_b=True)


def _largest(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(x, axis=-1, keepdims=True)


def _ones(condition: tf.Tensor) -> tf.Tensor:
    return weighted(tf.cast(condition, tf.float32))


def _scaled(x: tf.Tensor) -> tf.Tensor:
    least = tf.reduce_min(x, axis=-1, keepdims=True)
    return ((x - least) / (_largest(x) - least)) ** 0.7


SCORES: dict[str, Score] = {
    "the largest gate": lambda u, x: _ones(_gates(u, x) - _largest(_gates(u, x)) >= 0),
    "is equal to it": lambda u, x: _ones(tf.equal(_gates(u, x) - _largest(_gates(u, x)), 0)),
    "a sign": lambda u, x: weighted(tf.sign(_gates(u, x) - _largest(_gates(u, x)))),
    "the two largest": lambda u, x: _ones(_gates(u, x) - tf.math.top_k(_gates(u, x), 2)[0][:, -1:] >= 0),
    "a median": lambda u, x: _ones(_gates(u, x) - tf.sort(_gates(u, x))[:, 4:5] >= 0),
    "scaled to 0 and 1": lambda u, x: weighted(_scaled(_gates(u, x))),
    "how many are not larger": lambda u, x: _ones(tf.sort(_logits(u, x)) <= _logits(u, x)[:, -1:]),
    "a place in order": lambda u, x: weighted(
        tf.cast(tf.searchsorted(tf.sort(_logits(u, x)), _logits(u, x)[:, 2:3]), tf.float32)
    ),
}


@pytest.mark.parametrize("name", SCORES)
def test_a_number_is_itself(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return SCORES[name](user, item)

    result = split(score, events=[L, D])
    assert result.report.reason is None, result.report.reason
    assert largest_difference(frozen(score, events=[L, D]).function, result) < 1e-5
