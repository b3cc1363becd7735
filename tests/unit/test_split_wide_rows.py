"""Elementwise functions between layers that read whole rows: computed in those rows, not in cut ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer._program import Opcode
from support.programs import compare, compare_with_traced, lowered, weighted

RANDOM = np.random.default_rng(7)
USER = RANDOM.normal(size=(2, 8)).astype(np.float32)
KERNELS = tf.constant(RANDOM.normal(size=(4, 8, 24)).astype(np.float32) / 3)
BACK = tf.constant(RANDOM.normal(size=(24, 24)).astype(np.float32) / 5)
BIAS = tf.constant(RANDOM.normal(size=(12, 2)).astype(np.float32))


def _channels(item: tf.Tensor, at: int) -> tf.Tensor:
    """Two channels of twelve places, as a convolution leaves them."""
    return tf.reshape(tf.matmul(item, KERNELS[at]), [-1, 12, 2])


def gates(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = item * user["user"]
    cell = tf.sigmoid(_channels(x, 0)) * tf.tanh(_channels(x, 1)) + 0.5
    hidden = tf.reshape(tf.sigmoid(_channels(x, 2)) * tf.tanh(cell), [-1, 24])
    return weighted(tf.nn.relu(tf.matmul(hidden, BACK)))


def biases(user: Any, item: tf.Tensor) -> tf.Tensor:
    """A constant for each place and channel, and one for each channel."""
    x = tf.maximum(_channels(item * user["user"], 0), BIAS) * tf.sign(BIAS[3])
    return weighted(tf.nn.relu(tf.matmul(tf.reshape(x, [-1, 24]), BACK)))


def choices(user: Any, item: tf.Tensor) -> tf.Tensor:
    x, y = _channels(item * user["user"], 0), _channels(item, 1)
    x = tf.where(x > y, tf.math.squared_difference(x, y), 2.0)
    return weighted(tf.nn.relu(tf.matmul(tf.reshape(x, [-1, 24]), BACK)))


def norms(user: Any, item: tf.Tensor) -> tf.Tensor:
    """A number for each item, of all its places and channels."""
    x = tf.nn.relu(_channels(item * user["user"], 0))
    y = x / (1.0 + tf.reduce_max(x, [1, 2], keepdims=True))
    return tf.reduce_sum(tf.math.squared_difference(y, tf.reduce_mean(y, [1, 2], keepdims=True)), [1, 2])


@pytest.mark.parametrize("score", [gates, biases, choices, norms])
def test_nothing_is_copied_between_rows_and_cut_rows(score: Callable[..., tf.Tensor]) -> None:
    program = lowered(score, user=USER)[1]
    copies = [Opcode.REARRANGE, Opcode.RESHAPE]
    assert not [each for each in program.instructions if each.shape.per_item and each.opcode in copies]
    compare(score, user=USER)
    compare_with_traced(score, user=USER[0])


def test_rows_that_differ_by_user_stay_cut() -> None:
    """A mask of places is found where it is by place."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        x = tf.where(user["places"][:, tf.newaxis], _channels(item * user["user"], 0), 0.0)
        return tf.reduce_sum(tf.reduce_max(tf.nn.relu(x), 1), -1)

    places = RANDOM.random((2, 12)) < 0.5
    compare(score, user=USER, places=places)
    compare_with_traced(score, user=USER[0], places=places[0])


def test_as_many_places_as_items() -> None:
    """A number for each place of an item is not one for each item."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        places = item.shape[0]
        by_place = tf.reshape(tf.linspace(0.5, 1.5, places), [1, places, 1])
        x = tf.tile(tf.tanh(item * user["user"])[:, tf.newaxis, :2], [1, places, 1])
        x = tf.reshape(x * by_place, [-1, places * 2])
        x = tf.tanh(x + tf.reverse(x, [1]) * 0.3)
        return weighted(tf.tanh(tf.reshape(tf.reshape(x, [-1, places, 2]) * by_place, [-1, places * 2])))

    compare(score, user=USER)
    compare_with_traced(score, user=USER[0])
