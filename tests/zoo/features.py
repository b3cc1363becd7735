"""Models with features beside the item ids: rows, strings, raw numbers, open lengths, and item state."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from zoo.base import Arrays, N, Ranker, Tensors, vocabulary
from zoo.blocks import attend, mean_of, mlp

COUNTRIES = ["at", "br", "cn", "de", "fr", "in", "jp", "us"]
NOW = 1_790_000_000  # A unix time; int32 would still hold it, float32 would not.


def strings(random: np.random.Generator, values: list[str], shape: tuple[int, ...]) -> Any:
    """Some of the values, some that no vocabulary has, as callers send them."""
    drawn = random.choice([*values, "elsewhere"], shape)
    return np.char.encode(drawn, "utf8").astype(object)


class ProfileRows(Ranker):
    """First edition: country and age bucket as rows of vocabularies, spend as a number that is normalized."""

    vocabularies: ClassVar[dict[str, int]] = {"item_ids": N, "country": 20, "age": 8}

    def inputs(self) -> dict[str, keras.KerasTensor]:
        return {
            **super().inputs(),
            "country": keras.Input([], dtype="int64", name="country"),
            "age": keras.Input([], dtype="int64", name="age"),
            "spend": keras.Input([], dtype="float32", name="spend"),
        }

    def user(self, item_ids: Any, country: Any, age: Any, spend: Any) -> dict[str, Any]:
        spend = layers.Normalization(axis=None, mean=10.0, variance=9.0)(spend[:, None])
        parts = [layers.Embedding(21, 8)(country), layers.Embedding(9, 4)(age), layers.Dense(4)(spend)]
        return {"hist": self.embedded(item_ids), "profile": ops.concatenate(parts, axis=-1)}

    def pair(self, hist: Any, profile: Any, item: Any) -> Any:
        attended = attend(hist, layers.Dense(self.width)(ops.concatenate([item, profile], axis=-1)))
        return mlp(ops.concatenate([attended, profile, item, attended * item], axis=-1), 64, 32)

    def draw(self, random: np.random.Generator, users: int) -> Arrays:
        ids = {name: vocabulary(name, size) for name, size in self.vocabularies.items()}
        return {
            "item_ids": random.choice(ids["item_ids"], (users, self.events)),
            "country": random.choice([*ids["country"], 0], users),
            "age": random.choice(ids["age"], users),
            "spend": random.gamma(2.0, 5.0, users).astype(np.float32),
        }


class PlainFeatures(Ranker):
    """Second edition: features without vocabulary files pass as they are; `item_ids` alone has one."""

    plain: ClassVar[dict[str, str]] = {}  # name -> dtype of the scalars beside the ids

    def inputs(self) -> dict[str, keras.KerasTensor]:
        scalars = {name: keras.Input([], dtype=dtype, name=name) for name, dtype in self.plain.items()}
        return {**super().inputs(), **scalars}

    def profile(self, **features: Any) -> Any:
        """The scalars [B] to one vector [B, P]."""
        raise NotImplementedError

    def user(self, item_ids: Any, **features: Any) -> dict[str, Any]:
        return {"hist": self.embedded(item_ids), "profile": self.profile(**features)}

    def pair(self, hist: Any, profile: Any, item: Any) -> Any:
        attended = attend(hist, layers.Dense(self.width)(item))
        return mlp(ops.concatenate([attended, profile, item], axis=-1), 48, 24, activation="relu")

    def scalars(self, random: np.random.Generator, users: int) -> Arrays:
        """Values of the scalars."""
        raise NotImplementedError

    def draw(self, random: np.random.Generator, users: int) -> Arrays:
        ids = random.choice(vocabulary("item_ids", N), (users, self.events))
        return {"item_ids": ids, **self.scalars(random, users)}


class StringLookups(PlainFeatures):
    """Strings and integers through lookup tables of Keras' preprocessing layers."""

    plain: ClassVar[dict[str, str]] = {"country": "string", "device": "string", "age": "int64"}

    def profile(self, country: Any, device: Any, age: Any) -> Any:
        rows = layers.StringLookup(vocabulary=COUNTRIES)(country)
        bucket = layers.IntegerLookup(vocabulary=[18, 25, 35, 50])(age)
        hashed = layers.Hashing(num_bins=32, salt=7)(device)
        parts = [(rows, 9, 8), (hashed, 32, 4), (bucket, 5, 4)]
        return ops.concatenate([layers.Embedding(size, width)(x) for x, size, width in parts], axis=-1)

    def scalars(self, random: np.random.Generator, users: int) -> Arrays:
        return {
            "country": strings(random, COUNTRIES, (users,)),
            "device": strings(random, ["phone", "tablet", "tv"], (users,)),
            "age": random.choice([18, 25, 35, 50, 77], users).astype(np.int64),
        }


