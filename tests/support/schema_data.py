"""A small source with columns of users, items and events, and a model that is trained on all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nann.training import TrainedModel

SCHEMA = {
    "columns": [
        {"name": "user"},
        {"name": "item"},
        {"name": "timestamp"},
        {"name": "city", "of": "user", "type": "string"},
        {"name": "brand", "of": "item", "type": "string"},
        {"name": "maker", "of": "item", "type": "id"},
        {"name": "title", "of": "item", "type": "string"},
        {"name": "price", "of": "item", "type": "float32"},
        {"name": "tags", "of": "item", "type": "string", "list": "|"},
        {"name": "device", "of": "event", "type": "id"},
    ]
}


def write_source(folder: Path, *, users: int = 40, items: int = 120, events: int = 12) -> tuple[Path, Path]:
    """Text and schema: users of one city like the items of one brand."""
    random = np.random.default_rng(0)
    lines = []
    for user in range(1, users + 1):
        taste = user % 4
        for time in range(events):
            item = 1 + taste + 4 * int(random.integers(items // 4))
            brand, tags = f"brand {item % 4}", "|".join(f"t{tag}" for tag in range(item % 3))
            columns = [user, item, time, f"city {taste}", brand, 7000 + item % 5, f"item {item}"]
            lines.append(",".join(map(str, [*columns, item / 8, tags, 300 + time % 2])))
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    (folder / "schema.json").write_text(json.dumps(SCHEMA))
    return folder / "events.csv", folder / "schema.json"


class EveryColumn(TrainedModel, keras.Model):
    """Reads columns of users, items and events, of every type, and a list."""

    length, width, tag_count = 6, 8, 2

    def __init__(self, rows: Mapping[str, int], columns: Mapping[str, Any], *, seed: int = 0) -> None:
        super().__init__()
        keras.utils.set_random_seed(seed)
        history = [self.length]
        self.user_features = {
            **{name: tf.TensorSpec(history, tf.int64) for name in ("item_ids", "maker", "device", "brand")},
            "city": tf.TensorSpec([], tf.int64),
            "tags": tf.TensorSpec([*history, self.tag_count], tf.int32),
            "price": tf.TensorSpec(history, tf.float32),
        }
        self.item_features = {
            **{name: tf.TensorSpec([], tf.int64) for name in ("item_ids", "brand", "maker")},
            "price": tf.TensorSpec([], tf.float32),
            "tags": tf.TensorSpec([self.tag_count], tf.int32),
        }
        self.user_state = {"user": tf.TensorSpec([self.width], tf.float32)}
        self.embedding_dim = self.width
        sizes = {**rows, **{name: columns[name]["rows"] for name in ("city", "device", "tags")}}
        self.tables = {name: keras.layers.Embedding(count, self.width) for name, count in sizes.items()}

    def embed_item(self, features: Mapping[str, Any]) -> Any:
        total = tf.add_n([self.tables[name](features[name]) for name in ("item_ids", "brand", "maker")])
        total += tf.reduce_sum(self.tables["tags"](features["tags"]), axis=-2)
        return total + 0.01 * features["price"][..., tf.newaxis]

    def embed_user(self, features: Mapping[str, Any]) -> dict[str, Any]:
        events = self.embed_item(features) + self.tables["device"](features["device"])
        present = tf.cast(features["item_ids"] > 0, tf.float32)[..., tf.newaxis]
        return {"user": tf.reduce_mean(events * present, axis=1) + self.tables["city"](features["city"])}

    def score(self, user_state: Mapping[str, Any], item_embs: Any) -> Any:
        return tf.linalg.matvec(item_embs, user_state["user"])
