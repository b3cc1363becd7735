"""Scorers whose work is the user's sequence: transformers, recurrence, convolutions, several interests."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from zoo.base import Ranker, Tensors, one_row
from zoo.blocks import (
    CapsuleRouting,
    PositionEmbedding,
    attend,
    mask_of,
    mean_of,
    mlp,
    register,
    transformer_block,
)


class SASRec(Ranker):
    """Two causal transformer layers; its states and the candidate meet in attention and an MLP."""

    events, width = 20, 32

    def user(self, item_ids: Any) -> dict[str, Any]:
        mask = item_ids > 0
        x = PositionEmbedding()(self.embedded(item_ids) * self.width**0.5)
        for _ in range(2):
            x = transformer_block(x, mask[:, None], causal=True)
        x = x * ops.cast(mask, "float32")[..., None]
        return {"hist": x, "user": x[:, -1]}

    def pair(self, hist: Any, user: Any, item: Any) -> Any:
        attended = attend(hist, layers.Dense(self.width)(item))
        x = ops.concatenate([attended, user, item, user * item, attended * item], axis=-1)
        return mlp(x, 64, 32)


def rotated(x: Any) -> Any:
    """Rotary positions: neighbours of [B, L, H, E] are turned by an angle that grows with the position."""
    angles = np.arange(x.shape[1])[:, None, None] / 10_000.0 ** (np.arange(0, x.shape[-1], 2) / x.shape[-1])
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    even, odd = x[..., ::2], x[..., 1::2]
    return ops.reshape(
        ops.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1), (-1, *x.shape[1:])
    )


class Rotary(Ranker):
    """A causal layer with rotary positions, RMS norm and a gated network; the candidate is the last event."""

    width, heads = 32, 2

    def pair(self, hist: Any, item: Any) -> Any:
        events = ops.concatenate([hist, item[:, None]], axis=1)
        length, size = events.shape[1], self.width // self.heads
        normed = layers.RMSNormalization()(events)
        query, key, value = (
            layers.EinsumDense("ble,ehd->blhd", (length, self.heads, size))(normed) for _ in range(3)
        )
        logits = ops.einsum("bihd,bjhd->bhij", rotated(query), rotated(key)) / size**0.5
        causal = np.triu(np.full((length, length), -1e9, np.float32), 1)
        found = ops.einsum("bhij,bjhd->bihd", ops.softmax(logits + causal), value)
        x = events + layers.Dense(self.width)(ops.reshape(found, (-1, length, self.width)))
        last = layers.RMSNormalization()(x)[:, -1]
        gated = layers.Dense(48, activation="silu")(last) * layers.Dense(48)(last)
        return layers.Dense(1)(ops.concatenate([x[:, -1], layers.Dense(self.width)(gated)], axis=-1))


class BERT4Rec(Ranker):
    """A bidirectional encoder with a mask token behind the events; the score is a dot product alone."""

    width = 32

    def user(self, item_ids: Any) -> dict[str, Any]:
        events = self.embedded(item_ids)
        token = layers.Embedding(1, self.width)(ops.zeros_like(item_ids[:, :1]))
        x = PositionEmbedding()(ops.concatenate([events, token], axis=1))
        there = ops.concatenate([item_ids > 0, ops.ones_like(item_ids[:, :1]) > 0], axis=1)
        x = transformer_block(transformer_block(x, there[:, None]), there[:, None])
        return {"user": layers.Dense(self.width, activation="gelu")(x[:, -1])}

    def pair(self, user: Any, item: Any) -> Any:
        return layers.Dot(axes=-1)([user, item])


@register
class Encoder(keras.Model):
    """A transformer over the events, as people subclass it."""

    def __init__(self, events: int, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.sizes = {"events": events, "width": width}
        self.positions = layers.Embedding(events, width)
        self.attention = layers.MultiHeadAttention(2, width // 2)
        self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
        self.feed_forward = keras.Sequential(
            [layers.Dense(2 * width, activation="gelu"), layers.Dense(width)]
        )

    def call(self, x: Any, there: Any, training: bool = False) -> Any:
        x = x + self.positions(tf.range(tf.shape(x)[1]))
        attended = self.attention(x, x, attention_mask=there[:, tf.newaxis], training=training)
        x = self.norms[0](x + attended)
        return self.norms[1](x + self.feed_forward(x))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.sizes}


@register
class EventNetwork(keras.Model):
    """Scores each event against the candidate; the score is the log of the sum of their exponentials."""

    def __init__(self, width: int, **options: Any) -> None:
        super().__init__(**options)
        self.width = width
        self.query = layers.Dense(width)
        self.head = keras.Sequential([layers.Dense(32, activation="gelu"), layers.Dense(1)])

    def call(self, inputs: Tensors) -> Any:
        hist, item = inputs["hist"], inputs["item"]
        logits = tf.matmul(hist, self.query(item)[..., tf.newaxis])[..., 0]
        logits = tf.where(inputs["mask"], logits, tf.constant(-1e9))
        nearest = tf.reduce_logsumexp(logits, axis=-1, keepdims=True)
        return nearest + self.head(tf.concat([tf.reduce_mean(hist, axis=1), item], axis=-1))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}


class EncoderSubclassed(Ranker):
    """A transformer of the user and a network of pairs, both subclasses of keras.Model."""

    @property
    def user_features(self) -> dict[str, tf.TensorSpec]:
        return {"item_ids": tf.TensorSpec([self.events], tf.int64)}

    @property
    def user_state(self) -> dict[str, tf.TensorSpec]:
        hist = tf.TensorSpec([self.events, self.width], tf.float32)
        return {"hist": hist, "mask": tf.TensorSpec([self.events], tf.bool)}

    def build_user(self) -> keras.Model:
        network = Encoder(self.events, self.width, name="encoder")
        ids = tf.ones([2, self.events], tf.int64)
        network(self.items(ids), ids > 0)
        return network

    def build_pair(self) -> keras.Model:
        network = EventNetwork(self.width, name="events")
        state = {name: tf.zeros([2, *spec.shape], spec.dtype) for name, spec in self.user_state.items()}
        network({**state, "item": tf.zeros([2, self.width])})
        return network

    def embed_user(self, features: Tensors) -> Tensors:
        ids = features["item_ids"]
        return {"hist": self.user_net(self.items(ids), ids > 0, training=False), "mask": ids > 0}


class GRU4Rec(Ranker):
    """The last state of a GRU, and a dot product with a bias of the item."""

    width = 32

    def user(self, item_ids: Any) -> dict[str, Any]:
        return {"user": layers.GRU(self.width)(self.embedded(item_ids))}

    def pair(self, user: Any, item: Any) -> Any:
        return ops.sum(user * item, axis=-1, keepdims=True) + layers.Dense(1)(item)


class GRU4RecLong(GRU4Rec):
    """GRU4Rec over 100 events."""

    events = 100


class LSTMUser(Ranker):
    """A masked bidirectional LSTM in the user's part, an MLP in the scorer."""

    def user(self, item_ids: Any) -> dict[str, Any]:
        recurrent = layers.Bidirectional(layers.LSTM(self.width))
        return {"user": recurrent(self.items(item_ids), mask=item_ids > 0)}

    def pair(self, user: Any, item: Any) -> Any:
        user = layers.Dense(self.width, activation="tanh")(user)
        return mlp(ops.concatenate([user, item, user * item], axis=-1), 64, 32, activation="relu")


