"""A scorer without Keras: a tf.Module of variables and einsum, which can be saved as a SavedModel."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow as tf

from zoo.base import N, Ranker, Tensors

L, E, H = 12, 16, 2


class EinsumScorer(tf.Module):
    """Multi-head attention of candidates over events, and a gated network, written out."""

    user_features: ClassVar[dict[str, tf.TensorSpec]] = {"item_ids": tf.TensorSpec([L], tf.int64)}
    user_state: ClassVar[dict[str, tf.TensorSpec]] = {
        "hist": tf.TensorSpec([L, E], tf.float32),
        "present": tf.TensorSpec([L], tf.int32),
    }
    item_state: ClassVar[dict[str, tf.TensorSpec]] = {}
    embedding_dim = E
    vocabularies: ClassVar[dict[str, int]] = {"item_ids": N}

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        random = np.random.default_rng(seed)

        def weight(name: str, *shape: int) -> tf.Variable:
            values = random.normal(size=shape) * np.sqrt(2.0 / np.prod(shape[:-1]))
            return tf.Variable(values.astype(np.float32), name=name)

        self.items = tf.Variable(random.normal(size=(N + 1, E)).astype(np.float32) * 0.4, name="items")
        self.query, self.key, self.value = (weight(name, H, E, E // H) for name in ("query", "key", "value"))
        self.wide, self.gate = weight("wide", 3 * E, 48), weight("gate", 3 * E, 48)
        self.narrow, self.bias = weight("narrow", 48, 1), weight("bias", 48)

    @classmethod
    def from_run(cls, run_dir: Path) -> EinsumScorer:
        model = cls()
        tf.train.Checkpoint(model=model).read(str(Path(run_dir) / "weights")).assert_consumed()
        return model

    def save(self, run_dir: Path) -> None:
        tf.train.Checkpoint(model=self).write(str(run_dir / "weights"))

    @tf.function(input_signature=[{"item_ids": tf.TensorSpec([None, L], tf.int64, "item_ids")}])
    def embed_user(self, features: Tensors) -> Tensors:
        present = features["item_ids"] > 0
        hist = tf.gather(self.items, features["item_ids"])
        return {
            "hist": tf.where(present[..., tf.newaxis], hist, tf.zeros_like(hist)),
            "present": tf.cast(present, tf.int32),
        }

    @tf.function(input_signature=[{"item_ids": tf.TensorSpec([None], tf.int64, "item_ids")}])
    def embed_item(self, features: Tensors) -> tf.Tensor:
        return tf.gather(self.items, features["item_ids"])

    @tf.function(
        input_signature=[
            {
                "hist": tf.TensorSpec([L, E], tf.float32, "hist"),
                "present": tf.TensorSpec([L], tf.int32, "present"),
            },
            tf.TensorSpec([None, E], tf.float32, "item_embs"),
        ]
    )
    def score(self, user_state: Tensors, item_embs: tf.Tensor) -> tf.Tensor:
        hist, present = user_state["hist"], tf.equal(user_state["present"], 1)
        query = tf.einsum("ne,hed->nhd", item_embs, self.query)
        key = tf.einsum("le,hed->lhd", hist, self.key)
        value = tf.einsum("le,hed->lhd", hist, self.value)
        logits = tf.einsum("nhd,lhd->nhl", query, key) / tf.sqrt(float(E // H))
        weights = tf.nn.softmax(tf.where(present, logits, -1e9))
        attended = tf.reshape(tf.einsum("nhl,lhd->nhd", weights, value), [-1, E])
        x = tf.concat([attended, item_embs, attended * item_embs], axis=-1)
        hidden = tf.nn.silu(tf.einsum("nx,xy->ny", x, self.wide) + self.bias)
        return tf.einsum("ny,yz->n", hidden * tf.einsum("nx,xy->ny", x, self.gate), self.narrow)

    # What a data set would bring.
    draw = Ranker.draw
    rows = Ranker.rows
    item_features = Ranker.item_features
