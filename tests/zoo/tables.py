"""Scorers that read tables by what the item is, or by what was computed of the pair."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from keras import layers, ops

from zoo.base import Ranker, Tensors
from zoo.blocks import mean_of, mlp, register


@register
class CodebookProducts(layers.Layer):
    """Products of a user's parts with all centres of each codebook, looked up by the item's codes."""

    books, centres = 4, 32

    def build(self, shapes: Any) -> None:
        shape = (self.books, self.centres, shapes[0][-1] // self.books)
        self.codebooks = self.add_weight(shape=shape, name="embeddings")

    def call(self, inputs: Any) -> Any:
        user, codes = inputs
        parts = tf.reshape(user, [-1, self.books, user.shape[-1] // self.books])
        products = tf.einsum("bmd,mkd->bmk", parts, self.codebooks)
        return tf.reduce_sum(tf.gather(products, codes, batch_dims=2), axis=-1, keepdims=True)


class ProductCodes(Ranker):
    """Product quantization: the item is four codes; their products with the user are looked up."""

    item_state: ClassVar[dict[str, tf.TensorSpec]] = {"codes": tf.TensorSpec([4], tf.int32)}

    def pair(self, hist: Any, codes: Any, item: Any) -> Any:
        return CodebookProducts()([mean_of(hist), codes]) + 0.1 * layers.Dense(1)(item)

    def embed_item(self, features: Tensors) -> Any:
        rows = tf.cast(features["item_ids"], tf.int32)
        codes = tf.stack([rows * 7 % 32, rows * 5 % 32, rows % 31, rows % 29], axis=-1)
        return super().embed_item(features), {"codes": codes}


class Calibrated(Ranker):
    """Isotonic calibration of a network's score: searchsorted among knots, and a line between two of them."""

    def pair(self, hist: Any, item: Any) -> Any:
        random = np.random.default_rng(1)
        knots = np.sort(random.uniform(-3, 3, 20)).astype(np.float32)
        shares = np.linspace(0, 1, 20).astype(np.float32)

        def calibrated(score: tf.Tensor) -> tf.Tensor:
            x = tf.clip_by_value(score[:, 0], knots[0], knots[-1])
            left = tf.clip_by_value(tf.searchsorted(knots, x, side="right") - 1, 0, 18)
            (x0, x1), (y0, y1) = ((tf.gather(y, left), tf.gather(y, left + 1)) for y in (knots, shares))
            return (y0 + (x - x0) / (x1 - x0) * (y1 - y0))[:, tf.newaxis]

        score = mlp(ops.concatenate([mean_of(hist), item], axis=-1), 16)
        return layers.Lambda(calibrated, output_shape=(1,))(score)


@register
class ObliviousTrees(layers.Layer):
    """NODE's soft trees, and hard ones: a bit for each comparison, a leaf for each number of those bits."""

    trees, depth = 3, 4

    def build(self, shape: Any) -> None:
        leaves = (self.trees, 2**self.depth)
        self.features = self.add_weight(shape=(shape[-1], self.trees, self.depth), name="features")
        self.thresholds = self.add_weight(shape=(self.trees, self.depth), name="bias")
        self.responses = self.add_weight(shape=leaves, name="responses")
        self.leaves = self.add_weight(shape=leaves, name="leaves")

    def call(self, x: Any) -> Any:
        values = tf.einsum("bi,itd->btd", x, tf.nn.softmax(self.features, axis=0)) - self.thresholds
        bins = tf.nn.sigmoid(4 * tf.stack([values, -values], axis=-1))
        bits = np.arange(2**self.depth)[:, None] >> np.arange(self.depth) & 1
        sides = np.stack([1 - bits, bits], axis=-1).astype(np.float32)
        reached = tf.reduce_prod(tf.einsum("btds,lds->btld", bins, sides), axis=-1)
        place = tf.tensordot(tf.cast(values > 0, tf.int32), 2 ** np.arange(self.depth, dtype=np.int32), 1)
        place += tf.range(self.trees) * 2**self.depth
        hard = tf.gather(tf.reshape(self.leaves, [-1]), place)
        soft = tf.einsum("btl,tl->b", reached, self.responses)
        return (soft + tf.reduce_sum(hard, axis=-1))[:, tf.newaxis]


class Trees(Ranker):
    """Oblivious decision trees over user, item and their product: soft as in NODE, and hard as tables."""

    def pair(self, hist: Any, item: Any) -> Any:
        user = mean_of(hist)
        return ObliviousTrees()(ops.concatenate([user, item, user * item], axis=-1))


@register
class TiedSoftmax(layers.Layer):
    """How probable each category is after the user, by the table that embeds the categories."""

    def __init__(self, table: Any, **options: Any) -> None:
        super().__init__(**options)
        self.table = table

    def call(self, inputs: Any) -> Any:
        user, category = inputs
        logits = tf.matmul(user, self.table.embeddings, transpose_b=True)
        return tf.gather(tf.nn.log_softmax(logits), category, batch_dims=1)[:, tf.newaxis]


class TiedWeights(Ranker):
    """One tower for both sides; a table embeds the item's category and is the softmax over all of them."""

    item_state: ClassVar[dict[str, tf.TensorSpec]] = {"category": tf.TensorSpec([], tf.int32)}

    def pair(self, hist: Any, category: Any, item: Any) -> Any:
        tower, table = layers.Dense(self.width, activation="tanh"), layers.ReversibleEmbedding(9, self.width)
        user, item = tower(mean_of(hist)), tower(item)
        own = ops.sum(table(category) * item, axis=-1, keepdims=True)
        wanted = ops.take_along_axis(table(user, reverse=True), category[:, None], axis=1)
        return layers.Dot(1)([user, item]) + TiedSoftmax(table)([user, category]) + own + wanted

    def embed_item(self, features: Tensors) -> Any:
        category = tf.cast(features["item_ids"] % 9, tf.int32)
        return super().embed_item(features), {"category": category}
