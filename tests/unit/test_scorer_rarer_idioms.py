"""Idioms that are rarer than those of `test_scorer_idioms.py`: native, with TensorFlow's scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.native_scores import TILE_ROWS
from support.programs import compare, weighted

L, D = 6, 8
EVENTS = np.random.default_rng(24).normal(size=(2, L, D)).astype(np.float32)


def with_flat_indices(x: tf.Tensor) -> tf.Tensor:
    """Two experts of each item, by indices and numbers without an axis of their own."""
    gates, experts = tf.math.top_k(x[:, 0], 2)
    rows = tf.repeat(tf.range(tf.shape(x)[0]), 2)
    places = tf.stack([rows, tf.reshape(experts, [-1])], axis=-1)
    return tf.scatter_nd(places, tf.reshape(tf.nn.softmax(gates), [-1]), [TILE_ROWS, D])[:, tf.newaxis] * x


def with_chosen_powers(x: tf.Tensor) -> tf.Tensor:
    falling = -tf.where(x < 0, 1.5, tf.where(x[:, ::-1] < 0, -0.5, 0.0))
    return tf.pow(3.0 * x, tf.where(x > 0.3, 2.0, 3.0)) + tf.pow(tf.exp(x), falling)


def in_another_size(x: tf.Tensor) -> tf.Tensor:
    images, size = x[..., tf.newaxis], [4, 11]
    methods = ("bilinear", "bicubic", "nearest")
    return tf.add_n([tf.image.resize(images, size, each)[..., 0] for each in methods])


def means_of_flat_rows(x: tf.Tensor) -> tf.Tensor:
    means = tf.math.segment_mean(tf.reshape(x, [-1, D]), tf.repeat(tf.range(TILE_ROWS), L))
    return tf.ensure_shape(means, [TILE_ROWS, D])


@pytest.mark.parametrize(
    "function", [with_flat_indices, with_chosen_powers, in_another_size, means_of_flat_rows]
)
def test_pairs_of_events_and_item(function: Callable[[tf.Tensor], tf.Tensor]) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return weighted(function(user["events"][tf.newaxis] * item[:, tf.newaxis]))

    compare(score, events=EVENTS)
