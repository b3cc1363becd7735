"""FusedBatchNorm in training mode, by which Keras 2 (tf_keras) writes its layer norm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._operations import check_operations
from support.programs import compare_with_traced, lowered, weighted

L, D = 5, 8
EVENTS = np.random.default_rng(27).normal(size=(2, L, D)).astype(np.float32)
NOTHING = tf.zeros([0])


def layer_norm(x: tf.Tensor, *, scale: float = 1.0, offset: float = 0.0) -> tf.Tensor:
    """tf_keras.layers.LayerNormalization: rows are channels, and the layer's own weights come behind."""
    shape = tf.shape(x)
    rows, width = tf.reduce_prod(shape[:-1]), shape[-1]
    found = tf.compat.v1.nn.fused_batch_norm(
        tf.reshape(x, [1, rows, width, 1]),
        scale=tf.fill([rows], scale),
        offset=tf.fill([rows], offset),
        epsilon=0.01,
        data_format="NCHW",
    )[0]
    return tf.reshape(found, shape) * tf.linspace(0.5, 1.5, x.shape[-1]) + 0.1


def of_pairs(user: Any, item: tf.Tensor) -> tf.Tensor:
    return weighted(layer_norm(user["events"][tf.newaxis] * item[:, tf.newaxis], scale=2.0, offset=0.3))


def of_events_and_item(user: Any, item: tf.Tensor) -> tf.Tensor:
    events = tf.repeat(user["events"][tf.newaxis], tf.shape(item)[0], 0)
    return weighted(layer_norm(tf.concat([events, item[:, tf.newaxis]], 1)))


def of_user_and_item(user: Any, item: tf.Tensor) -> tf.Tensor:
    of_user = layer_norm(tf.reduce_mean(user["events"], 0, keepdims=True))
    return weighted(tf.tanh(layer_norm(item) * of_user))


def with_moments(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = item * user["events"][0]
    _, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(x, [1, -1, D, 1]), scale=tf.ones_like(x[:, 0]), offset=x[:, 0], mean=NOTHING,
        variance=NOTHING, data_format="NCHW",
    )  # fmt: skip
    return mean + 3.0 * variance


@pytest.mark.parametrize("score", [of_pairs, of_events_and_item, of_user_and_item, with_moments])
def test_a_layer_norm_of_keras_2(score: Any) -> None:
    compare_with_traced(score, events=EVENTS[0])
    lowered(score, events=EVENTS)


def test_it_is_no_state() -> None:
    spec = tf.TensorSpec([None, L, D], tf.float32)
    check_operations(tf.function(layer_norm).get_concrete_function(spec), what="embed_user")


def test_moments_of_the_batch_are_refused() -> None:
    def score(x: tf.Tensor) -> tf.Tensor:
        ones = tf.ones([D])
        return tf.compat.v1.nn.fused_batch_norm(x[:, tf.newaxis, tf.newaxis], ones, ones)[0]

    function = tf.function(score).get_concrete_function(tf.TensorSpec([None, D], tf.float32))
    with pytest.raises(InvalidInputError, match="found batch normalization in training mode"):
        check_operations(function, what="score")
