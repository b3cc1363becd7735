"""Linear systems of a user, solved for each item: linear bandits' confidence, least squares, densities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.programs import compare, weighted

D = 8
RANDOM = np.random.default_rng(4)


def _of_condition(condition: float) -> Any:
    """A matrix of each of two users, as a few events of near directions make them."""
    turned = [np.linalg.qr(RANDOM.normal(size=(D, D)))[0] for _ in range(2)]
    return np.stack([q @ np.diag(np.geomspace(1, condition, D)) @ q.T for q in turned]).astype(np.float32)


USERS = {"of some condition": _of_condition(30.0), "of a bad condition": _of_condition(1e4)}
KERNEL = RANDOM.normal(size=(D, D)).astype(np.float32)
# Of a bad condition: no product with its inverse is as exact.
CONSTANT = np.tril(RANDOM.normal(size=(D, D)) + np.diag(np.geomspace(0.01, 3, D))).astype(np.float32)


def _repeated(matrix: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    return tf.repeat(matrix[tf.newaxis], item.shape[0], axis=0)


# Of a user's matrix [D, D] and items [n, D] to [D, n] or [n, D, 1].
SYSTEMS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "lower": lambda a, x: tf.linalg.triangular_solve(tf.linalg.cholesky(a), tf.transpose(x)),
    "lower, turned": lambda a, x: tf.linalg.triangular_solve(
        tf.linalg.cholesky(a), tf.transpose(x), adjoint=True
    ),
    "upper": lambda a, x: tf.linalg.triangular_solve(
        tf.transpose(tf.linalg.cholesky(a)), tf.transpose(x), lower=False
    ),
    "by Cholesky": lambda a, x: tf.linalg.cholesky_solve(tf.linalg.cholesky(a), tf.transpose(x)),
    "any": lambda a, x: tf.linalg.solve(a[::-1], tf.transpose(x)),
    "any, turned": lambda a, x: tf.linalg.solve(a[::-1], tf.transpose(x), adjoint=True),
    "one for each item": lambda a, x: tf.linalg.solve(_repeated(a, x)[:, ::-1], x[:, :, tf.newaxis]),
    "least squares": lambda a, x: tf.linalg.lstsq(a, tf.transpose(x), l2_regularizer=1e3),
}


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("user", USERS)
def test_systems_of_a_user(user: str, name: str) -> None:
    """As near to TensorFlow's as elsewhere whatever the condition: rows are found in the same order."""

    def score(state: Any, item: tf.Tensor) -> tf.Tensor:
        item = item @ KERNEL
        found = SYSTEMS[name](state["matrix"], item)
        solved = tf.transpose(found) if found.shape.rank == 2 else found[:, :, 0]
        return tf.reduce_sum(solved * item, -1) + weighted(solved)

    compare(score, matrix=USERS[user])


def test_a_constant_system_of_a_bad_condition() -> None:
    def score(state: Any, item: tf.Tensor) -> tf.Tensor:
        return weighted(
            tf.transpose(tf.linalg.triangular_solve(CONSTANT, tf.transpose(item * state["taste"])))
        )

    compare(score, taste=RANDOM.normal(size=(2, D)).astype(np.float32))
