"""Scorers that choose, sort, shift and count: what ranking code does besides products of matrices."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from zoo.base import Arrays, Ranker, Tensors
from zoo.blocks import mask_of, mean_of, mlp


class NearestEvents(Ranker):
    """The three events nearest to the candidate by top_k and take_along_axis, behind their similarities."""

    def pair(self, hist: Any, item: Any) -> Any:
        similar = ops.einsum("ble,be->bl", hist, layers.Dense(self.width)(item))
        best, where = ops.top_k(similar, 3)
        nearest = ops.take_along_axis(hist, where[..., None], axis=1)
        x = ops.concatenate([layers.Flatten()(nearest), best, item], axis=-1)
        return mlp(x, 32) + ops.logsumexp(similar, axis=-1, keepdims=True)


class HardInterest(Ranker):
    """ComiRec in training: the one interest that is nearest to the candidate, by argmax and one_hot."""

    interests = 4

    def user(self, item_ids: Any) -> dict[str, Any]:
        hist = self.embedded(item_ids)
        weights = ops.softmax(layers.Dense(self.interests)(layers.Dense(16, "tanh")(hist)), axis=1)
        return {"interests": ops.einsum("blk,ble->bke", weights, hist)}

    def pair(self, interests: Any, item: Any) -> Any:
        near = ops.einsum("bke,be->bk", interests, item)
        which = ops.one_hot(ops.argmax(near, axis=-1), self.interests)
        chosen = ops.sum(interests * which[..., None], axis=1)
        return mlp(ops.concatenate([chosen, item, chosen * item], axis=-1), 32)


class Sparsemax(Ranker):
    """Attention by sparsemax, which sorts; a gated linear unit, and an entropy by xlogy."""

    def pair(self, hist: Any, item: Any) -> Any:
        similar = ops.einsum("ble,be->bl", hist, item)
        attended = ops.einsum("bl,ble->be", ops.sparsemax(similar), hist)
        share = ops.softmax(similar)
        entropy = layers.Lambda(lambda p: -tf.reduce_sum(tf.math.xlogy(p, p), -1, keepdims=True))(share)
        return mlp(ops.glu(ops.concatenate([attended, item], axis=-1)), 16) + entropy


class BiLSTMPairs(Ranker):
    """A bidirectional LSTM over the products of events and candidate, inside the score."""

    events = 8

    def pair(self, hist: Any, item: Any) -> Any:
        pairs = hist * layers.RepeatVector(self.events)(item)
        states = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(pairs)
        return mlp(ops.concatenate([layers.GlobalMaxPooling1D()(states), item], axis=-1), 24)


class ConvPairs(Ranker):
    """Convolutions over pairs of event and candidate: padded, causal and dilated, in strides, then pooled."""

    def pair(self, hist: Any, item: Any) -> Any:
        x = layers.Concatenate()([hist, hist * layers.RepeatVector(self.events)(item)])
        x = layers.Conv1D(16, 3, padding="same", activation="relu")(x)
        slow = layers.Conv1D(8, 3, padding="causal", dilation_rate=2, activation="relu")(x)
        fast = layers.MaxPooling1D(2)(layers.Conv1D(8, 3, strides=2)(x))
        both = [layers.Flatten()(each) for each in (layers.AveragePooling1D(3)(slow), fast)]
        return mlp(ops.concatenate([*both, item], axis=-1), 24)


class SeparablePairs(Ranker):
    """Separable and depthwise convolutions over the products of events and candidate."""

    def pair(self, hist: Any, item: Any) -> Any:
        x = hist * layers.RepeatVector(self.events)(item)
        x = layers.SeparableConv1D(16, 3, padding="same", activation="relu")(x)
        x = layers.DepthwiseConv1D(3)(x)
        pooled = [layers.GlobalMaxPooling1D()(x), layers.GlobalAveragePooling1D()(x)]
        return mlp(ops.concatenate([*pooled, item], axis=-1), 24)


class Poincare(Ranker):
    """HyperML: the distance of two points in the Poincare ball, by arccosh."""

    def pair(self, hist: Any, item: Any) -> Any:
        user, item = self._in_ball(mean_of(hist)), self._in_ball(item)
        square = ops.sum(ops.square(user - item), axis=-1, keepdims=True)
        left, right = (1 - ops.sum(ops.square(x), axis=-1, keepdims=True) for x in (user, item))
        return -ops.arccosh(1 + 2 * square / (left * right))

    def _in_ball(self, x: Any) -> Any:
        norm = ops.norm(x, axis=-1, keepdims=True)
        return 0.9 * x * ops.tanh(norm) / (norm + 1e-6)


class Quantiles(Ranker):
    """Quantiles that cannot cross, by cumsum; survival by cumprod of hazards; the median of heads by sort."""

    def pair(self, hist: Any, item: Any) -> Any:
        x = ops.concatenate([mean_of(hist), item, mean_of(hist) * item], axis=-1)
        x = layers.Dense(32, activation="relu")(x)
        steps = ops.concatenate([layers.Dense(1)(x), ops.softplus(layers.Dense(6)(x))], axis=-1)
        quantiles = ops.cumsum(steps, axis=-1)
        alive = ops.cumprod(1 - ops.sigmoid(layers.Dense(5)(x)), axis=-1)
        middle = ops.sort(layers.Dense(5)(x), axis=-1)[:, 2:3]
        return quantiles[:, 3:4] + ops.sum(alive, axis=-1, keepdims=True) + middle


class NoisyOr(Ranker):
    """Several heads of a model within the model, as a dict; one is a product of what does not happen."""

    def pair(self, hist: Any, item: Any) -> Any:
        x = ops.concatenate([mean_of(hist), hist[:, -1], item, mean_of(hist) * item], axis=-1)
        inputs = keras.Input([x.shape[-1]])
        hidden = layers.Dense(32, activation="mish")(inputs)
        heads = {"click": 1, "order": 1, "causes": 5}
        outputs = {name: layers.Dense(n, activation="sigmoid")(hidden) for name, n in heads.items()}
        task = keras.Model(inputs, outputs)(x)
        return task["click"] * task["order"] + 1 - ops.prod(1 - task["causes"], axis=-1, keepdims=True)


class ShiftedEvents(Ranker):
    """Flips, rolls, pads, tiles, strides and differences of pairs of event and candidate."""

    def pair(self, hist: Any, item: Any) -> Any:
        x = hist * item[:, None]
        turned = ops.flip(x, axis=-1) + ops.roll(x, 1, axis=1) + ops.tile(x[:, ::-1][:, ::2], (1, 2, 1))
        around = ops.pad(x, ((0, 0), (1, 1), (0, 0)))
        change = ops.sum(around[:, 2:] - around[:, :-2], axis=1) + ops.mean(ops.diff(x, axis=1), axis=1)
        return mlp(ops.concatenate([ops.max(turned, axis=1) + change, item], axis=-1), 16)


class RankDiscounts(Ranker):
    """Events weighed by a logarithm of their rank, which two argsorts find; a quantile of similarities."""

    def pair(self, hist: Any, item: Any) -> Any:
        similar = ops.einsum("ble,be->bl", hist, item)
        rank = ops.argsort(ops.argsort(-similar, axis=-1), axis=-1)
        discounts = 1 / ops.log2(ops.cast(rank, "float32") + 2)
        high = ops.quantile(similar, 0.75, axis=-1, keepdims=True)
        weighed = ops.einsum("bl,ble->be", discounts, hist)
        return mlp(ops.concatenate([weighed, high, item], axis=-1), 16)


class GroupedConvs(Ranker):
    """Convolutions of groups of channels, with gaps too; upsampled, cropped, normed over two axes."""

    def pair(self, hist: Any, item: Any) -> Any:
        repeated = layers.RepeatVector(self.events)(item)
        x = layers.Maximum()([hist * repeated, layers.Subtract()([hist, repeated])])
        x = layers.Cropping1D((1, 2))(layers.ZeroPadding1D(2)(layers.UpSampling1D(2)(x)))
        x = layers.GroupNormalization(groups=-1)(layers.LayerNormalization(axis=[1, 2])(x))
        x = layers.Conv1D(8, 3, groups=4, strides=2, activation="relu")(x)
        x = layers.Conv1D(8, 3, groups=2, dilation_rate=2, padding="causal", activation="hard_silu")(x)
        return mlp(ops.concatenate([layers.GlobalMaxPooling1D()(x), item], axis=-1), 16)


class Sessions(Ranker):
    """Sums of pairs of event and candidate by session, by unsorted_segment_sum."""

    def pair(self, hist: Any, item: Any) -> Any:
        def sums(x: Any) -> Any:
            session = tf.constant(np.arange(self.events) // 3)
            return tf.transpose(
                tf.math.unsorted_segment_sum(tf.transpose(x, [1, 0, 2]), session, 4), [1, 0, 2]
            )

        by_session = layers.Lambda(sums, output_shape=(4, self.width))(hist * item[:, None])
        return mlp(layers.Flatten()(by_session), 16)


class TimeGaps(Ranker):
    """Time-aware attention: gaps in buckets with embeddings; events of the item's category are counted."""

    item_state: ClassVar[dict[str, tf.TensorSpec]] = {
        "born": tf.TensorSpec([], tf.int64),
        "category": tf.TensorSpec([], tf.int32),
    }

    def inputs(self) -> dict[str, keras.KerasTensor]:
        return {**super().inputs(), "times": keras.Input([self.events], dtype="int64", name="times")}

    def user(self, item_ids: Any, times: Any) -> dict[str, Any]:
        return {"hist": self.embedded(item_ids), "times": times, "seen": ops.cast(item_ids % 7, "int32")}

    def pair(self, hist: Any, times: Any, seen: Any, item: Any, born: Any, category: Any) -> Any:
        days = ops.cast(times - born[:, None], "float32") / 86_400
        bucket = layers.Discretization([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0])(ops.abs(days))
        events = hist + layers.Embedding(8, self.width)(bucket)
        logits = ops.einsum("ble,be->bl", events, item) + layers.Embedding(8, 1)(bucket)[..., 0]
        weights = ops.softmax(ops.where(mask_of(hist), logits, -1e9))
        count = ops.sum(ops.cast(ops.equal(seen, category[:, None]), "int32"), axis=1)
        parts = [layers.Embedding(7, 8)(category), layers.Embedding(13, 4)(count)]
        return mlp(ops.concatenate([ops.einsum("bl,ble->be", weights, hist), item, *parts], axis=-1), 32)

    def draw(self, random: np.random.Generator, users: int) -> Arrays:
        features = super().draw(random, users)
        features["times"] = 1_700_000_000 + random.integers(0, 40 * 86_400, (users, self.events))
        return features

    def embed_item(self, features: Tensors) -> Any:
        rows = features["item_ids"]
        state = {"born": 1_700_000_000 + rows * 977, "category": tf.cast(rows % 7, tf.int32)}
        return super().embed_item(features), state


