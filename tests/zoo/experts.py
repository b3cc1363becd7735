"""Scorers of several experts and several tasks: MMoE, PLE, gates of the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from zoo.base import Ranker, Tensors, broadcast
from zoo.blocks import attend, mean_of, mlp, register


def expert(x: Any) -> Any:
    """One expert."""
    return layers.Dense(32, activation="relu")(layers.Dense(48, activation="relu")(x))


def gated(experts: Sequence[Any], gate_input: Any) -> Any:
    """The experts' mean, weighted by a softmax of the gate's input."""
    weights = layers.Dense(len(experts), activation="softmax")(gate_input)
    return ops.sum(ops.stack(experts, axis=1) * weights[..., None], axis=1)


class MMoE(Ranker):
    """Multi-gate mixture of experts: clicks and orders; the score is a product of powers of the two."""

    def pair(self, hist: Any, item: Any) -> Any:
        x = ops.concatenate([attend(hist, layers.Dense(self.width)(item)), mean_of(hist), item], axis=-1)
        experts = [expert(x) for _ in range(4)]
        click, order = (ops.sigmoid(mlp(gated(experts, x), 16)) for _ in range(2))
        return click * ops.power(order, 0.5)


class PLE(Ranker):
    """Progressive layered extraction: two levels of experts, shared and by task; the score is a sum."""

    repeat = staticmethod(broadcast)

    def pair(self, hist: Any, item: Any) -> Any:
        x = ops.concatenate([mean_of(hist), hist[:, -1], item, mean_of(hist) * item], axis=-1)
        tasks, shared = [x, x], x
        for level in range(2):
            common = [expert(shared) for _ in range(2)]
            own = [[expert(task) for _ in range(2)] for task in tasks]
            tasks = [gated([*mine, *common], task) for mine, task in zip(own, tasks, strict=True)]
            if level == 0:
                shared = gated([*own[0], *own[1], *common], shared)
        click, stay = (mlp(task, 16, activation="relu") for task in tasks)
        return ops.log(ops.sigmoid(click) + 1e-6) + 0.3 * ops.softplus(stay)


@register
class SparseGates(layers.Layer):
    """A softmax over the two largest logits of each row, zeros elsewhere, put into place by scatter_nd."""

    def call(self, logits: Any) -> Any:
        values, experts = tf.math.top_k(logits, 2)
        rows = tf.repeat(tf.range(tf.shape(logits)[0])[:, None], 2, axis=1)
        return tf.scatter_nd(tf.stack([rows, experts], axis=-1), tf.nn.softmax(values), tf.shape(logits))


class SparseExperts(Ranker):
    """Two of six experts take part, as in sparsely gated mixtures: the candidate decides with the user."""

    count = 6

    def pair(self, hist: Any, item: Any) -> Any:
        x = ops.concatenate([mean_of(hist), hist[:, -1], item, mean_of(hist) * item], axis=-1)
        gates = SparseGates()(layers.Dense(self.count)(x))
        hidden = layers.EinsumDense("bd,dkh->bkh", (self.count, 32), bias_axes="kh", activation="relu")(x)
        return mlp(ops.sum(hidden * gates[..., None], axis=1), 16)


class UserGatedExperts(Ranker):
    """The gates see the user alone; experts are one EinsumDense."""

    count = 6

    def user(self, item_ids: Any) -> dict[str, Any]:
        user = mean_of(self.embedded(item_ids))
        return {"user": user, "gate": layers.Dense(self.count, activation="softmax")(user)}

    def pair(self, user: Any, gate: Any, item: Any) -> Any:
        x = ops.concatenate([user, item, user * item, ops.abs(user - item)], axis=-1)
        hidden = layers.EinsumDense("bd,dkh->bkh", (self.count, 24), bias_axes="kh", activation="gelu")(x)
        outputs = layers.EinsumDense("bkh,kh->bk", (self.count,), bias_axes="k")(hidden)
        return layers.Dot(axes=1)([outputs, gate])


@register
class TaskNetwork(keras.Model):
    """Two tasks with a shared bottom, as people subclass it; call returns a dict of logits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.bottom = keras.Sequential(
            [layers.Dense(64), layers.BatchNormalization(), layers.Activation("relu"), layers.Dense(32)]
        )
        self.heads = {name: keras.Sequential([layers.Dense(16, "relu"), layers.Dense(1)]) for name in "ab"}

    def call(self, inputs: Tensors, training: bool = False) -> dict[str, Any]:
        user, item = tf.reduce_mean(inputs["hist"], axis=1), inputs["item"]
        x = self.bottom(tf.concat([user, item, user * item], axis=-1), training=training)
        return {name: head(x) for name, head in self.heads.items()}


class TwoTasksSubclassed(Ranker):
    """The score joins what the network returns by task."""

    def build_pair(self) -> keras.Model:
        network = TaskNetwork(name="tasks")
        network({"hist": tf.zeros([2, self.events, self.width]), "item": tf.zeros([2, self.width])})
        return network

    def score(self, user_state: Tensors, item_embs: tf.Tensor) -> tf.Tensor:
        hist = tf.repeat(user_state["hist"][tf.newaxis], tf.shape(item_embs)[0], axis=0)
        logits = self.pair_net({"hist": hist, "item": item_embs}, training=False)
        return tf.squeeze(0.7 * tf.sigmoid(logits["a"]) + 0.3 * tf.sigmoid(logits["b"]), axis=-1)
