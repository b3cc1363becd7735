"""Two towers: the user's and the item's vector meet in an inner product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from nann.training._layers import LOG_SCALE, CausalTower, Layers, gathered, unit_size
from nann.training._trainable import Scored
from nann.training.trained import TrainedModel


class EventTowers(TrainedModel, keras.Model):
    """What models share whose user state is one vector after the newest event.

    The user's tower is a causal transformer over the embeddings of the items of the events; the item's
    embedding is the sum of its features' embeddings.

    rows: rows of the embedding table of each feature of items: `item_ids`, `cate_ids`, columns of the data.
    """

    def __init__(
        self,
        rows: Mapping[str, int],
        *,
        seed: int,
        length: int,
        width: int,
        blocks: int,
        heads: int,
        name: str,
    ) -> None:
        super().__init__(name=name)
        self.embedding_dim = width
        self.user_features = {feature: tf.TensorSpec([length], tf.int64, feature) for feature in rows}
        self.user_state = {"user": tf.TensorSpec([width], tf.float32, "user")}
        self.new_layers = Layers(seed)
        self.tables = {
            feature: self.new_layers.embedding(count, width, feature) for feature, count in rows.items()
        }
        self.causal_tower = CausalTower(
            self.new_layers, length=length, width=width, blocks=blocks, heads=heads
        )

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Rows int64 [B, L] -> `user` float32 [B, D], zeros without events."""
        return {"user": self._states(features)[:, -1]}

    def embed_item(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Rows [n] -> item embeddings float32 [n, D], all of the same length."""
        return unit_size(tf.add_n([gathered(table, features[name]) for name, table in self.tables.items()]))

    def score_prefixes(
        self,
        features: Mapping[str, tf.Tensor],
        places: tf.Tensor,
        own: tf.Tensor,
        shared: tf.Tensor,
        *,
        dropout: float,
        seed: tf.Tensor,
    ) -> Sequence[Scored]:
        """Scores of the states after each of many events (`nann.training.Sequential`)."""
        states = self._states(features, dropout=dropout, seed=seed)
        user = tf.gather(tf.reshape(states, [-1, self.embedding_dim]), places)
        return [Scored(self.score_each({"user": user}, own, shared, training=True))]

    def score_each(
        self, user_state: Mapping[str, tf.Tensor], own: tf.Tensor, shared: tf.Tensor, *, training: bool
    ) -> tf.Tensor:
        """States of B users, an item of each [B, D], and S shared [S, D] -> float32 [B, 1 + S]."""
        raise NotImplementedError

    def _states(self, features: Mapping[str, tf.Tensor], **options: Any) -> tf.Tensor:
        return self.causal_tower(self.embed_item(features), features["item_ids"] > 0, **options)


class TwoTower(EventTowers):
    """score(user, item) = scale * cosine(user, item).

    Sizes: `sequence_length` L, `width` D, `blocks` and `heads` of the transformer.
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
    ) -> None:
        super().__init__(
            rows, seed=seed, length=sequence_length, width=width, blocks=blocks, heads=heads, name="two_tower"
        )
        self.log_scale = self.new_layers.scalar(LOG_SCALE, "log_scale")

    def score(self, user_state: Mapping[str, tf.Tensor], item_embs: tf.Tensor) -> tf.Tensor:
        """`user` float32 [D] of one user, item embeddings float32 [n, D] -> scores float32 [n]."""
        return tf.linalg.matvec(item_embs, self._vector(user_state["user"]))

    def score_each(
        self, user_state: Mapping[str, tf.Tensor], own: tf.Tensor, shared: tf.Tensor, *, training: bool
    ) -> tf.Tensor:
        user = self._vector(user_state["user"])
        alone = tf.reduce_sum(user * own, axis=1, keepdims=True)
        return tf.concat([alone, tf.matmul(user, shared, transpose_b=True)], axis=1)

    def _vector(self, user: tf.Tensor) -> tf.Tensor:
        scale = tf.exp(self.log_scale.value) * self.embedding_dim**-0.5
        return tf.math.l2_normalize(user, axis=-1) * scale
