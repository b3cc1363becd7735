"""Mixture of logits: several products of parts of both vectors, weighted by a gate of the pair."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from nann.training._layers import LOG_SCALE
from nann.training._two_tower import EventTowers


class MixtureOfLogits(EventTowers):
    """score(user, item) = sum over k, l of gate(user, item)[k, l] * scale * cosine(user part k, item part l).

    arXiv 2306.04039. The parts are slices of the two vectors after a dense layer each; the gate adds what a
    dense layer makes of the user, of the item, and of the cosines themselves.

    Sizes: those of `TwoTower`, `parts` of each side, and `gate`, the width of the gate's hidden layer.
    """

    def __init__(
        self,
        rows: Mapping[str, int],
        *,
        seed: int = 0,
        sequence_length: int = 50,
        width: int = 64,
        blocks: int = 2,
        heads: int = 2,
        parts: int = 4,
        gate: int = 32,
    ) -> None:
        super().__init__(
            rows, seed=seed, length=sequence_length, width=width, blocks=blocks, heads=heads, name="mixture"
        )
        self._parts = parts
        dense = self.new_layers.dense
        self.user_parts = dense(width, "user_parts")
        self.item_parts = dense(width, "item_parts")
        self.user_gate = dense(parts * parts, "user_gate")
        self.item_gate = dense(parts * parts, "item_gate", bias=False)
        self.pair_hidden = dense(gate, "pair_hidden", activation="silu")
        self.pair_gate = dense(parts * parts, "pair_gate", bias=False)
        self.log_scale = self.new_layers.scalar(LOG_SCALE, "log_scale")

    def score(self, user_state: Mapping[str, tf.Tensor], item_embs: tf.Tensor) -> tf.Tensor:
        """`user` float32 [D] of one user, item embeddings float32 [n, D] -> scores float32 [n]."""
        user = user_state["user"][tf.newaxis]
        users = self._split(self.user_parts(user))[0]
        cosines = tf.matmul(self._split(self.item_parts(item_embs)), users, transpose_b=True)
        cosines = tf.reshape(cosines, [-1, self._parts * self._parts])
        return self._mixed(cosines, self.user_gate(user) + self.item_gate(item_embs))

    def score_each(
        self, user_state: Mapping[str, tf.Tensor], own: tf.Tensor, shared: tf.Tensor, *, training: bool
    ) -> tf.Tensor:
        user = user_state["user"]
        parts, gates = self._split(self.user_parts(user)), self.user_gate(user)
        alone = tf.einsum("bkd,bld->blk", parts, self._split(self.item_parts(own)))
        others = tf.einsum("bkd,sld->bslk", parts, self._split(self.item_parts(shared)))
        squared = self._parts * self._parts
        own_scores = self._mixed(tf.reshape(alone, [-1, squared]), gates + self.item_gate(own))
        shared_gates = gates[:, tf.newaxis] + self.item_gate(shared)
        pairs = tf.shape(shared_gates)[:2]
        flat = tf.reshape(others, [-1, squared]), tf.reshape(shared_gates, [-1, squared])
        return tf.concat([own_scores[:, tf.newaxis], tf.reshape(self._mixed(*flat), pairs)], axis=1)

    def _split(self, vectors: tf.Tensor) -> tf.Tensor:
        """[n, D] -> [n, parts, D / parts], each part of length 1."""
        parts = tf.reshape(vectors, [-1, self._parts, self.embedding_dim // self._parts])
        return tf.math.l2_normalize(parts, axis=-1)

    def _mixed(self, cosines: tf.Tensor, gates: tf.Tensor) -> tf.Tensor:
        """Cosines [n, parts^2] and the gate's logits of each side alone [n, parts^2] -> scores [n]."""
        weights = tf.nn.softmax(gates + self.pair_gate(self.pair_hidden(cosines)))
        return tf.exp(self.log_scale.value) * tf.reduce_sum(weights * cosines, axis=-1)