class Branching(keras.Model):
    """Another query for users without events, and a form that a constant decides for."""

    def __init__(self, width: int, *, gated: bool) -> None:
        super().__init__(name="branching")
        self.width, self.is_gated = width, tf.constant(gated)
        self.queries = [layers.Dense(width, name=f"query_{number}") for number in range(2)]
        self.head = keras.Sequential([layers.Dense(16, "relu"), layers.Dense(1)])

    @tf.function
    def joined(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.cond(self.is_gated, lambda: x * tf.sigmoid(y), lambda: x + y)

    def call(self, inputs: Tensors, training: bool | None = None) -> tf.Tensor:
        hist, item = inputs["hist"], inputs["item"]
        is_cold = tf.reduce_all(tf.equal(hist[0, :-1], 0.0))
        queries = [layer(item) for layer in self.queries]
        query = tf.cond(is_cold, lambda: 0.5 * queries[0], lambda: self.joined(*queries))
        by_event = tf.transpose(hist, [1, 0, 2])
        logits = tf.map_fn(lambda event: tf.reduce_sum(event * query, axis=-1), by_event)
        attended = tf.einsum("lb,lbe->be", tf.nn.softmax(logits, axis=0), by_event)
        return self.head(tf.concat([attended, item], axis=-1))


class Branches(Ranker):
    """A subclass of keras.Model with tf.cond, tf.map_fn over the events and a method as tf.function."""

    def build_pair(self) -> keras.Model:
        network = Branching(self.width, gated=True)
        network({"hist": tf.ones([2, self.events, self.width]), "item": tf.ones([2, self.width])})
        return network