class FeatureSpaceUser(PlainFeatures):
    """keras.utils.FeatureSpace encodes the profile: hashed strings, buckets, a cross."""

    plain: ClassVar[dict[str, str]] = {"country": "string", "spend": "float32"}

    def __init__(self, seed: int | None = 0) -> None:
        space = keras.utils.FeatureSpace
        self.space = space(
            features={
                "country": space.string_hashed(num_bins=12, output_mode="one_hot"),
                "spend": space.float_discretized(num_bins=6, output_mode="one_hot"),
            },
            crosses=[space.cross(("country", "spend"), crossing_dim=24)],
            output_mode="concat",
        )
        known = self.scalars(np.random.default_rng(11), 256)
        known["country"] = known["country"].astype("S")
        self.space.adapt(tf.data.Dataset.from_tensor_slices(known).batch(64))
        super().__init__(seed)

    def build_user(self) -> keras.Model:
        ids = super(PlainFeatures, self).inputs()
        profile = layers.Dense(12, activation="tanh")(self.space.get_encoded_features())
        inputs = {**ids, **self.space.get_inputs()}
        return keras.Model(inputs, {"hist": self.embedded(ids["item_ids"]), "profile": profile})

    def scalars(self, random: np.random.Generator, users: int) -> Arrays:
        return {
            "country": strings(random, COUNTRIES, (users,)),
            "spend": random.gamma(2.0, 5.0, users).astype(np.float32),
        }

    @property
    def user_features(self) -> dict[str, tf.TensorSpec]:
        scalars = {name: tf.TensorSpec([], dtype) for name, dtype in self.plain.items()}
        return {"item_ids": tf.TensorSpec([self.events], tf.int64), **scalars}

    def embed_user(self, features: Tensors) -> Tensors:
        # FeatureSpace's own inputs are [B, 1].
        columns = {name: features[name][:, tf.newaxis] for name in self.plain}
        state: Tensors = self.user_net({**columns, "item_ids": features["item_ids"]}, training=False)
        return state


