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
