"""Odd cases of a batch of users: states that are computed from each other."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import layers

from zoo.odd import ACCEPTED, Tensors, Tiny, odd, refused


@odd(refused("embed_user", "mixes the users", "axis 0"))
class UserIsRelativeToOthers(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        users = self.total(features["item_ids"])
        return {"user": users - tf.reduce_mean(users, axis=0, keepdims=True)}


@odd(refused("embed_user", "mixes the users", "axis 0"))
class UserIsSoftmaxOverUsers(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        return {"user": tf.nn.softmax(self.total(features["item_ids"]), axis=0)}


@odd(refused("embed_user", "training=False"))
class UserIsNormalizedInTraining(Tiny):
    def build(self) -> None:
        self.norm = layers.BatchNormalization()

    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.norm(self.total(features["item_ids"]), training=True)}


@odd(ACCEPTED)
class UserIsNormalized(UserIsNormalizedInTraining):
    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.norm(self.total(features["item_ids"]))}