class RawIntegers(PlainFeatures):
    """Integers that are no ids: an hour of day with 0, two unix times, a price."""

    plain: ClassVar[dict[str, str]] = {"hour": "int32", "now": "int64", "last_seen": "int64", "paid": "int64"}

    def profile(self, hour: Any, now: Any, last_seen: Any, paid: Any) -> Any:
        gap = ops.log(1.0 + ops.cast(now - last_seen, "float32") / 3600.0)
        weekday = ops.cast(ops.mod(now // 86_400 + 4, 7), "int32")
        angle = ops.cast(hour, "float32") * (2 * np.pi / 24)
        numbers = ops.stack([gap, ops.sin(angle), ops.cos(angle), ops.cast(paid, "float32") / 100.0], axis=-1)
        days = ops.one_hot(weekday, 7)
        return ops.concatenate([layers.Embedding(24, 6)(hour), days, numbers], axis=-1)

    def scalars(self, random: np.random.Generator, users: int) -> Arrays:
        return {
            "hour": np.arange(users, dtype=np.int32) % 24,  # with 0, which is no missing id here
            "now": NOW + random.integers(0, 10**6, users),
            "last_seen": NOW - random.integers(0, 10**7, users),
            "paid": random.integers(0, 5_000, users),
        }


class OpenLength(Ranker):
    """The history is as long as the user's: [None] ids and their weights, values at the front."""

    longest = 30

    def inputs(self) -> dict[str, keras.KerasTensor]:
        return {
            "item_ids": keras.Input([None], dtype="int64", name="item_ids"),
            "seconds": keras.Input([None], dtype="float32", name="seconds"),
        }

    def user(self, item_ids: Any, seconds: Any) -> dict[str, Any]:
        hist = self.embedded(item_ids)
        watched = ops.log1p(seconds)[..., None] * ops.cast(item_ids > 0, "float32")[..., None]
        total = ops.sum(hist * watched, axis=1) / (ops.sum(watched, axis=1) + 1.0)
        return {"user": ops.concatenate([total, mean_of(hist)], axis=-1)}

    def pair(self, user: Any, item: Any) -> Any:
        user = layers.Dense(self.width)(user)
        return mlp(ops.concatenate([user, item, user * item], axis=-1), 32)

    def draw(self, random: np.random.Generator, users: int) -> Arrays:
        shape = (users, self.longest)
        lengths = random.integers(1, self.longest + 1, users).astype(np.int32)
        return {
            "item_ids": random.choice([*vocabulary("item_ids", N), 0], shape),
            "seconds": random.gamma(2.0, 60.0, shape).astype(np.float32),
            "item_ids_length": lengths,
            "seconds_length": lengths,
        }

    def rows(self, features: Arrays) -> Arrays:
        """What lies beyond a length is ignored: here it is zeros, in a request anything."""
        there = np.arange(self.longest) < features["item_ids_length"][:, None]
        return super().rows({name: np.where(there, features[name], 0) for name in ("item_ids", "seconds")})


class ItemColumns(Ranker):
    """Item state: price, brand and a popularity bias beside the embedding, which the graph does not see."""

    brands = 40

    def __init__(self, seed: int | None = 0) -> None:
        self.item_state = {
            "price": tf.TensorSpec([], tf.float32),
            "brand": tf.TensorSpec([], tf.int64),
            "popularity": tf.TensorSpec([2], tf.float32),
        }
        super().__init__(seed)

    def pair(self, hist: Any, price: Any, brand: Any, popularity: Any, item: Any) -> Any:
        attended = attend(hist, layers.Dense(self.width)(item))
        money = ops.log1p(price)[:, None]
        made_by = layers.Embedding(self.brands, 8)(brand)
        x = ops.concatenate([attended, item, attended * item, made_by, money], axis=-1)
        return mlp(x, 48, 24, activation="relu") + layers.Dense(1)(popularity)

    def item_features(self) -> Arrays:
        random = np.random.default_rng(5)
        return {
            **super().item_features(),
            "price": random.gamma(2.0, 20.0, N).astype(np.float32),
            "brand": random.integers(0, self.brands, N),
            "popularity": random.normal(size=(N, 2)).astype(np.float32),
        }

    def embed_item(self, features: Tensors) -> Any:
        state = {name: features[name] for name in self.item_state}
        return self.item_net({"item_ids": features["item_ids"]}, training=False), state


class ItemDates(ItemColumns):
    """Integers of user and item: weeks since it was new, a cross of hour and shop, categories as counts."""

    shops, categories = 97, 20

    def __init__(self, seed: int | None = 0) -> None:
        self.item_state = {
            "born": tf.TensorSpec([], tf.int64),
            "shop": tf.TensorSpec([], tf.int32),
            "categories": tf.TensorSpec([3], tf.int32),
        }
        Ranker.__init__(self, seed)

    def inputs(self) -> dict[str, keras.KerasTensor]:
        return {**super().inputs(), "now": keras.Input([], dtype="int64", name="now")}

    def user(self, item_ids: Any, now: Any) -> dict[str, Any]:
        return {"hist": self.embedded(item_ids), "now": now}

    def pair(self, hist: Any, now: Any, born: Any, shop: Any, categories: Any, item: Any) -> Any:
        weeks = ops.cast(ops.clip((now - born) // 604_800, 0, 51), "int32")
        hour = ops.cast(now // 3_600 % 24, "int32")
        cross = ops.mod(hour * 31 + shop, self.shops)
        kinds = layers.CategoryEncoding(self.categories, output_mode="count")(categories)
        age = ops.log1p(ops.cast(ops.maximum(now - born, 0), "float32") / 86_400.0)[:, None]
        embedded = [layers.Embedding(52, 6)(weeks), layers.Embedding(self.shops, 6)(cross)]
        attended = attend(hist, layers.Dense(self.width)(item))
        return mlp(ops.concatenate([attended, item, *embedded, kinds, age], axis=-1), 32, activation="relu")

    def draw(self, random: np.random.Generator, users: int) -> Arrays:
        return {**super().draw(random, users), "now": NOW + random.integers(0, 10**6, users)}

    def item_features(self) -> Arrays:
        random = np.random.default_rng(7)
        return {
            **Ranker.item_features(self),
            "born": NOW - random.integers(0, 4 * 10**7, N),
            "shop": random.integers(0, 2 * 10**9, N).astype(np.int32),
            "categories": random.integers(0, self.categories, (N, 3)).astype(np.int32),
        }


class ItemBias(ItemColumns):
    """A dot product and a bias by item id: the bias is item state, a number per item."""

    def __init__(self, seed: int | None = 0) -> None:
        self.item_state = {"bias": tf.TensorSpec([], tf.float32)}
        Ranker.__init__(self, seed)

    def pair(self, hist: Any, bias: Any, item: Any) -> Any:
        return ops.sum(mean_of(hist) * item, axis=-1, keepdims=True) + bias[:, None]

    def item_features(self) -> Arrays:
        bias = np.random.default_rng(6).normal(size=N).astype(np.float32) * 0.1
        return {**Ranker.item_features(self), "bias": bias}


class BatchScore(Ranker):
    """`score` is the batch model itself, [B, ...] users beside [B, D] items; the model declares so."""

    batch_score = True

    def pair(self, hist: Any, item: Any) -> Any:
        attended = attend(hist, layers.Dense(self.width)(item))
        return mlp(ops.concatenate([attended, item, attended * item], axis=-1), 48, activation="relu")

    def score(self, user_state: Tensors, item_embs: tf.Tensor) -> tf.Tensor:
        return self.pair_net({**user_state, "item": item_embs}, training=False)[:, 0]
