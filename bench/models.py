"""The benchmarks' scorers, as models for `nann.export`: no user side, one state tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.bench.corpus import Metric
from nann.training import ModelConfig, ReferenceModel

# The original NANN's: 50 events, each an item and a category of 32 values.
SEQUENCE_LENGTH, EVENT_WIDTH = 50, 64


class ModelWithoutUsers:
    """A model whose requests bring the user state, over embeddings that exist already."""

    user_features: Mapping[str, tf.TensorSpec] = {}

    def embed_user(self, features: Any) -> Any:
        raise NotImplementedError("requests bring the user state")

    def embed_item(self, features: Any) -> Any:
        raise NotImplementedError("the corpus has embeddings")


class VectorModel(ModelWithoutUsers):
    """Inner product or negative squared L2 distance of an item and the request's vector."""

    def __init__(self, metric: Metric, dim: int) -> None:
        self.user_state = {"query": tf.TensorSpec([dim], tf.float32)}
        self.embedding_dim = dim
        self._metric = metric

    def score(self, user_state: Mapping[str, tf.Tensor], item_embs: tf.Tensor) -> tf.Tensor:
        if self._metric == "ip":
            return tf.linalg.matvec(item_embs, user_state["query"])
        return -tf.reduce_sum(tf.math.squared_difference(item_embs, user_state["query"]), axis=1)


class AttentionModel(ModelWithoutUsers):
    """The reference model's scorer with random weights: attention over 50 events, then an MLP.

    It costs what a trained one costs.
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


def user_states(count: int, seed: int) -> list[dict[str, npt.NDArray[np.float32]]]:
    """Random users of `AttentionModel`: `comm_seq` float32 [1, L*E] each."""
    generator = np.random.default_rng([seed, 2])
    width = SEQUENCE_LENGTH * EVENT_WIDTH
    return [{"comm_seq": generator.standard_normal((1, width), np.float32)} for _ in range(count)]
