"""A model with all that the second model protocol brings, and what its answers must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from support.tiny_model import D
from support.tiny_run import N
from support.tiny_run import write_run as write_tiny_run

BEAMS = [20, 40, 40, 40, 40, 10]
# Clicks, country, hour of day, spend: an unknown word, a history of nothing, the hour 0.
USERS = [([5, 9, 11], "fr", 0, 3.5), ([], "", 23, 0.0), ([7], "elsewhere", 12, 80.0)]
User = tuple[list[int], str, int, float]


class Modern:
    """A GRU over clicks of any number, a looked-up country, a raw hour, a FeatureSpace, an item's bias."""

    user_features = {  # noqa: RUF012
        "clicked items": tf.TensorSpec([None], tf.int64),
        "country": tf.TensorSpec([], tf.string),
        "hour": tf.TensorSpec([], tf.int32),
        "spend": tf.TensorSpec([], tf.float32),
    }
    user_state = {"user-vector": tf.TensorSpec([D], tf.float32)}  # noqa: RUF012
    item_state = {"bias": tf.TensorSpec([], tf.float32)}  # noqa: RUF012
    embedding_dim = D

    def __init__(self) -> None:
        keras.utils.set_random_seed(1)
        self.table = tf.Variable(np.random.default_rng(0).normal(size=(1001, D)).astype(np.float32))
        self.countries = keras.layers.StringLookup(vocabulary=["de", "fr"])
        self.recurrent = keras.layers.GRU(D)
        self.recurrent.build((None, None, D))
        self.space = _feature_space()
        self.profile = keras.layers.Dense(D)
        self.profile.build((None, 6 + 4 + 12))

    def embed_user(self, features: Any) -> dict[str, tf.Tensor]:
        country = tf.one_hot(self.countries(features["country"]), D)
        hour = tf.gather(self.table, features["hour"])
        clicks = self.recurrent(tf.gather(self.table, features["clicked items"]))
        columns = {name: features[name][:, tf.newaxis] for name in ("country", "spend")}
        return {"user-vector": clicks + country + hour + self.profile(self.space(columns))}

    def embed_item(self, features: Any) -> Any:
        raise NotImplementedError

    def score(self, user_state: Any, item_embs: tf.Tensor, item_state: Any) -> tf.Tensor:
        return tf.linalg.matvec(item_embs, user_state["user-vector"]) + item_state["bias"]


def _feature_space() -> Any:
    space = keras.utils.FeatureSpace
    made = space(
        features={
            "country": space.string_hashed(num_bins=6, output_mode="one_hot"),
            "spend": space.float_discretized(num_bins=4, output_mode="one_hot"),
        },
        crosses=[space.cross(("country", "spend"), crossing_dim=12)],
        output_mode="concat",
    )
    known = {"country": np.array([b"de", b"fr"] * 4), "spend": np.linspace(0, 100, 8, dtype=np.float32)}
    made.adapt(tf.data.Dataset.from_tensor_slices(known).batch(4))
    return made


def write_run(run: Path) -> Path:
    """The RUN of `Modern`, with its index; run.json does not name it."""
    write_tiny_run(run)
    np.save(run / "embeddings/item_state_bias.npy", np.linspace(-2, 2, N).astype(np.float32))
    np.save(run / "vocabulary/clicked items.npy", np.arange(1, 1000, 2))
    return run


def request() -> dict[str, Any]:
    """Inputs of `retrieve_by_ids` for all of `USERS`; what lies beyond a length is garbage."""
    clicks, countries, hours, spends = zip(*USERS, strict=True)
    return {
        "clicked items": np.array([[*each, 999, 3, 3][:3] for each in clicks], np.int64),
        "clicked items_length": np.array([len(each) for each in clicks], np.int32),
        "country": np.array([each.encode() for each in countries], object),
        "hour": np.array(hours, np.int32),
        "spend": np.array(spends, np.float32),
        "level_topn": np.array([BEAMS] * len(USERS), np.int32),
        "exclude_ids": np.full((len(USERS), 1), -1, np.int64),
    }


def expected_scores(run: Path, user: User, ids: Any) -> Any:
    """Of some items, by the model itself."""
    clicks, country, hour, spend = user
    model = Modern()
    rows = [(click + 1) // 2 for click in clicks] or [0]
    state = model.embed_user(
        {
            "clicked items": tf.constant([rows], tf.int64),
            "country": tf.constant([country]),
            "hour": tf.constant([hour]),
            "spend": tf.constant([spend]),
        }
    )
    order = {int(item): row for row, item in enumerate(np.load(run / "embeddings/item_ids.npy"))}
    at = [order[int(item)] for item in ids]
    embs = np.load(run / "embeddings/item_embs.npy")[at]
    bias = np.load(run / "embeddings/item_state_bias.npy")[at]
    one = {"user-vector": state["user-vector"][0]}
    return model.score(one, tf.constant(embs), {"bias": tf.constant(bias)}).numpy()
