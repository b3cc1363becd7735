"""Scorers in which the candidate looks at the user's events: DIN, DIEN, target attention, BST, SIM, HSTU."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from zoo.base import Ranker, Tensors, broadcast, tiled
from zoo.blocks import (
    AttentionalGRUCell,
    Dice,
    PositionEmbedding,
    attend,
    mask_of,
    mean_of,
    mlp,
    register,
    transformer_block,
)


class DIN(Ranker):
    """Deep Interest Network: a small network on every pair of candidate and event."""

    events, width = 20, 32

    def pair(self, hist: Any, item: Any) -> Any:
        query = layers.RepeatVector(self.events)(item)
        x = ops.concatenate([query, hist, query - hist, query * hist], axis=-1)
        x = layers.PReLU(shared_axes=[1])(layers.Dense(36)(x))
        weights = layers.Dense(1)(x)[..., 0] * ops.cast(mask_of(hist), "float32")
        pooled = ops.sum(weights[..., None] * hist, axis=1)
        return mlp(ops.concatenate([pooled, item, pooled * item], axis=-1), 64, 32)


class DINWithDice(Ranker):
    """DIN as its authors' code has it: sigmoid attention network, softmax over events, Dice, batch norm."""

    def pair(self, hist: Any, item: Any) -> Any:
        query = ops.tile(item[:, None], (1, self.events, 1))
        x = ops.concatenate([query, hist, query - hist, query * hist], axis=-1)
        x = layers.Dense(40, activation="sigmoid")(layers.Dense(80, activation="sigmoid")(x))
        logits = layers.Dense(1)(x) / self.width**0.5
        missing = ops.ones_like(logits) * (-(2.0**32) + 1)
        weights = ops.softmax(ops.where(mask_of(hist)[..., None], logits, missing), axis=1)
        pooled = ops.matmul(ops.transpose(weights, (0, 2, 1)), hist)[:, 0]
        x = layers.BatchNormalization()(ops.concatenate([pooled, item, mean_of(hist)], axis=-1))
        x = Dice()(layers.Dense(64)(x))
        return layers.Dense(1)(Dice()(layers.Dense(32)(x)))


@register
class DINNetwork(keras.Model):
    """DIN as people subclass it: layers in __init__, the work in call."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.attention = keras.Sequential([layers.Dense(36, activation="relu"), layers.Dense(1)])
        self.hidden = [layers.Dense(64, activation="relu"), layers.Dense(32, activation="relu")]
        self.norm = layers.BatchNormalization()
        self.dropout = layers.Dropout(0.2)
        self.out = layers.Dense(1)

    def call(self, inputs: Tensors, training: bool = False) -> Any:
        hist, item = inputs["hist"], inputs["item"]
        query = tf.expand_dims(item, 1)
        pairs = [query * hist, query - hist, hist, tf.tile(query, [1, tf.shape(hist)[1], 1])]
        logits = tf.squeeze(self.attention(tf.concat(pairs, axis=-1)), axis=-1)
        missing = tf.reduce_all(tf.equal(hist, 0.0), axis=-1)
        weights = tf.nn.softmax(logits - 1e9 * tf.cast(missing, tf.float32))
        pooled = tf.reduce_sum(weights[..., tf.newaxis] * hist, axis=1)
        x = self.norm(tf.concat([pooled, item], axis=-1), training=training)
        for layer in self.hidden:
            x = self.dropout(layer(x), training=training)
        return self.out(x)


class DINSubclassed(Ranker):
    """DIN as a subclass of keras.Model."""

    def build_pair(self) -> keras.Model:
        network = DINNetwork(name="din")
        network({"hist": tf.zeros([2, self.events, self.width]), "item": tf.zeros([2, self.width])})
        return network


class DIEN(Ranker):
    """Deep Interest Evolution Network: a GRU in the user's part, and an AUGRU per candidate in the scorer."""

    width = 16
    unroll = False

    def user(self, item_ids: Any) -> dict[str, Any]:
        states = layers.GRU(self.width, return_sequences=True)(self.embedded(item_ids))
        return {"hist": states, "mask": item_ids > 0}

    def pair(self, hist: Any, mask: Any, item: Any) -> Any:
        logits = ops.einsum("ble,be->bl", hist, layers.Dense(self.width, use_bias=False)(item))
        weights = ops.softmax(ops.where(mask, logits, -1e9))[..., None]
        evolution = layers.RNN(AttentionalGRUCell(self.width), unroll=self.unroll)
        evolved = evolution(ops.concatenate([hist, weights], axis=-1))
        return mlp(ops.concatenate([evolved, item, evolved * item], axis=-1), 32, activation="relu")


