"""write_saved_model.py FOLDER: a ranking model of Keras 2 as a SavedModel; FOLDER.npz has what it answers.

Run by an older TensorFlow with tf_keras; imports nothing of this project.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

N, L, E = 300, 4, 8


class Ranker(tf.Module):
    """A GRU and a string lookup in the user network, batch norm in the network of pairs."""

    def __init__(self) -> None:
        super().__init__()
        keras.utils.set_random_seed(1)
        self.items = layers.Embedding(N + 1, E)
        ids = keras.Input([L], dtype=tf.int64, name="item_ids")
        country = keras.Input([1], dtype=tf.string, name="country")
        rows = layers.StringLookup(vocabulary=["de", "fr"])(country)
        user = layers.GRU(E)(self.items(ids)) + layers.Flatten()(layers.Embedding(3, E)(rows))
        self.user_net = keras.Model({"item_ids": ids, "country": country}, {"user": user})
        user, item = keras.Input([E], name="user"), keras.Input([E], name="item")
        x = layers.Dense(16, activation="gelu")(layers.concatenate([user, item, user * item]))
        self.pair_net = keras.Model(
            {"user": user, "item": item}, layers.Dense(1)(layers.BatchNormalization()(x))
        )

    @tf.function(
        input_signature=[
            {
                "item_ids": tf.TensorSpec([None, L], tf.int64, "item_ids"),
                "country": tf.TensorSpec([None, 1], tf.string, "country"),
            }
        ]
    )
    def embed_user(self, features: Any) -> Any:
        return self.user_net(features, training=False)

    @tf.function(
        input_signature=[
            {
                "user": tf.TensorSpec([None, E], tf.float32, "user"),
                "item": tf.TensorSpec([None, E], tf.float32, "item"),
            }
        ]
    )
    def score(self, pairs: Any) -> Any:
        return self.pair_net(pairs, training=False)


def main(folder: str) -> None:
    model = Ranker()
    tf.saved_model.save(model, folder)
    items = model.items(tf.range(1, N + 1)).numpy()
    user = model.embed_user(
        {"item_ids": tf.constant([[1, 2, 3, 4]], tf.int64), "country": tf.constant([["fr"]])}
    )
    pairs = {"user": tf.repeat(user["user"], N, axis=0), "item": items}
    scores = model.score(pairs).numpy()[:, 0]
    np.savez(f"{folder}.npz", items=items, user=user["user"].numpy(), scores=scores)


if __name__ == "__main__":
    main(sys.argv[1])
