"""Functions of numbers that few users have: zeros, large and small ones, infinities, NaNs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.programs import compare, compare_with_traced, weighted


def _place_among(x: tf.Tensor, side: str) -> tf.Tensor:
    found = tf.searchsorted(tf.constant([-1.5, 0.5, 1.5, 3.0]), tf.reshape(x, [-1]), side=side)
    return tf.cast(tf.reshape(found, x.shape), tf.float32)


# Of one number, at numbers that few users have: a square of 1e20 is none of float32.
UNUSUAL = np.array([[0, -0.0, 1e-20, -1e-3, 1.0001, 1e20, -1e25, 1e38], [np.nan, np.inf, -np.inf, 2] * 2])
OF_UNUSUAL: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "sign": tf.sign,
    "asinh": tf.asinh,
    "acosh": lambda x: tf.acosh(1 + tf.abs(x)),
    "bucket": lambda x: tf.cast(tf.raw_ops.Bucketize(input=x, boundaries=[-1.5, 0.5, 3.0]), tf.float32),
    "place from the left": lambda x: _place_among(x, "left"),
    "place from the right": lambda x: _place_among(x, "right"),
}


@pytest.mark.parametrize("name", OF_UNUSUAL)
def test_functions_of_unusual_numbers(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        found = OF_UNUSUAL[name](user["x"] + 0 * item)
        return weighted(tf.where(found == found, tf.clip_by_value(found, -200.0, 200.0), 300.0))

    compare(score, x=UNUSUAL.astype(np.float32))
    for row in UNUSUAL.astype(np.float32):
        compare_with_traced(score, x=row)


BASES = np.array([[-2.5, -1.0, -0.0, 0.0, 0.7, 3.0, -np.inf, np.inf]], np.float32)
POWERS = np.array([-3.0, -2.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0], np.float32)


def test_powers_of_any_sign_that_user_and_item_decide() -> None:
    """As elasticities of prices, of which no bound is known."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        power = user["power"] + tf.round(0.1 * item[:, :1])
        found = tf.pow(user["base"] + 0 * item, power)
        return weighted(tf.where(found == found, tf.clip_by_value(found, -200.0, 200.0), 300.0)) + item[:, 1]

    for power in POWERS:
        state = {"base": np.tile(BASES, (2, 1)), "power": np.full([2], power)}
        compare(score, **state)
        compare_with_traced(score, **{name: values[0] for name, values in state.items()})
