"""Idioms that are rarer than those of `test_scorer_idioms.py`: native, with TensorFlow's scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import SplitScorer, freeze_scorer
from support.native_scores import TILE_ROWS, scores_of
from support.programs import compare, lowered, weighted
from support.splitting import FunctionModel

L, D = 6, 8
EVENTS = np.random.default_rng(24).normal(size=(2, L, D)).astype(np.float32)


def _compare(score: Any, **state: Any) -> None:
    """The program has the scores of the whole scorer as TensorFlow runs it."""
    result, program = lowered(score, **state)
    specs = {name: tf.TensorSpec(value.shape[1:], value.dtype) for name, value in state.items()}
    whole = freeze_scorer(FunctionModel(score, **specs), tile_rows=TILE_ROWS).function
    expected = scores_of(
        SplitScorer(None, None, whole, ("item_embs",), result.report), list(state.values()), b""
    )
    found = scores_of(result, list(state.values()), program.to_bytes())
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5 * np.abs(expected).max())


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


def blocks(x: tf.Tensor) -> tf.Tensor:
    images = x[..., tf.newaxis]
    channels = tf.nn.relu(tf.nn.space_to_depth(images, 2))
    return tf.nn.depth_to_space(channels * tf.range(1.0, 5.0), 2)[..., 0]


def patches(x: tf.Tensor) -> tf.Tensor:
    found = tf.image.extract_patches(x[..., tf.newaxis], [1, 2, 3, 1], [1, 2, 1, 1], [1, 2, 1, 1], "SAME")
    return tf.reduce_max(found, -1)


def with_gaps(x: tf.Tensor) -> tf.Tensor:
    """Windows with gaps along rows and columns, which TensorFlow makes by spaces and batches."""
    images = x[..., tf.newaxis]
    kernel = tf.reshape(tf.linspace(-1.0, 1.0, 8), [2, 2, 1, 2])
    convolved = tf.nn.relu(tf.nn.atrous_conv2d(images, kernel, 2, "SAME"))
    apart = tf.nn.depthwise_conv2d(images, kernel, [1] * 4, "SAME", dilations=[1, 2])
    largest = tf.nn.pool(images, [2, 2], "MAX", dilations=[2, 3])
    mean = tf.nn.pool(x, [2], "AVG", dilations=[3])
    kinds = (convolved, tf.nn.relu(apart), largest**2, mean**2)
    return tf.concat([tf.reshape(each, [TILE_ROWS, -1]) for each in kinds], 1)


def ranks(x: tf.Tensor) -> tf.Tensor:
    rows = x[:, 0]
    likeliest = tf.argmax(x[:, 1], -1, output_type=tf.int32)
    is_likely = tf.math.in_top_k(likeliest, rows, 3) | tf.math.in_top_k(likeliest, tf.math.log(rows), 1)
    nth = tf.raw_ops.NthElement(input=rows, n=2) + tf.raw_ops.NthElement(input=rows, n=1, reverse=True)
    return tf.where(is_likely, nth, -nth)[:, tf.newaxis]


def vector_products(x: tf.Tensor) -> tf.Tensor:
    return tf.linalg.cross(x[..., :3], x[..., 3:6])


def segment_products(x: tf.Tensor) -> tf.Tensor:
    """The second segment has no rows: its product is 1."""
    found = tf.math.unsorted_segment_prod(tf.transpose(x, [1, 0, 2]), [0, 3, 0, 2, 2, 2], 4)
    return tf.transpose(found, [1, 0, 2])


@pytest.mark.parametrize(
    "function",
    [
        blocks,
        patches,
        with_gaps,
        ranks,
        vector_products,
        segment_products,
    ],
)
def test_rarer_operations(function: Callable[[tf.Tensor], tf.Tensor]) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return weighted(function(user["events"][tf.newaxis] * item[:, tf.newaxis]))

    _compare(score, events=EVENTS)


def test_cross_entropies_of_a_user_s_labels() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        logits = user["events"][tf.newaxis] * item[:, tf.newaxis]
        labels = tf.broadcast_to(tf.nn.softmax(user["events"]), logits.shape)
        return weighted(tf.nn.softmax_cross_entropy_with_logits(labels, logits))

    _compare(score, events=EVENTS)


@pytest.mark.parametrize(
    "function", [with_flat_indices, with_chosen_powers, in_another_size, means_of_flat_rows]
)
def test_pairs_of_events_and_item(function: Callable[[tf.Tensor], tf.Tensor]) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return weighted(function(user["events"][tf.newaxis] * item[:, tf.newaxis]))

    compare(score, events=EVENTS)
