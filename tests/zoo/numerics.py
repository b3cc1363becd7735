"""Scorers of narrow types, and of every norm and activation that is in use."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import tensorflow as tf
from keras import layers, ops

from zoo.base import Ranker, Tensors
from zoo.blocks import Dice, attend, mean_of, mlp


class Narrow(Ranker):
    """Attention and an MLP under one of Keras' dtype policies."""

    policy: ClassVar[str]

    def __init__(self, seed: int | None = 0) -> None:
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.policy)
        try:
            super().__init__(seed)
        finally:
            keras.config.set_dtype_policy(before)

    def pair(self, hist: Any, item: Any) -> Any:
        attention = layers.MultiHeadAttention(2, self.width // 2)
        attended = attention(item[:, None], hist)[:, 0]
        item = layers.Dense(self.width)(item)
        x = layers.LayerNormalization()(ops.concatenate([attended, item, attended * item], axis=-1))
        return layers.Dense(1)(layers.Dense(32, activation="relu")(layers.Dense(48, activation="gelu")(x)))


class MixedFloat16(Narrow):
    """mixed_float16: float32 weights, float16 sums; the user's state is float16 too."""

    policy = "mixed_float16"


class MixedBfloat16(Narrow):
    """mixed_bfloat16 with a last layer in float32, as Keras' guide advises."""

    policy = "mixed_bfloat16"

    def user(self, item_ids: Any) -> dict[str, Any]:
        return {"hist": ops.cast(self.embedded(item_ids), "float32")}

    def pair(self, hist: Any, item: Any) -> Any:
        return layers.Activation("linear", dtype="float32")(super().pair(hist, item))

    def item(self, item_ids: Any) -> Any:
        return ops.cast(self.items(item_ids), "float32")


class Float16(Narrow):
    """float16 weights and sums."""

    policy = "float16"

    def score(self, user_state: Tensors, item_embs: tf.Tensor) -> tf.Tensor:
        return super().score(user_state, tf.cast(item_embs, tf.float16))


class Norms(Ranker):
    """Layer, group, RMS, unit and batch norm, and an RMS norm by hand."""

    def pair(self, hist: Any, item: Any) -> Any:
        user = mean_of(hist)
        x = layers.LayerNormalization()(layers.Dense(32)(ops.concatenate([user, item, user * item], axis=-1)))
        x = layers.GroupNormalization(groups=4)(layers.Dense(32, activation="relu")(x)) + x
        x = layers.RMSNormalization()(layers.Dense(32, activation="relu")(x)) + x
        y = layers.Dense(32, activation="relu")(x)
        x = y * ops.rsqrt(ops.mean(ops.square(y), axis=-1, keepdims=True) + 1e-6) + x
        x = layers.BatchNormalization(scale=False)(x)
        x = layers.UnitNormalization()(layers.Dense(24)(x)) * 4.0
        return layers.Dense(1)(x)


class Activations(Ranker):
    """Exact and tanh GELU, SiLU, softplus, ELU, SELU, mish, PReLU, Dice and others, one after the other."""

    def pair(self, hist: Any, item: Any) -> Any:
        user = mean_of(hist)
        x = ops.concatenate([user, item, user * item], axis=-1)
        functions = [
            lambda y: ops.gelu(y, approximate=False),
            lambda y: ops.gelu(y, approximate=True),
            ops.silu,
            ops.softplus,
            ops.elu,
            ops.selu,
            ops.relu6,
            ops.hard_sigmoid,
            ops.softsign,
            lambda y: y * ops.tanh(ops.softplus(y)),
            lambda y: ops.log(1.0 + ops.exp(-ops.abs(y))),
        ]
        x = layers.Dense(24)(x)
        for function in functions:
            x = x + layers.Dense(24)(function(x))
        x = layers.PReLU()(layers.Dense(24)(x))
        x = layers.LeakyReLU(negative_slope=0.1)(layers.Dense(24)(Dice()(x)))
        return layers.Dense(1)(x)


class SquaredDistance(Ranker):
    """A distance to an attended centre, log-odds of a Cauchy kernel; comparisons and clips beside it."""

    def pair(self, hist: Any, item: Any) -> Any:
        centre = attend(hist, layers.Dense(self.width)(item))
        square = ops.sum(ops.square(item - centre), axis=-1, keepdims=True)
        near = ops.cast(ops.less(square, 1.5), "float32")
        same = ops.cast(ops.equal(ops.sign(item), ops.sign(centre)), "float32")
        agreed = ops.mean(same, axis=-1, keepdims=True)
        bounded = ops.clip(mlp(ops.concatenate([item, centre], axis=-1), 24, activation="tanh"), -2.0, 2.0)
        return bounded + 0.2 * near * agreed - ops.log1p(square)
