"""Scorers that look up rows where user and item meet: words of a title, crosses of ids, the user's tastes."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from zoo.base import Arrays, N, Ranker
from zoo.blocks import attend, mean_of, mlp

_WORDS, _CATEGORIES, _TAGS = 400, 300, 6


class TitleWords(Ranker):
    """NPA: words of the candidate's title, by a convolution, pooled with a query of the user's own."""

    vocabularies: ClassVar[dict[str, int]] = {"item_ids": N, "user_id": 200}
    item_state: ClassVar[dict[str, tf.TensorSpec]] = {"title": tf.TensorSpec([10], tf.int32)}

    def inputs(self) -> dict[str, keras.KerasTensor]:
        return {**super().inputs(), "user_id": keras.Input([], dtype="int64", name="user_id")}

    def user(self, item_ids: Any, user_id: Any) -> dict[str, Any]:
        return {"hist": self.embedded(item_ids), "who": layers.Embedding(201, 32)(user_id)}

    def pair(self, hist: Any, who: Any, title: Any, item: Any) -> Any:
        words = layers.Embedding(_WORDS, 32)(title)
        words = layers.Conv1D(48, 3, activation="relu", padding="same")(words)
        query = layers.Dense(48, activation="tanh")(who)
        weights = layers.Softmax()(layers.Dot((2, 1))([words, query]))
        news = layers.Dense(self.width)(layers.Dot((1, 1))([words, weights]))
        return layers.Dot(1)([news + item, attend(hist, news)])

    def item_features(self) -> Arrays:
        return {**super().item_features(), "title": _drawn(_WORDS, 10)}

    def embed_item(self, features: Any) -> Any:
        return super().embed_item({"item_ids": features["item_ids"]}), {"title": features["title"]}


class CrossedIds(Ranker):
    """A table's rows at a hash of city and category, and the user's tastes at the candidate's tags."""

    vocabularies: ClassVar[dict[str, int]] = {"item_ids": N, "city": 50}
    item_state: ClassVar[dict[str, tf.TensorSpec]] = {
        "category": tf.TensorSpec([], tf.int64),
        "tags": tf.TensorSpec([_TAGS], tf.int32),
    }

    def inputs(self) -> dict[str, keras.KerasTensor]:
        return {**super().inputs(), "city": keras.Input([], dtype="int64", name="city")}

    def user(self, item_ids: Any, city: Any) -> dict[str, Any]:
        tastes = layers.Dense(_CATEGORIES, activation="sigmoid")(mean_of(self.embedded(item_ids)))
        return {"hist": self.embedded(item_ids), "city": city, "tastes": tastes}

    def pair(self, hist: Any, city: Any, tastes: Any, category: Any, tags: Any, item: Any) -> Any:
        crossed = layers.Embedding(4001, 16)((city * 1009 + category * 7 + 3) % 4001)
        of_tags = ops.take_along_axis(tastes, ops.maximum(tags, 0), axis=1)
        of_tags = ops.where(tags >= 0, of_tags, 0.0)
        return mlp(ops.concatenate([crossed, of_tags, mean_of(hist) * item, item], axis=-1), 64)

    def item_features(self) -> Arrays:
        tags = _drawn(_CATEGORIES + 50, _TAGS) - 50  # Some items have fewer.
        category = _drawn(10**6).astype(np.int64)
        return {**super().item_features(), "category": category, "tags": np.maximum(tags, -1)}

    def embed_item(self, features: Any) -> Any:
        state = {name: features[name] for name in self.item_state}
        return super().embed_item({"item_ids": features["item_ids"]}), state


def _drawn(below: int, *shape: int) -> Any:
    """int32 [N, ...]."""
    return np.random.default_rng(11).integers(0, below, (N, *shape), dtype=np.int32)
