"""Scorers that lay their tensors out otherwise: heads on the batch axis, layers over positions, images."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import layers, ops

from zoo.base import Ranker
from zoo.blocks import mean_of, mlp, register


@register
class BatchHeadsAttention(layers.Layer):
    """Self-attention as SASRec's authors have it: heads are put one behind the other on the batch axis."""

    heads = 2

    def build(self, shape: Any) -> None:
        width = shape[-1]
        self.weights_of = [
            self.add_weight(shape=(width, width), name=name) for name in ("query", "key", "value")
        ]

    def call(self, x: Any) -> Any:
        query, key, value = (
            tf.concat(tf.split(tf.tensordot(x, each, 1), self.heads, axis=2), axis=0)
            for each in self.weights_of
        )
        logits = tf.matmul(query, key, transpose_b=True) / key.shape[-1] ** 0.5
        present = tf.sign(tf.abs(tf.reduce_sum(x, axis=-1)))
        present = tf.tile(tf.tile(present, [self.heads, 1])[:, tf.newaxis], [1, x.shape[1], 1])
        logits = tf.where(tf.equal(present, 0), tf.ones_like(logits) * (-(2.0**32) + 1), logits)
        attended = tf.matmul(tf.nn.softmax(logits), value)
        return tf.concat(tf.split(attended, self.heads, axis=0), axis=2) + x

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class BatchHeads(Ranker):
    """SASRec's attention by its authors, heads on the batch axis, over the events and the candidate."""

    def pair(self, hist: Any, item: Any) -> Any:
        x = ops.concatenate([hist, item[:, None]], axis=1)
        x = BatchHeadsAttention()(layers.LayerNormalization()(x))
        return mlp(ops.concatenate([x[:, -1], mean_of(hist), item], axis=-1), 64)


class GatedMLP(Ranker):
    """gMLP: a gate over the positions of events and candidate, with a bias for each position."""

    def pair(self, hist: Any, item: Any) -> Any:
        x = ops.concatenate([hist, item[:, None]], axis=1)
        hidden = layers.Dense(4 * self.width, activation="gelu")(layers.LayerNormalization()(x))
        kept, gate = ops.split(hidden, 2, axis=-1)
        over_positions = layers.EinsumDense(
            "ble,lm->bme", output_shape=(self.events + 1, 2 * self.width), bias_axes="m"
        )
        gate = over_positions(layers.LayerNormalization()(gate))
        x = x + layers.Dense(self.width)(kept * gate)
        return mlp(x[:, -1], 32)


class InteractionImage(Ranker):
    """ConvNCF: convolutions over the outer product of user and item, an image of one channel."""

    def pair(self, hist: Any, item: Any) -> Any:
        image = (mean_of(hist)[:, :, None] * item[:, None])[..., None]
        image = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
        image = layers.MaxPooling2D((2, 2))(image)
        image = layers.Conv2D(16, 2, strides=2, activation="relu")(image)
        return layers.Dense(1)(layers.Flatten()(image))


@register
class LogSpaceScan(layers.Layer):
    """The states of a minGRU, all at once: by a cumulative logarithm of sums."""

    def call(self, gate: Any, state: Any) -> Any:
        kept, taken = -tf.nn.softplus(gate), -tf.nn.softplus(-gate)
        state = tf.where(state >= 0, tf.math.log(tf.nn.relu(state) + 0.5), -tf.nn.softplus(-state))
        kept = tf.cumsum(kept, axis=1)
        return tf.exp(kept + tf.math.cumulative_logsumexp(taken + state - kept, axis=1))

    def compute_output_shape(self, gate_shape: Any, state_shape: Any) -> Any:
        return state_shape


class MinimalGRU(Ranker):
    """minGRU over the products of events and candidate, as a scan in the space of logarithms."""

    def pair(self, hist: Any, item: Any) -> Any:
        x = ops.concatenate([hist, hist * item[:, None]], axis=-1)
        states = LogSpaceScan()(layers.Dense(self.width)(x), layers.Dense(self.width)(x))
        return mlp(ops.concatenate([states[:, -1], item], axis=-1), 64)
