"""Scorers that cross features: factorization machines, DCN, CIN, AutoInt, product networks, SENet."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import tensorflow as tf
from keras import layers, ops

from zoo.base import Ranker, broadcast, tiled
from zoo.blocks import CrossLayer, mean_of, mlp, register


def fields_of(hist: Any, item: Any) -> Any:
    """Fields [B, 6, E] of a factorization machine: the last four events, the mean of all, the candidate."""
    return ops.concatenate([hist[:, -4:], mean_of(hist)[:, None], item[:, None]], axis=1)


def pairs_of(fields: Any) -> tuple[Any, Any]:
    """Left and right of each pair of fields, [B, P, E] each."""
    left, right = zip(*combinations(range(fields.shape[1]), 2), strict=True)
    return ops.take(fields, left, axis=1), ops.take(fields, right, axis=1)


@register
class LowerTriangle(layers.Layer):
    """The products of different fields, by a mask of those that count, as DLRM's code has it."""

    def call(self, products: Any) -> Any:
        ones = tf.ones_like(products)
        below = ones - tf.linalg.band_part(ones, 0, -1)
        kept = tf.boolean_mask(products, tf.cast(below, tf.bool))
        return tf.reshape(kept, (-1, self.count(products.shape)))

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], self.count(shape))

    @staticmethod
    def count(shape: Any) -> int:
        return int(shape[-1] * (shape[-1] - 1) // 2)


class DLRM(Ranker):
    """Products of all pairs of fields, chosen by boolean_mask, beside a network of the user's side."""

    def pair(self, hist: Any, item: Any) -> Any:
        dense = layers.Dense(self.width, activation="relu")(mean_of(hist))
        fields = ops.concatenate([fields_of(hist, item), dense[:, None]], axis=1)
        products = ops.matmul(fields, ops.transpose(fields, (0, 2, 1)))
        x = ops.concatenate([dense, item, LowerTriangle()(products)], axis=-1)
        return mlp(x, 64, 32, activation="relu")


@register
class MixedCross(layers.Layer):
    """DCN-mix as its well-known implementations have it: columns [n, d, 1], experts behind one another."""

    rank, experts = 16, 3

    def build(self, x0_shape: Any, x_shape: Any) -> None:
        d = x_shape[1]
        self.down, self.inner, self.up, self.gates = (
            [self.add_weight(shape=each, name=f"{name}_{at}") for at in range(self.experts)]
            for name, each in {
                "down": (self.rank, d), "inner": (self.rank, self.rank), "up": (d, self.rank), "gate": (d, 1),
            }.items()
        )  # fmt: skip
        self.shift = self.add_weight(shape=(d, 1), name="shift")

    def call(self, x0: Any, x: Any) -> Any:
        mixed, gates = [], []
        for down, inner, up, gate in zip(self.down, self.inner, self.up, self.gates, strict=True):
            gates.append(tf.matmul(tf.squeeze(x, 2), gate))
            low = tf.nn.tanh(tf.einsum("ij,bjk->bik", inner, tf.nn.tanh(tf.einsum("ij,bjk->bik", down, x))))
            mixed.append(tf.squeeze(x0 * (tf.einsum("ij,bjk->bik", up, low) + self.shift), 2))
        return tf.matmul(tf.stack(mixed, 2), tf.nn.softmax(tf.stack(gates, 1), 1)) + x

    def compute_output_shape(self, x0_shape: Any, x_shape: Any) -> Any:
        return x_shape


class DCNMix(Ranker):
    """Two cross layers of three low-rank experts each, mixed by gates."""

    def pair(self, hist: Any, item: Any) -> Any:
        x0 = ops.concatenate([mean_of(hist), hist[:, -1], item], axis=-1)[..., None]
        x = MixedCross()(x0, MixedCross()(x0, x0))
        return layers.Dense(1)(layers.Flatten()(x))


class DCNv2(Ranker):
    """Three cross layers beside a deep network."""

    def pair(self, hist: Any, item: Any) -> Any:
        x0 = ops.concatenate([mean_of(hist), hist[:, -1], item], axis=-1)
        x = x0
        for _ in range(3):
            x = CrossLayer()(x0, x)
        deep = layers.Dense(32, activation="relu")(layers.Dense(64, activation="relu")(x0))
        return layers.Dense(1)(ops.concatenate([x, deep], axis=-1))


class DCNLowRank(Ranker):
    """Cross layers of rank 8 one after the other with batch norm, then the deep network (stacked)."""

    repeat = staticmethod(broadcast)

    def pair(self, hist: Any, item: Any) -> Any:
        x0 = layers.BatchNormalization()(ops.concatenate([mean_of(hist), hist[:, -1], item], axis=-1))
        x = CrossLayer(rank=8)(x0, CrossLayer(rank=8)(x0, x0))
        return mlp(x, 64, 32, activation="relu")


class FM(Ranker):
    """A factorization machine: first order and half of (square of sum - sum of squares)."""

    def pair(self, hist: Any, item: Any) -> Any:
        fields = fields_of(hist, item)
        second = ops.square(ops.sum(fields, axis=1)) - ops.sum(ops.square(fields), axis=1)
        return 0.5 * ops.sum(second, axis=-1, keepdims=True) + layers.Dense(1)(layers.Flatten()(fields))


class FFM(Ranker):
    """A field-aware factorization machine: each field has a vector for each other field."""

    def pair(self, hist: Any, item: Any) -> Any:
        fields = [hist[:, -1], hist[:, -2], mean_of(hist), item]
        count, size = len(fields), 8
        aware = [ops.reshape(layers.Dense(count * size)(field), (-1, count, size)) for field in fields]
        products = [aware[i][:, j] * aware[j][:, i] for i, j in combinations(range(count), 2)]
        crossed = layers.Add()([ops.sum(product, axis=-1, keepdims=True) for product in products])
        return crossed + layers.Dense(1)(ops.concatenate(fields, axis=-1))


class DeepFM(Ranker):
    """A factorization machine beside a deep network of the same fields."""

    def pair(self, hist: Any, item: Any) -> Any:
        fields = fields_of(hist, item)
        second = ops.square(ops.sum(fields, axis=1)) - ops.sum(ops.square(fields), axis=1)
        deep = mlp(layers.Flatten()(fields), 64, 32, activation="relu")
        return 0.5 * ops.sum(second, axis=-1, keepdims=True) + deep + layers.Dense(1)(item)


class XDeepFM(Ranker):
    """A compressed interaction network (outer products of fields, compressed) beside a deep network."""

    def pair(self, hist: Any, item: Any) -> Any:
        fields = fields_of(hist, item)
        x, pooled = fields, []
        for maps in (8, 8):
            outer = ops.einsum("bhd,bmd->bdhm", x, fields)
            outer = ops.reshape(outer, (-1, self.width, x.shape[1] * fields.shape[1]))
            x = ops.transpose(layers.Conv1D(maps, 1, activation="relu")(outer), (0, 2, 1))
            pooled.append(ops.sum(x, axis=-1))
        return layers.Dense(1)(ops.concatenate(pooled, axis=-1)) + mlp(layers.Flatten()(fields), 64, 32)


class AutoInt(Ranker):
    """Self-attention over the fields, with residuals."""

    repeat = staticmethod(tiled)

    def pair(self, hist: Any, item: Any) -> Any:
        x = fields_of(hist, item)
        for _ in range(2):
            x = ops.relu(layers.MultiHeadAttention(2, 8)(x, x) + layers.Dense(self.width, use_bias=False)(x))
        return layers.Dense(1)(layers.Flatten()(x))


class PNN(Ranker):
    """Product-based network: inner and outer products of the fields, then a network."""

    def pair(self, hist: Any, item: Any) -> Any:
        fields = fields_of(hist, item)
        left, right = pairs_of(fields)
        inner = ops.sum(left * right, axis=-1)
        total = ops.sum(fields, axis=1)
        outer = ops.reshape(total[:, :, None] * total[:, None, :], (-1, self.width * self.width))
        outer = layers.Dense(16)(outer)
        return mlp(ops.concatenate([layers.Flatten()(fields), inner, outer], -1), 64, 32, activation="relu")


class FiBiNET(Ranker):
    """Squeeze-excitation of the fields, then bilinear products of all pairs."""

    def pair(self, hist: Any, item: Any) -> Any:
        fields = fields_of(hist, item)
        squeezed = ops.mean(fields, axis=-1)
        excited = layers.Dense(6, activation="relu")(layers.Dense(3, activation="relu")(squeezed))
        products = []
        for x in (fields, fields * excited[..., None]):
            left, right = pairs_of(x)
            products.append(layers.Flatten()(layers.Dense(self.width, use_bias=False)(left) * right))
        return mlp(ops.concatenate(products, axis=-1), 48, activation="relu")


class FinalMLP(Ranker):
    """Two streams, each gated by one side, joined by a bilinear fusion with heads."""

    heads = 2

    def pair(self, hist: Any, item: Any) -> Any:
        x = ops.concatenate([mean_of(hist), hist[:, -1], item], axis=-1)
        gates = [
            2 * layers.Dense(x.shape[-1], activation="sigmoid")(layers.Dense(24, activation="relu")(side))
            for side in (mean_of(hist), item)
        ]
        first, second = (
            layers.Dense(32)(layers.BatchNormalization()(layers.Dense(64, activation="relu")(x * gate)))
            for gate in gates
        )
        size = 32 // self.heads
        first = ops.reshape(first, (-1, self.heads, size))
        second = ops.reshape(second, (-1, self.heads, size))
        mixed = layers.EinsumDense("bhd,hde->bhe", output_shape=(self.heads, size))(first)
        fused = ops.sum(mixed * second, axis=(1, 2))[:, None]
        return fused + layers.Dense(1)(layers.Flatten()(first)) + layers.Dense(1)(layers.Flatten()(second))
