"""Layers that ranking code shares: masks, pooling, small networks, and layers that Keras lacks."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

register = keras.saving.register_keras_serializable("zoo")


def mask_of(hist: Any) -> Any:
    """Which events are there, bool [B, L]: missing ones are rows of zeros."""
    return ops.any(ops.not_equal(hist, 0.0), axis=-1)


def mean_of(hist: Any, mask: Any | None = None) -> Any:
    """The mean of the events that are there, [B, E]."""
    present = ops.cast(mask_of(hist) if mask is None else mask, hist.dtype)[..., None]
    return ops.sum(hist * present, axis=1) / (ops.sum(present, axis=1) + 1e-6)


def mlp(x: Any, *units: int, activation: str = "gelu", out: int = 1) -> Any:
    """Dense layers with an activation, then one without."""
    for width in units:
        x = layers.Dense(width, activation=activation)(x)
    return layers.Dense(out)(x)


def attend(hist: Any, query: Any, mask: Any | None = None) -> Any:
    """Scaled dot-product attention of one query [B, E] over the events, [B, E]."""
    logits = ops.einsum("ble,be->bl", hist, query) / hist.shape[-1] ** 0.5
    weights = ops.softmax(ops.where(mask_of(hist) if mask is None else mask, logits, -1e9))
    return ops.einsum("bl,ble->be", weights, hist)


def transformer_block(
    x: Any, mask: Any, *, heads: int = 2, activation: str = "gelu", causal: bool = False
) -> Any:
    """Multi-head self-attention and a feed-forward network, each with its residual and layer norm."""
    width = x.shape[-1]
    attention = layers.MultiHeadAttention(heads, width // heads)
    attended = attention(x, x, attention_mask=mask, use_causal_mask=causal)
    x = layers.LayerNormalization(epsilon=1e-6)(x + attended)
    hidden = layers.Dropout(0.1)(layers.Dense(2 * width, activation=activation)(x))
    return layers.LayerNormalization(epsilon=1e-6)(x + layers.Dense(width)(hidden))


@register
class PositionEmbedding(layers.Layer):
    """Adds a learned vector for each position."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=tuple(shape[1:]), name="positions")

    def call(self, x: Any) -> Any:
        return x + self.table

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


@register
class Dice(layers.Layer):
    """DIN's activation: a PReLU whose kink is where a batch norm says."""

    def build(self, shape: Any) -> None:
        self.norm = layers.BatchNormalization(center=False, scale=False, epsilon=1e-8)
        self.norm.build(shape)
        self.alpha = self.add_weight(shape=(shape[-1],), initializer="zeros", name="alpha")

    def call(self, x: Any, training: bool = False) -> Any:
        p = ops.sigmoid(self.norm(x, training=training))
        return p * x + (1 - p) * self.alpha * x


@register
class Temperature(layers.Layer):
    """Divides by a learned temperature."""

    def build(self, shape: Any) -> None:
        self.log_temperature = self.add_weight(shape=(), name="log_temperature")

    def call(self, x: Any) -> Any:
        return x / ops.exp(-self.log_temperature)


@register
class CrossLayer(layers.Layer):
    """DCN-v2: x0 * (W x + b) + x, with W of low rank where asked for."""

    def __init__(self, rank: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.rank = rank

    def build(self, x0_shape: Any, x_shape: Any) -> None:
        width = x0_shape[-1]
        self.down = None if self.rank is None else self.add_weight(shape=(width, self.rank), name="down")
        self.kernel = self.add_weight(shape=(self.rank or width, width), name="kernel")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

    def call(self, x0: Any, x: Any) -> Any:
        inner = x if self.down is None else ops.matmul(x, self.down)
        return x0 * (ops.matmul(inner, self.kernel) + self.bias) + x

    def compute_output_shape(self, x0_shape: Any, x_shape: Any) -> Any:
        return x0_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rank": self.rank}


@register
class CapsuleRouting(layers.Layer):
    """MIND's behaviour-to-interest routing: [B, L, E] events to [B, K, E] interests."""

    def __init__(self, interests: int = 4, iterations: int = 3, **options: Any) -> None:
        super().__init__(**options)
        self.interests, self.iterations = interests, iterations

    def build(self, shape: Any) -> None:
        _, events, width = shape
        self.bilinear = self.add_weight(shape=(width, width), name="bilinear")
        # Fixed random logits tell the interests apart.
        self.start = self.add_weight(shape=(self.interests, events), trainable=False, name="start")

    def call(self, hist: Any) -> Any:
        present = ops.cast(mask_of(hist), hist.dtype)[:, None]
        low = ops.matmul(hist, self.bilinear)
        logits = ops.broadcast_to(self.start, (ops.shape(hist)[0], self.interests, hist.shape[1]))
        high = None
        for step in range(self.iterations):
            weights = ops.softmax(logits, axis=1) * present
            high = squash(ops.einsum("bkl,ble->bke", weights, low))
            if step + 1 < self.iterations:
                logits = logits + ops.einsum("bke,ble->bkl", high, low)
        return high

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "interests": self.interests, "iterations": self.iterations}


def squash(x: Any) -> Any:
    """A capsule's nonlinearity: keeps the direction, squeezes the length into 0..1."""
    square = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return square / (1 + square) * x / ops.sqrt(square + 1e-9)


@register
class AttentionalGRUCell(layers.Layer):
    """DIEN's AUGRU: the input's last column is the attention, which scales the update gate."""

    def __init__(self, units: int, **options: Any) -> None:
        super().__init__(**options)
        self.units = self.state_size = units

    def build(self, shape: Any) -> None:
        width = shape[-1] - 1 + self.units
        self.gates = self.add_weight(shape=(width, 2 * self.units), name="gates")
        self.candidate = self.add_weight(shape=(width, self.units), name="candidate")
        self.bias = self.add_weight(shape=(3 * self.units,), initializer="zeros", name="bias")

    def call(self, inputs: Any, states: Any) -> Any:
        (h,) = states
        x, attention = inputs[:, :-1], inputs[:, -1:]
        gates = ops.matmul(ops.concatenate([x, h], -1), self.gates) + self.bias[: 2 * self.units]
        update, reset = ops.split(ops.sigmoid(gates), 2, axis=-1)
        new = ops.matmul(ops.concatenate([x, reset * h], -1), self.candidate) + self.bias[2 * self.units :]
        update = attention * update
        h = (1 - update) * h + update * ops.tanh(new)
        return h, [h]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}
