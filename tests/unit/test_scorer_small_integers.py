"""Small integers of user and item: divided as integers are, whose fractions are cut off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.programs import compare, weighted

D = 8
# Odd ones of both signs: sums that are not multiples of their number.
COUNTS = np.array([[3, -7, 5, 0, -2], [-4, 1, -9, 8, 1]], np.int32)
BY = np.array([3, 2, 5, 7, 4], np.int32)

DIVIDED: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "a mean": lambda x: tf.reduce_mean(x, axis=-1),
    "a mean of the user's too": lambda x: tf.reduce_mean(x, axis=-1, keepdims=True) + x,
    "a mean of two axes": lambda x: tf.reduce_mean(x[:, :4, tf.newaxis] * x[:, tf.newaxis], axis=[1, 2]),
    "a quotient that is cut": lambda x: tf.truncatediv(x, BY),
    "a remainder with a sign": lambda x: tf.truncatemod(x, BY),
}


@pytest.mark.parametrize("name", DIVIDED)
def test_integers_are_divided_as_integers(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        whole = tf.cast(tf.clip_by_value(tf.round(9 * item[:, :5]), -20, 20), tf.int32)
        found = DIVIDED[name](whole + tf.clip_by_value(user["counts"], -9, 9))
        return weighted(tf.cast(found, tf.float32)) + 0.1 * item[:, 5]

    compare(score, counts=COUNTS)
