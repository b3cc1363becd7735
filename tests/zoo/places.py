"""Raw features of user and item whose last bits decide: places in one city, days, times in seconds."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from zoo.base import Arrays, N, Ranker
from zoo.blocks import attend, mlp

_CITY = (48.85, 2.35)  # Degrees north and east.
_KILOMETRES = (111.2, 73.2)  # Of a degree, there.
_TODAY, _NOW = 20_400, 1_762_560_000  # Days and seconds since 1970.


class PlacesAndDays(Ranker):
    """How far away, how many weeks and months old, and how late in the day, beside an attention."""

    takes_real_users_only = True  # Of made-up ones, who ask at the time 0, the decay is infinite.
    item_state: ClassVar[dict[str, tf.TensorSpec]] = {
        "place": tf.TensorSpec([2], tf.float32),
        "day": tf.TensorSpec([], tf.float32),
        "last_sold": tf.TensorSpec([], tf.float32),
    }

    def inputs(self) -> dict[str, keras.KerasTensor]:
        own = {"home": [2], "today": [], "now": []}
        return {
            **super().inputs(),
            **{name: keras.Input(shape, dtype="float32", name=name) for name, shape in own.items()},
        }

    def user(self, item_ids: Any, **own: Any) -> dict[str, Any]:
        return {"hist": self.embedded(item_ids), **own}

    def pair(
        self, hist: Any, home: Any, today: Any, now: Any, place: Any, day: Any, last_sold: Any, item: Any
    ) -> Any:
        apart = (place - home) * ops.convert_to_tensor(_KILOMETRES, "float32")
        kilometres = ops.sqrt(ops.sum(ops.square(apart), axis=-1))
        weeks = ops.clip(ops.cast((today - day) / 7.0, "int32"), 0, 51)
        is_old = ops.cast((today - day) / 30.0 > 12.0, "float32")
        hours = (now - last_sold) / 3600.0
        angle = 2 * np.pi * hours / 24.0
        numbers = [kilometres, is_old, ops.exp(-hours / 48.0), ops.sin(angle), ops.cos(angle)]
        near = ops.cast(kilometres < 2.0, "float32")
        x = [attend(hist, item), item, layers.Embedding(52, 6)(weeks), ops.stack([*numbers, near], axis=-1)]
        return mlp(ops.concatenate(x, axis=-1), 32, activation="relu")

    def draw(self, random: np.random.Generator, users: int) -> Arrays:
        return {
            **super().draw(random, users),
            "home": _places(random, users),
            "today": _TODAY + random.integers(0, 3, users).astype(np.float32),
            "now": (_NOW + 128 * random.integers(0, 1_000, users)).astype(np.float32),
        }

    def item_features(self) -> Arrays:
        random = np.random.default_rng(7)
        return {
            **super().item_features(),
            "place": _places(random, N),
            "day": (_TODAY - random.integers(0, 700, N)).astype(np.float32),
            "last_sold": (_NOW - 128 * random.integers(0, 2_000, N)).astype(np.float32),
        }

    def embed_item(self, features: Any) -> Any:
        state = {name: tf.cast(features[name], spec.dtype) for name, spec in self.item_state.items()}
        return super().embed_item({"item_ids": features["item_ids"]}), state


def _places(random: np.random.Generator, count: int) -> Any:
    return (_CITY + 0.02 * random.normal(size=(count, 2))).astype(np.float32)
