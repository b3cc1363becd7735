"""Layers of the shipped models: seeded dense layers, embeddings, and a causal transformer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

MASKED = -1e9
LOG_SCALE = 3.0
"""Where the logarithm of a cosine's scale begins: a softmax over ten thousand items needs logits up to 20."""


class Layers:
    """Makes layers of which each has a seed of its own: weights do not depend on the order of building."""

    def __init__(self, seed: int) -> None:
        self._seeds: Iterator[int] = iter(range(1000 * seed, 1000 * seed + 1000))

    def dense(self, width: int, name: str, *, bias: bool = True, activation: Any = None) -> Any:
        initializer = keras.initializers.GlorotUniform(seed=next(self._seeds))
        return keras.layers.Dense(
            width, use_bias=bias, kernel_initializer=initializer, activation=activation, name=name
        )

    def embedding(self, rows: int, width: int, name: str, *, deviation: float = 0.02) -> Any:
        initializer = keras.initializers.RandomNormal(stddev=deviation, seed=next(self._seeds))
        layer = keras.layers.Embedding(rows, width, embeddings_initializer=initializer, name=name)
        layer.build()
        return layer

    def scalar(self, value: float, name: str) -> Any:
        return keras.Variable(value, name=name, dtype="float32")


def gathered(table: Any, rows: tf.Tensor) -> tf.Tensor:
    """Rows of an embedding layer. From its tf.Variable, whose gradient is of these rows alone."""
    return tf.gather(table.embeddings.value, rows)


def unit_size(vectors: tf.Tensor) -> tf.Tensor:
    """Vectors [..., D], scaled to a mean square of 1.

    Item embeddings of one length cannot grow, and the distances of the graph that is built on them are those
    of their directions.
    """
    return vectors * tf.math.rsqrt(tf.reduce_mean(tf.square(vectors), -1, keepdims=True) + 1e-12)


def dropped(tensor: tf.Tensor, rate: float, seed: tf.Tensor | None) -> tf.Tensor:
    """`tensor` with a share of its values set to 0 and the others enlarged; no seed: as it is.

    seed: int64 [2]. The same seed drops the same values, so that a training can be continued exactly.
    """
    if seed is None or rate == 0:
        return tensor
    return tf.nn.experimental.stateless_dropout(tensor, rate, seed=seed)


def next_seed(seed: tf.Tensor | None, number: int) -> tf.Tensor | None:
    """A seed for the dropout of this number: layers must not drop the same values."""
    return None if seed is None else seed + tf.constant([number + 1, 0], tf.int64) * 1_000_003


class CausalTower(keras.layers.Layer):
    """Transformer blocks over a sequence of events, of which each sees itself and the ones before.

    Pre-norm blocks of self-attention and a feed-forward layer, as in SASRec (arXiv 1808.09781).
    """

    def __init__(self, layers: Layers, *, length: int, width: int, blocks: int, heads: int) -> None:
        super().__init__(name="causal_tower")
        self._heads = heads
        self.positions = layers.embedding(length, width, "positions")
        self.blocks = [
            {
                "norm": keras.layers.LayerNormalization(epsilon=1e-6, name=f"attention_norm_{i}"),
                "qkv": layers.dense(3 * width, f"attention_qkv_{i}"),
                "output": layers.dense(width, f"attention_output_{i}"),
                "hidden_norm": keras.layers.LayerNormalization(epsilon=1e-6, name=f"hidden_norm_{i}"),
                "hidden": layers.dense(2 * width, f"hidden_{i}", activation="gelu"),
                "hidden_output": layers.dense(width, f"hidden_output_{i}"),
            }
            for i in range(blocks)
        ]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="tower_norm")

    def call(
        self, events: tf.Tensor, present: tf.Tensor, *, dropout: float = 0.0, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Events float32 [B, L, E], present bool [B, L] -> float32 [B, L, E], zeros where none is present.

        The last position is that of the newest event, however long the sequence is.
        """
        length = tf.shape(events)[1]
        there = tf.cast(present, tf.float32)
        causal = tf.linalg.band_part(tf.ones([length, length]), -1, 0)
        bias = (1.0 - causal * there[:, tf.newaxis]) * MASKED
        x = events + self.positions.embeddings[-length:]
        x = dropped(x, dropout, next_seed(seed, 0))
        for number, block in enumerate(self.blocks):
            attended = block["output"](self._attended(block["qkv"](block["norm"](x)), bias))
            x += dropped(attended, dropout, next_seed(seed, 2 * number + 1))
            hidden = block["hidden_output"](block["hidden"](block["hidden_norm"](x)))
            x += dropped(hidden, dropout, next_seed(seed, 2 * number + 2))
        return self.norm(x) * there[..., tf.newaxis]

    def _attended(self, qkv: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        """[B, L, 3 E] -> [B, L, E]: scaled dot-product attention of several heads."""
        shape = tf.shape(qkv)
        width = qkv.shape[-1] // 3 // self._heads
        split = tf.reshape(qkv, [shape[0], shape[1], 3, self._heads, width])
        query, key, value = tf.unstack(tf.transpose(split, [2, 0, 3, 1, 4]))
        logits = tf.matmul(query * width**-0.5, key, transpose_b=True) + bias[:, tf.newaxis]
        mixed = tf.matmul(tf.nn.softmax(logits), value)
        return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [shape[0], shape[1], self._heads * width])
