"""Scorers in float64, as models whose arrays come from NumPy are: embeddings and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer._lowering import NotLowerableError
from support.programs import compare, compare_with_traced, lowered

L, D = 6, 8
RANDOM = np.random.default_rng(64)
KERNEL, LAST = RANDOM.normal(size=(D, D)), RANDOM.normal(size=(D, 1))
STATE = {
    "events": RANDOM.normal(size=(2, L, D)),
    "taste": RANDOM.normal(size=(2, D)),
    "scale": np.array([0.5, 2.0]),
    "mask": np.array([[1, 0, 1, 1, 0, 1], [0] * L], bool),
}


def _double(item: tf.Tensor) -> tf.Tensor:
    return tf.cast(item, tf.float64)


def _attended(user: Any, item: tf.Tensor) -> tf.Tensor:
    logits = tf.matmul(_double(item) @ KERNEL, user["events"], transpose_b=True) / user["scale"]
    return tf.reduce_sum((tf.nn.softmax(logits) @ user["events"]) * _double(item), -1)


def _network(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = tf.nn.gelu((_double(item) * user["taste"]) @ KERNEL)
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.sigmoid(tf.nn.silu((x - mean) * tf.math.rsqrt(variance + 1e-3)) @ LAST)[:, 0]


def _island(user: Any, item: tf.Tensor) -> tf.Tensor:
    """One step in float64 of a model in float32."""
    similar = tf.matmul(item, tf.cast(user["events"], tf.float32), transpose_b=True)
    return tf.cast(tf.reduce_logsumexp(tf.cast(similar, tf.float64) * 3.0, -1), tf.float32)


def _of_flags(user: Any, item: tf.Tensor) -> tf.Tensor:
    powers = tf.exp(0.1 * tf.matmul(_double(item), user["events"], transpose_b=True))
    return tf.reduce_sum(tf.where(user["mask"], powers, 0.0), -1) - tf.reduce_max(powers, -1)


def _distance(user: Any, item: tf.Tensor) -> tf.Tensor:
    return -tf.reduce_sum(tf.math.squared_difference(_double(item), user["taste"]), -1)


@pytest.mark.parametrize("score", [_attended, _network, _island, _of_flags, _distance])
def test_scorers_in_float64(score: Callable[..., tf.Tensor]) -> None:
    compare(score, **STATE)
    for user in range(2):
        compare_with_traced(score, **{name: values[user] for name, values in STATE.items()})


@pytest.mark.parametrize("width", [1, L])
def test_differences_of_times_keep_their_digits(width: int) -> None:
    """float32 has seconds of a day, not of a year."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        ages = user["times"] - 1e9 * _double(tf.round(item[:, :1]))
        return tf.reduce_sum(tf.exp(-tf.abs(ages) / 1e6), -1) + _double(item[:, 1])

    times = 1.7e9 + RANDOM.uniform(0, 1e6, size=(2, width))
    with pytest.raises(NotLowerableError):
        lowered(score, times=times)
