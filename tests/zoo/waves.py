"""Scorers of angles, complex numbers and frequencies."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from zoo.base import Arrays, Ranker, Tensors
from zoo.blocks import mask_of, mean_of, mlp, register
from zoo.crosses import fields_of

_DAY = 86_400
_NOW = 1_700_000_000


class EulerNet(Ranker):
    """EulerNet: fields as complex numbers in polar form; sums of their phases, products of their moduli."""

    def pair(self, hist: Any, item: Any) -> Any:
        phases = fields_of(hist, item)
        real, imaginary = ops.cos(phases), ops.sin(phases)
        for _ in range(2):
            modulus = 0.5 * ops.log(ops.square(real) + ops.square(imaginary) + 1e-3)
            modulus, phase = (self._mixed(x) for x in (modulus, ops.arctan2(imaginary, real)))
            real, imaginary = (ops.exp(0.5 * modulus) * wave(phase) for wave in (ops.cos, ops.sin))
            real, imaginary = ops.leaky_relu(real), ops.leaky_relu(imaginary)
        return sum(layers.Dense(1)(layers.Flatten()(each)) for each in (real, imaginary))

    def _mixed(self, x: Any) -> Any:
        return ops.transpose(layers.Dense(5)(ops.transpose(x, (0, 2, 1))), (0, 2, 1))


class EulerNetComplex(Ranker):
    """EulerNet by complex64: logarithms of complex fields are mixed, and their exponentials turned back."""

    orders = 5

    def pair(self, hist: Any, item: Any) -> Any:
        phases = fields_of(hist, item)
        mixed = layers.Dense(2 * self.orders)(
            ops.transpose(ops.concatenate(self._polar(phases), -1), (0, 2, 1))
        )
        real, imaginary = (ops.transpose(x, (0, 2, 1)) for x in ops.split(mixed, 2, axis=-1))
        back = layers.Lambda(lambda x: self._exponential(*x))([real, imaginary])
        return mlp(layers.Flatten()(back), 16)

    def _polar(self, phases: Any) -> list[Any]:
        def polar(x: tf.Tensor) -> list[tf.Tensor]:
            z = tf.complex(tf.cos(x), tf.sin(x)) * tf.complex(1.0 + 0.1 * x, 0.0)
            return [tf.math.log(tf.abs(z) + 1e-3), tf.math.angle(z)]

        return list(layers.Lambda(polar)(phases))

    def _exponential(self, real: tf.Tensor, imaginary: tf.Tensor) -> tf.Tensor:
        z = tf.exp(tf.complex(tf.tanh(real), imaginary))
        return tf.concat([tf.math.real(z), tf.math.imag(z)], axis=-1)


class RotatE(Ranker):
    """RotatE: the user's events turn the item, number by number, towards what the user wants."""

    def pair(self, hist: Any, item: Any) -> Any:
        turn = np.pi * layers.Dense(self.width // 2, activation="tanh")(hist[:, -1])
        real, imaginary = ops.split(layers.Dense(self.width)(item), 2, axis=-1)
        wanted, wanted_too = ops.split(mean_of(hist), 2, axis=-1)
        away = real * ops.cos(turn) - imaginary * ops.sin(turn) - wanted
        away_too = real * ops.sin(turn) + imaginary * ops.cos(turn) - wanted_too
        moduli = ops.sqrt(ops.square(away) + ops.square(away_too) + 1e-9)
        return 6.0 - ops.sum(moduli, axis=-1, keepdims=True)


class ComplEx(Ranker):
    """ComplEx: the real part of a product of three complex vectors, by complex64."""

    def pair(self, hist: Any, item: Any) -> Any:
        def product(x: tuple[tf.Tensor, ...]) -> tf.Tensor:
            user, relation, other = (tf.complex(*tf.split(each, 2, axis=-1)) for each in x)
            return tf.math.real(tf.reduce_sum(user * relation * tf.math.conj(other), -1, keepdims=True))

        relation = layers.Dense(self.width, activation="tanh")(mean_of(hist) * item)
        return layers.Lambda(product)([mean_of(hist), relation, item])


class HolE(Ranker):
    """HolE: a circular correlation of user and item, by real Fourier transforms."""

    def pair(self, hist: Any, item: Any) -> Any:
        (a, b), (c, d) = ops.rfft(mean_of(hist)), ops.rfft(layers.Dense(self.width)(item))
        correlated = ops.irfft((a * c + b * d, a * d - b * c))
        return mlp(ops.concatenate([correlated, item], axis=-1), 32)


@register
class FrequencyFilter(layers.Layer):
    """A learned filter over the frequencies of a sequence."""

    def build(self, shape: Any) -> None:
        frequencies = (shape[1] // 2 + 1, shape[2])
        self.real = self.add_weight(shape=frequencies, name="real")
        self.imaginary = self.add_weight(shape=frequencies, name="imaginary")

    def call(self, x: Any) -> Any:
        waves = tf.signal.rfft(tf.transpose(x, [0, 2, 1]))
        waves *= tf.transpose(
            tf.complex(tf.convert_to_tensor(self.real), tf.convert_to_tensor(self.imaginary))
        )
        return tf.transpose(tf.signal.irfft(waves, [x.shape[1]]), [0, 2, 1])


class FMLPRec(Ranker):
    """FMLP-Rec: filters over the frequencies of the sequence, of which the candidate is the last, twice."""

    def pair(self, hist: Any, item: Any) -> Any:
        x = ops.concatenate([hist, item[:, None]], axis=1)
        for _ in range(2):
            x = layers.LayerNormalization()(x + FrequencyFilter()(x))
            hidden = layers.Dense(self.width, activation="gelu")(x)
            x = layers.LayerNormalization()(x + layers.Dense(self.width)(hidden))
        return mlp(ops.concatenate([x[:, -1], item], axis=-1), 16)


@register
class Time2Vec(layers.Layer):
    """A number as a line and sines of it, with learned frequencies and phases."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape: Any) -> None:
        self.frequencies = self.add_weight(shape=(1, self.units), name="frequencies")
        self.phases = self.add_weight(shape=(self.units,), name="bias")

    def call(self, x: Any) -> Any:
        angles = ops.matmul(x[..., None], self.frequencies) + self.phases
        return ops.concatenate([angles[..., :1], ops.sin(angles[..., 1:])], axis=-1)


class TimeWaves(Ranker):
    """Time2Vec of the days between each event and the item's birth, in the keys of an attention."""

    item_state: ClassVar[dict[str, tf.TensorSpec]] = {"born": tf.TensorSpec([], tf.int64)}

    def inputs(self) -> dict[str, keras.KerasTensor]:
        return {**super().inputs(), "times": keras.Input([self.events], dtype="int64", name="times")}

    def user(self, item_ids: Any, times: Any) -> dict[str, Any]:
        return {"hist": self.embedded(item_ids), "times": times}

    def pair(self, hist: Any, times: Any, born: Any, item: Any) -> Any:
        days = ops.cast(times - born[:, None], "float32") / _DAY
        waves = Time2Vec(8)(days)
        logits = ops.einsum("ble,be->bl", hist, item) + layers.Dense(1)(waves)[..., 0]
        weights = ops.softmax(ops.where(mask_of(hist), logits, -1e9))
        attended = ops.einsum("bl,ble->be", weights, ops.concatenate([hist, waves], axis=-1))
        return mlp(ops.concatenate([attended, item], axis=-1), 32)

    def draw(self, random: np.random.Generator, users: int) -> Arrays:
        features = super().draw(random, users)
        features["times"] = _NOW + random.integers(0, 40 * _DAY, (users, self.events))
        return features

    def embed_item(self, features: Tensors) -> Any:
        return super().embed_item(features), {"born": _NOW + features["item_ids"] * 977}


class FourierPrices(Ranker):
    """Fourier features of how far the item's price is from what each event cost."""

    item_state: ClassVar[dict[str, tf.TensorSpec]] = {"price": tf.TensorSpec([], tf.float32)}

    def inputs(self) -> dict[str, keras.KerasTensor]:
        return {**super().inputs(), "paid": keras.Input([self.events], name="paid")}

    def user(self, item_ids: Any, paid: Any) -> dict[str, Any]:
        return {"hist": self.embedded(item_ids), "paid": ops.log1p(paid)}

    def pair(self, hist: Any, paid: Any, price: Any, item: Any) -> Any:
        distance = paid - ops.log1p(price)[:, None]
        angles = layers.Dense(6, use_bias=False)(distance[..., None]) * (2 * np.pi)
        waves = ops.concatenate([ops.cos(angles), ops.sin(angles)], axis=-1)
        x = layers.Dense(16, activation="relu")(ops.concatenate([waves, hist * item[:, None]], axis=-1))
        return mlp(ops.concatenate([ops.sum(x, axis=1), item], axis=-1), 24)

    def embed_item(self, features: Tensors) -> Any:
        price = tf.cast(features["item_ids"] * 7919 % 1000, tf.float32) / 10.0
        return super().embed_item(features), {"price": price}
