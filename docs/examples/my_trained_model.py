"""A model that `nann train --model my_trained_model:LastEvents` trains: see docs/training.md."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from nann.training import TrainedModel

Tensors = Mapping[str, Any]


class LastEvents(TrainedModel, keras.Model):
    """A small network on the mean of the last events and the item."""

    def __init__(self, rows: Mapping[str, int], *, seed: int = 0, length: int = 20, width: int = 32) -> None:
        super().__init__()
        keras.utils.set_random_seed(seed)
        self.user_features = {name: tf.TensorSpec([length], tf.int64) for name in rows}
        self.user_state = {"user": tf.TensorSpec([width], tf.float32)}
        self.embedding_dim = width
        self.tables = {name: keras.layers.Embedding(count, width) for name, count in rows.items()}
        self.hidden = keras.layers.Dense(width, activation="gelu")
        self.output_layer = keras.layers.Dense(1)

    def embed_user(self, features: Tensors) -> Tensors:
        """Rows int64 [B, L] -> float32 [B, D]."""
        present = tf.cast(features["item_ids"] > 0, tf.float32)[..., tf.newaxis]
        total = tf.reduce_sum(self.embed_item(features) * present, axis=1)
        return {"user": total / (1.0 + tf.reduce_sum(present, axis=1))}

    def embed_item(self, features: Tensors) -> Any:
        """Rows int64 [n] -> float32 [n, D]."""
        return tf.add_n([table(features[name]) for name, table in self.tables.items()])

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        """One user's float32 [D] and n items' float32 [n, D] -> float32 [n]."""
        product = item_embs * user_state["user"]
        return tf.reduce_sum(product, axis=1) + self.output_layer(self.hidden(product))[:, 0]
