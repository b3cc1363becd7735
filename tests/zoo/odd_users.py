"""Odd cases of the user's side: features, state, their names, and `embed_user`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from keras import layers

from zoo.odd import ACCEPTED, E, L, N, Tensors, Tiny, odd, refused

# What comes back is no state.


@odd(refused("embed_user", "user", "dict|mapping|name"))
class UserIsTensor(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        return self.total(features["item_ids"])


@odd(refused("embed_user", "dict|mapping|name"))
class UserIsTuple(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        return (self.total(features["item_ids"]),)


@odd(refused("embed_user", "None"))
class UserReturnsNothing(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        self.total(features["item_ids"])


@odd(refused("embed_user", "usr"))
class UserHasAnotherName(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        return {"usr": self.total(features["item_ids"])}


@odd(refused("embed_user", "user", r"\b6\b"))
class UserHasAnotherShape(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        return {"user": tf.gather(self.table, features["item_ids"])}


@odd(refused("embed_user", "user", r"\b9\b"))
class UserHasAnotherWidth(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        return {"user": tf.pad(self.total(features["item_ids"]), [[0, 0], [0, 1]])}


@odd(refused("embed_user", "user", "string"))
class UserIsString(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        return {"user": tf.strings.as_string(self.total(features["item_ids"]))}


@odd(refused("embed_user", "batch|users|row"))
class UserForgetsTheBatch(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        return {"user": tf.reduce_sum(self.total(features["item_ids"]), axis=0)}


@odd(refused("embed_user", "numpy"))
class UserIsNumpy(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.table.numpy()[features["item_ids"].numpy()].sum(1)}


@odd(refused("embed_user", "profiles"))
class UserRaises(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        raise RuntimeError("profiles were not loaded")


@odd(refused("embed_user", "ids|KeyError"))
class UserNamesAnotherFeature(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.total(features["ids"])}


@odd(refused("embed_user", "py_function|Python", "server"))
class UserCallsPython(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        return {
            "user": tf.ensure_shape(tf.py_function(self.total, [features["item_ids"]], tf.float32), [None, E])
        }


# Features and states that no signature can have.


@odd(refused("user_features", "item_ids", "ragged"))
class FeatureIsRagged(Tiny):
    user_features: ClassVar[Any] = {"item_ids": tf.RaggedTensorSpec([None, None], tf.int64)}

    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.total(features["item_ids"].to_tensor())}


@odd(refused("user_features", "item_ids", "sparse"))
class FeatureIsSparse(Tiny):
    user_features: ClassVar[Any] = {"item_ids": tf.SparseTensorSpec([None, N], tf.int64)}


@odd(refused("user_features", "item_ids", "TensorSpec"))
class FeatureIsShape(Tiny):
    user_features: ClassVar[Any] = {"item_ids": [L]}


@odd(refused("user_features", "rank|shape"))
class FeatureHasNoRank(Tiny):
    user_features: ClassVar[Any] = {"item_ids": tf.TensorSpec(None, tf.int64)}


@odd(refused("user_features", "dict|mapping"))
class FeaturesAreList(Tiny):
    user_features: ClassVar[Any] = [tf.TensorSpec([L], tf.int64)]


@odd(refused("user_state", "user", "fixed|batch"))
class StateIsOpen(Tiny):
    """`[None, ...]`, most often a batch dimension that does not belong there."""

    user_state: ClassVar[Any] = {"user": tf.TensorSpec([None, E], tf.float32)}

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.reduce_sum(tf.matmul(item_embs, user_state["user"], transpose_b=True), axis=-1)


@odd(refused("user_state", "empty|at least one|no tensor"))
class StateIsEmpty(Tiny):
    user_features: ClassVar[Any] = {}
    user_state: ClassVar[Any] = {}

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return tf.reduce_sum(item_embs, axis=-1)


@odd(refused("user_state", "string"))
class StateIsString(Tiny):
    user_features: ClassVar[Any] = {}
    user_state: ClassVar[Any] = {"user": tf.TensorSpec([E], tf.float32), "name": tf.TensorSpec([], tf.string)}


@odd(refused("embedding_dim", "int"))
class WidthIsNone(Tiny):
    embedding_dim: ClassVar[Any] = None


@odd(refused("embedding_dim|dimension|width", r"\b9\b"))
class WidthIsAnother(Tiny):
    embedding_dim: ClassVar[Any] = E + 1


@odd(refused("level_topn"))
class StateIsCalledLevelTopn(Tiny):
    user_state: ClassVar[Any] = {"level_topn": tf.TensorSpec([E], tf.float32)}


@odd(refused("exclude_ids"))
class FeatureIsCalledExcludeIds(Tiny):
    user_features: ClassVar[Any] = {"exclude_ids": tf.TensorSpec([L], tf.int64)}


# Vocabularies.


@odd(refused(r"vocabulary|item_ids\.npy", "at least one|empty|no id"))
class VocabularyIsEmpty(Tiny):
    @classmethod
    def prepare(cls, run: Path) -> None:
        np.save(run / "vocabulary/item_ids.npy", np.zeros(0, np.int64))


@odd(refused(r"item_ids\.npy", "ascending|order"))
class VocabularyIsUnsorted(Tiny):
    @classmethod
    def prepare(cls, run: Path) -> None:
        np.save(run / "vocabulary/item_ids.npy", np.arange(N, 0, -1, dtype=np.int64))


@odd(refused(r"item_ids\.npy", "int64"))
class VocabularyIsFloat(Tiny):
    @classmethod
    def prepare(cls, run: Path) -> None:
        np.save(run / "vocabulary/item_ids.npy", np.arange(1, N + 1, dtype=np.float32))


@odd(refused("embed_user|vocabulary", "last|row", r"\b200\b"))
class TableIsOneRowShort(Tiny):
    """An Embedding(V) for V ids: rows go from 0 to V."""

    def build(self) -> None:
        self.table = tf.Variable(self.table[:-1])


@odd(ACCEPTED)
class IntegerHasNoVocabulary(Tiny):
    vocabularies: ClassVar[tuple[str, ...]] = ()

    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.total(tf.math.floormod(features["item_ids"], N))}


# Whole kinds of features that are right.


@odd(ACCEPTED)
class StringIsHashed(Tiny):
    user_features: ClassVar[Any] = {
        "country": tf.TensorSpec([1], tf.string),
        "item_ids": tf.TensorSpec([L], tf.int64),
    }

    def embed_user(self, features: Tensors) -> Any:
        row = 1 + tf.strings.to_hash_bucket_fast(features["country"], N)
        return {"user": self.total(features["item_ids"]) + tf.gather(self.table, row)[:, 0]}


@odd(ACCEPTED)
class StringsAreHashedByKeras(Tiny):
    user_features: ClassVar[Any] = {"item_ids": tf.TensorSpec([L], tf.string)}
    vocabularies: ClassVar[tuple[str, ...]] = ()

    def build(self) -> None:
        self.hash = layers.Hashing(N, mask_value="")

    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.total(self.hash(features["item_ids"]))}


@odd(ACCEPTED)
class StringsAreLookedUp(Tiny):
    user_features: ClassVar[Any] = {"words": tf.TensorSpec([2], tf.string)}
    vocabularies: ClassVar[tuple[str, ...]] = ()

    def build(self) -> None:
        self.lookup = layers.StringLookup(vocabulary=["red", "green", "blue"])

    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.total(self.lookup(features["words"]))}


@odd(ACCEPTED)
class IntegersAreLookedUp(Tiny):
    user_features: ClassVar[Any] = {"age": tf.TensorSpec([1], tf.int64)}
    vocabularies: ClassVar[tuple[str, ...]] = ()

    def build(self) -> None:
        self.lookup = layers.IntegerLookup(vocabulary=[18, 25, 50])

    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.total(self.lookup(features["age"]))}


@odd(ACCEPTED)
class LengthIsOpen(Tiny):
    user_features: ClassVar[Any] = {"item_ids": tf.TensorSpec([None], tf.int64)}


@odd(ACCEPTED)
class FeatureAndStateShareTheName(Tiny):
    user_features: ClassVar[Any] = {"user": tf.TensorSpec([E], tf.float32)}

    def embed_user(self, features: Tensors) -> Any:
        return {"user": tf.tanh(features["user"])}


@odd(ACCEPTED)
class StateIsBoolAndInteger(Tiny):
    user_state: ClassVar[Any] = {
        "user": tf.TensorSpec([E], tf.float32),
        "count": tf.TensorSpec([], tf.int32),
        "known": tf.TensorSpec([L], tf.bool),
    }

    def embed_user(self, features: Tensors) -> Any:
        known = features["item_ids"] > 0
        count = tf.reduce_sum(tf.cast(known, tf.int32), axis=1)
        return {"user": self.total(features["item_ids"]), "count": count, "known": known}

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        scores = self.dot(user_state, item_embs) / tf.cast(tf.maximum(user_state["count"], 1), tf.float32)
        return tf.where(tf.reduce_any(user_state["known"]), scores, -scores)


# Loops in embed_user.


@odd(ACCEPTED)
class UserIsRecurrent(Tiny):
    def build(self) -> None:
        self.recurrent = layers.SimpleRNN(E)
        self.recurrent.build((None, L, E))

    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.recurrent(tf.gather(self.table, features["item_ids"]))}


@odd(ACCEPTED)
class UserIsRecurrentAndMapped(UserIsRecurrent):
    """Its table is a mapped file."""

    options: ClassVar[dict[str, Any]] = {"table_bytes": 0}


@odd(ACCEPTED)
class UserLoops(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        x = tf.gather(self.table, features["item_ids"])

        def decay(i: Any, total: Any) -> Any:
            return i + 1, total * 0.5 + x[:, i]

        return {"user": tf.while_loop(lambda i, _: i < L, decay, [0, x[:, 0]])[1]}


@odd(ACCEPTED)
class UserMaps(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        rows = tf.gather(self.table, features["item_ids"])
        return {"user": tf.map_fn(lambda events: tf.reduce_sum(events, axis=0), rows)}


@odd(ACCEPTED)
class UserScans(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        x = tf.transpose(tf.gather(self.table, features["item_ids"]), [1, 0, 2])
        return {"user": tf.scan(lambda total, event: total * 0.5 + event, x)[-1]}


@odd(ACCEPTED)
class UserBranchesOverTable(Tiny):
    """A table that is read inside a branch."""

    options: ClassVar[dict[str, Any]] = {"table_bytes": 0}

    def embed_user(self, features: Tensors) -> Any:
        ids = features["item_ids"]
        known = tf.reduce_any(ids > 0)
        return {"user": tf.cond(known, lambda: self.total(ids), lambda: self.total(ids + 1))}


@odd(ACCEPTED)
class UserTakesLogarithms(Tiny):
    """Of a price, a duration, a count: none is negative."""

    user_features: ClassVar[Any] = {**Tiny.user_features, "spent": tf.TensorSpec([], tf.float32)}

    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.total(features["item_ids"]) * tf.math.log(features["spent"])[:, tf.newaxis]}


@odd(ACCEPTED)
class UserHasAnEvent(Tiny):
    user_features: ClassVar[Any] = {
        "item_ids": tf.TensorSpec([L], tf.int64),
        "length": tf.TensorSpec([], tf.int32),
    }

    def embed_user(self, features: Tensors) -> Any:
        events = tf.gather(self.table, features["item_ids"])
        return {"user": tf.gather(events, features["length"] - 1, batch_dims=1)}


@odd(ACCEPTED)
class UserMayHaveNoNumber(Tiny):
    """NaN for some users, whatever their ids are."""

    user_features: ClassVar[Any] = {**Tiny.user_features, "angle": tf.TensorSpec([], tf.float32)}
    user_state: ClassVar[Any] = {**Tiny.user_state, "hint": tf.TensorSpec([], tf.float32)}

    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.total(features["item_ids"]), "hint": tf.math.log(-features["angle"])}

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        hint = user_state["hint"]
        return self.dot(user_state, item_embs) + tf.where(tf.math.is_nan(hint), 0.0, hint)


@odd(ACCEPTED)
class UserLoopsInPython(Tiny):
    def embed_user(self, features: Tensors) -> Any:
        ids = features["item_ids"]
        total = tf.zeros([tf.shape(ids)[0], E])
        for column in tf.range(L):
            total += tf.gather(self.table, ids[:, column])
        return {"user": total}
