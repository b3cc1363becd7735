"""Small matrices of user and item: kernels of events and a candidate, sums of two covariances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.programs import compare, compare_with_traced, weighted

L, D = 5, 8
RANDOM = np.random.default_rng(9)
EVENTS = RANDOM.normal(size=(2, L, D)).astype(np.float32)
# The largest number of the first columns is not on the diagonal: rows must be swapped.
ROLLED = np.roll(np.eye(L, dtype=np.float32), 2, axis=0)


def _kernel(events: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    """Positive definite: of the events and each item."""
    rows = tf.concat([tf.repeat(events[tf.newaxis, 1:], item.shape[0], 0), item[:, tf.newaxis]], 1)
    distances = tf.reduce_sum((rows[:, :, tf.newaxis] - rows[:, tf.newaxis]) ** 2, -1)
    return tf.exp(-0.05 * distances) + 0.2 * tf.eye(L)


def _any(events: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    """Of no bad condition, with the largest numbers beside the diagonal."""
    products = 0.1 * (events[tf.newaxis, :, :L] * item[:, tf.newaxis, :L])
    return products - 2.0 * ROLLED + 0.3 * tf.eye(L)


def _right(events: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    return tf.stack([item[:, :L], tf.zeros_like(item[:, :L]) + events[:, 0]], -1)


FUNCTIONS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "a factor": lambda u, x: tf.linalg.cholesky(_kernel(u, x)),
    "a factor's system": lambda u, x: tf.linalg.cholesky_solve(
        tf.linalg.cholesky(_kernel(u, x)), _right(u, x)
    ),
    "a triangle's system, turned": lambda u, x: tf.linalg.triangular_solve(
        _kernel(u, x), _right(u, x), lower=False, adjoint=True
    ),
    "a determinant": lambda u, x: tf.linalg.det(_any(u, x))[:, tf.newaxis],
    "its sign and logarithm": lambda u, x: tf.stack(tf.linalg.slogdet(_any(u, x)), -1),
    "a volume": lambda u, x: tf.linalg.logdet(_kernel(u, x))[:, tf.newaxis],
    "an inverse": lambda u, x: tf.linalg.inv(_any(u, x)),
    "an inverse, turned": lambda u, x: tf.linalg.inv(_any(u, x), adjoint=True),
    "a system": lambda u, x: tf.linalg.solve(_any(u, x), _right(u, x)),
    "a system, turned": lambda u, x: tf.linalg.solve(_any(u, x), _right(u, x), adjoint=True),
    "of one number": lambda u, x: tf.linalg.inv(2.0 + tf.tanh(x[:, :1, tf.newaxis] * u[0, 0])),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_small_matrices(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return weighted(FUNCTIONS[name](user["events"], item))

    compare(score, events=EVENTS)
    for events in EVENTS:
        compare_with_traced(score, events=events)
