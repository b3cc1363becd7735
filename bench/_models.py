"""The scorers of the table, as models that `nann.export` takes: no user side, one state tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from nann.bench._corpus import Metric
from nann.training import ModelConfig, ReferenceModel

SEQUENCE_LENGTH, EVENT_WIDTH = 50, 64


class _WithoutUsers:
    """A model whose users are embedded elsewhere."""

    user_features: Mapping[str, tf.TensorSpec] = {}

    def embed_user(self, features: Any) -> Any:
        raise NotImplementedError("requests bring the state")

    def embed_item(self, features: Any) -> Any:
        raise NotImplementedError("the embeddings are there")


class VectorModel(_WithoutUsers):
    """Inner product, or L2 distance, of an item with the request's vector."""

    def __init__(self, metric: Metric, dim: int) -> None:
        self.user_state = {"query": tf.TensorSpec([dim], tf.float32)}
        self.embedding_dim = dim
        self._metric = metric

    def score(self, user_state: Mapping[str, tf.Tensor], item_embs: tf.Tensor) -> tf.Tensor:
        if self._metric == "ip":
            return tf.linalg.matvec(item_embs, user_state["query"])
        return -tf.reduce_sum(tf.math.squared_difference(item_embs, user_state["query"]), axis=1)


class AttentionModel(_WithoutUsers):
    """The reference model's scorer with its first, random weights: attention over 50 events, then an MLP.

    What it computes costs what a trained one costs.
    """

    def __init__(self, dim: int) -> None:
        config = ModelConfig(
            items=1,
            categories=1,
            sequence_length=SEQUENCE_LENGTH,
            feature_dim=EVENT_WIDTH // 2,
            embedding_dim=dim,
        )
        self._model = ReferenceModel(config)
        self.user_state = dict(self._model.user_state)
        self.embedding_dim = dim

    def score(self, user_state: Mapping[str, tf.Tensor], item_embs: tf.Tensor) -> tf.Tensor:
        return self._model.score(user_state, item_embs)
