"""Scorers that follow a gradient: energies, fast weights, what a small step would change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.programs import compare, compare_with_traced

D = 8
RANDOM = np.random.default_rng(7)
TASTE = RANDOM.normal(size=(2, D)).astype(np.float32)
KERNEL = tf.constant(RANDOM.normal(size=(D, D)) * 0.5, tf.float32)
FUNCTIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "relu": lambda x: tf.nn.relu(x) ** 2,
    "relu6": lambda x: tf.nn.relu6(4.0 * x),
    "leaky relu": lambda x: tf.nn.leaky_relu(x, 0.3),
    "elu": tf.nn.elu,
    "selu": tf.nn.selu,
    "softplus": lambda x: tf.raw_ops.Softplus(features=x),
    "softsign": tf.nn.softsign,
    "root": lambda x: tf.sqrt(tf.abs(x) + 1.0),
    "one by a root": lambda x: tf.math.rsqrt(x**2 + 1.0),
    "one by a number": lambda x: tf.math.reciprocal(x**2 + 1.0),
    "normalized": lambda x: tf.math.l2_normalize(x, -1) ** 3,
    "slices": lambda x: tf.concat([x[:, 1:4] ** 2, x[..., tf.newaxis, -2] ** 3], -1),
}


def _check(score: Callable[..., tf.Tensor]) -> None:
    compare(score, taste=TASTE)
    for taste in TASTE:
        compare_with_traced(score, taste=taste)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(item)
            energy = tf.reduce_sum(FUNCTIONS[name]((item * user["taste"]) @ KERNEL), -1)
        return tf.reduce_sum(tape.gradient(energy, item) * user["taste"], -1)

    _check(score)


def test_a_derivative_along_a_direction() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        with tf.autodiff.ForwardAccumulator(item, tf.ones_like(item)) as accumulator:
            energy = tf.reduce_sum(tf.tanh(item @ KERNEL) * user["taste"], -1)
        return energy + accumulator.jvp(energy)

    _check(score)