class DIENUnrolled(DIEN):
    """DIEN with its loop over the events written out."""

    unroll = True


class DIENLong(DIEN):
    """DIEN over 50 events."""

    events = 50


class TargetAttention(Ranker):
    """keras.layers.MultiHeadAttention, the candidate is the query; the mask of the events is a bool state."""

    events, width = 20, 32

    def user(self, item_ids: Any) -> dict[str, Any]:
        return {"hist": self.items(item_ids), "mask": item_ids > 0}

    def pair(self, hist: Any, mask: Any, item: Any) -> Any:
        attention = layers.MultiHeadAttention(num_heads=4, key_dim=16)
        attended = attention(item[:, None], hist, attention_mask=mask[:, None])[:, 0]
        x = layers.LayerNormalization()(item + layers.Dense(self.width)(attended))
        return mlp(ops.concatenate([x, item, x * item], axis=-1), 64, 32)


class BST(Ranker):
    """Behaviour Sequence Transformer: the candidate is one more event of the sequence."""

    repeat = staticmethod(tiled)

    def user(self, item_ids: Any) -> dict[str, Any]:
        return {"hist": self.items(item_ids), "mask": ops.cast(item_ids > 0, "int32")}

    def pair(self, hist: Any, mask: Any, item: Any) -> Any:
        x = PositionEmbedding()(ops.concatenate([hist, item[:, None]], axis=1))
        there = ops.concatenate([mask, ops.ones_like(mask[:, :1])], axis=1)
        x = transformer_block(x, there[:, None], heads=4, activation="leaky_relu")
        x = layers.Flatten()(x * ops.cast(there, "float32")[..., None])
        return mlp(x, 64, 32, activation="leaky_relu")


class SIM(Ranker):
    """Search-based Interest Model: the 8 nearest events of a long history, and a short history."""

    events, short, found = 40, 10, 8

    def user(self, item_ids: Any) -> dict[str, Any]:
        return {"long": self.embedded(item_ids), "short": self.embedded(item_ids[:, -self.short :])}

    def pair(self, long: Any, short: Any, item: Any) -> Any:
        logits = ops.einsum("ble,be->bl", layers.Dense(self.width)(long), layers.Dense(self.width)(item))
        logits = ops.where(mask_of(long), logits, -1e9)
        best, where = ops.top_k(logits, self.found)
        searched = ops.take_along_axis(long, where[..., None], axis=1)
        exact = ops.sum(ops.softmax(best)[..., None] * searched, axis=1)
        attended = attend(short, layers.Dense(self.width)(item))
        return mlp(ops.concatenate([exact, attended, item, exact * item], axis=-1), 64, 32, activation="relu")