class Caser(Ranker):
    """Convolutions over the history, along time and along the embedding, in the scorer."""

    def pair(self, hist: Any, item: Any) -> Any:
        along = [
            layers.GlobalMaxPooling1D()(layers.Conv1D(8, size, activation="relu")(hist)) for size in (2, 3, 4)
        ]
        across = layers.Flatten()(layers.Conv1D(4, 1)(layers.Permute((2, 1))(hist)))
        user = layers.Dense(self.width, activation="relu")(ops.concatenate([*along, across], axis=-1))
        return ops.sum(layers.Dense(2 * self.width)(ops.concatenate([user, item], -1)), -1, keepdims=True) + (
            layers.Dot(axes=1)([user, item])
        )


class ComiRec(Ranker):
    """Self-attention finds four interests; the score is the largest of their products with the candidate."""

    interests, width = 4, 32

    def user(self, item_ids: Any) -> dict[str, Any]:
        hist = self.embedded(item_ids)
        hidden = layers.Dense(64, activation="tanh")(PositionEmbedding()(hist))
        logits = layers.Dense(self.interests)(hidden)
        weights = ops.softmax(ops.where((item_ids > 0)[..., None], logits, -1e9), axis=1)
        return {"interests": ops.einsum("blk,ble->bke", weights, hist)}

    def pair(self, interests: Any, item: Any) -> Any:
        return ops.max(ops.einsum("bke,be->bk", interests, item), axis=-1, keepdims=True)


class MIND(Ranker):
    """Capsule routing finds the interests; label-aware attention (a power of the products) joins them."""

    repeat = staticmethod(one_row)
    inner: ClassVar[int] = 32

    def user(self, item_ids: Any) -> dict[str, Any]:
        interests = CapsuleRouting(4, 3)(self.embedded(item_ids))
        profile = layers.Dense(self.width)(mean_of(self.embedded(item_ids)))
        return {"interests": layers.Dense(self.width, activation="relu")(interests) + profile[:, None]}

    def pair(self, interests: Any, item: Any) -> Any:
        products = ops.sum(interests * item[:, None], axis=-1)
        weights = ops.softmax(ops.power(ops.abs(products), 2.0))
        user = ops.sum(weights[..., None] * interests, axis=1)
        return ops.sum(user * item, axis=-1, keepdims=True)


class LastEvents(Ranker):
    """The mean of the events, the last and the last but one; the plainest sequence model there is."""

    def pair(self, hist: Any, item: Any) -> Any:
        there = ops.cast(mask_of(hist), "float32")
        recent = ops.power(0.8, ops.flip(ops.cumsum(ops.flip(there, axis=1), axis=1), axis=1)) * there
        decayed = ops.sum(hist * recent[..., None], axis=1) / (ops.sum(recent, axis=1, keepdims=True) + 1.0)
        users = ops.concatenate([decayed, hist[:, -1], hist[:, -2]], axis=-1)
        return mlp(ops.concatenate([users, item, decayed * item], axis=-1), 48, activation="selu")