class HSTU(Ranker):
    """Hierarchical sequential transduction units over events and candidate: gated SiLU attention."""

    events = 16
    repeat = staticmethod(broadcast)

    def pair(self, hist: Any, item: Any) -> Any:
        x = ops.concatenate([hist, item[:, None]], axis=1)
        there = ops.cast(mask_of(x), "float32")
        for _ in range(2):
            x = self.unit(x, there)
        return mlp(x[:, -1] * item, 32, activation="silu")

    def unit(self, x: Any, there: Any) -> Any:
        """One layer; `there` masks the events that are missing."""
        heads, size = 2, self.width // 2
        normed = layers.LayerNormalization(epsilon=1e-6)(x)
        mixed = layers.Dense(4 * self.width, activation="silu", use_bias=False)(normed)
        parts = ops.split(mixed, 4, axis=-1)
        u, v, q, k = (ops.reshape(part, (-1, self.events + 1, heads, size)) for part in parts)
        logits = ops.einsum("bnhd,bmhd->bhnm", q, k)
        logits = PositionBias()(logits)
        weights = ops.silu(logits) / (self.events + 1) * there[:, None, None]
        attended = ops.reshape(ops.einsum("bhnm,bmhd->bnhd", weights, v), (-1, self.events + 1, self.width))
        gate = ops.reshape(u, (-1, self.events + 1, self.width))
        return x + layers.Dense(self.width)(layers.LayerNormalization(epsilon=1e-6)(attended) * gate)


@register
class PositionBias(layers.Layer):
    """Adds a learned bias for each pair of positions to attention logits [B, H, n, m]."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=tuple(shape[2:]), name="pair_positions")

    def call(self, logits: Any) -> Any:
        return logits + self.table


class Longer(Ranker):
    """LONGER: events merged by threes, the candidate as a global token, cross attention and causal layers."""

    def pair(self, hist: Any, item: Any) -> Any:
        merged = layers.Dense(self.width)(ops.reshape(hist, (-1, self.events // 3, 3 * self.width)))
        x = PositionEmbedding()(ops.concatenate([merged, item[:, None]], axis=1))
        near = layers.MultiHeadAttention(2, self.width // 2)(x[:, -2:], x)
        x = ops.concatenate([x, near], axis=1)
        x = layers.MultiHeadAttention(2, self.width // 2)(x, x, use_causal_mask=True)
        return mlp(layers.Flatten()(x[:, -2:]), 24)


class MemoryAddressing(Ranker):
    """A neural Turing machine's head over the events: similarity, gate, shift and a learned power."""

    def pair(self, hist: Any, item: Any) -> Any:
        head = layers.Dense(16, activation="tanh")(item)
        strength, power = (layers.Dense(1, activation="softplus")(head) for _ in range(2))
        gate, shift = layers.Dense(1, activation="sigmoid")(head), layers.Dense(3, activation="softmax")(head)
        near = layers.Dot(axes=(2, 1), normalize=True)([hist, head])
        weights = gate * ops.softmax(strength * near) + (1 - gate) / self.events
        moved = [ops.roll(weights, by, axis=1) * shift[:, by + 1 : by + 2] for by in (-1, 0, 1)]
        sharp = ops.power(sum(moved), 1 + power)
        read = ops.einsum("bl,ble->be", sharp / ops.sum(sharp, axis=-1, keepdims=True), hist)
        return mlp(ops.concatenate([read, item], axis=-1), 16)


@register
class CodedAttention(layers.Layer):
    """Each of some learned codes attends to the events: [B, codes, E]."""

    def __init__(self, codes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.codes = codes

    def build(self, shape: Any) -> None:
        self.queries = self.add_weight(shape=(self.codes, shape[-1]), name="codes")

    def call(self, hist: Any) -> Any:
        weights = ops.softmax(ops.einsum("ce,ble->bcl", self.queries, hist))
        return ops.einsum("bcl,ble->bce", weights, hist)

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], self.codes, shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "codes": self.codes}


class PolyEncoder(Ranker):
    """Poly-encoder: learned codes attend to the events, the candidate to what they found."""

    events, width = 20, 32

    def pair(self, hist: Any, item: Any) -> Any:
        found = CodedAttention(6)(hist)
        weights = ops.softmax(ops.einsum("be,bce->bc", item, found))
        return ops.sum(ops.einsum("bc,bce->be", weights, found) * item, axis=-1, keepdims=True)
