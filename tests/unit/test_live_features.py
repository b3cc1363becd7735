"""Events with item features: the export computes embedding and item state as the model does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.live import Publisher, open_base
from nann.live._events import EventReader
from support.live import state_of, write_export
from support.tiny_run import write_run as write_tiny_run

D, ITEMS = 8, 80
CATES = np.array([100, 105, 117], np.int64)


class Featured:
    """An item is a looked-up brand, a category with a vocabulary, a row of a table and a price."""

    user_features: dict[str, Any] = {}  # noqa: RUF012
    user_state = {"user": tf.TensorSpec([D], tf.float32)}  # noqa: RUF012
    item_state = {"bias": tf.TensorSpec([], tf.float32)}  # noqa: RUF012
    item_features = {  # noqa: RUF012
        "brand": tf.TensorSpec([], tf.string),
        "cate_ids": tf.TensorSpec([], tf.int64),
        "item row": tf.TensorSpec([], tf.int32),
        "price": tf.TensorSpec([], tf.float32),
    }
    embedding_dim = D

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.brands = keras.layers.StringLookup(vocabulary=["acme", "umbrella"])
        self.of_brand, self.of_cate, self.of_row = (
            tf.Variable(random.normal(size=(rows, D)).astype(np.float32)) for rows in (3, 4, 10)
        )

    def embed_user(self, features: Any) -> Any:
        raise NotImplementedError

    def embed_item(self, features: Any) -> Any:
        embs = tf.gather(self.of_brand, self.brands(features["brand"]))
        embs += tf.gather(self.of_cate, features["cate_ids"]) + tf.gather(self.of_row, features["item row"])
        return embs, {"bias": tf.math.log(features["price"])}

    def score(self, user_state: Any, item_embs: tf.Tensor, item_state: Any) -> tf.Tensor:
        return tf.linalg.matvec(item_embs, user_state["user"]) + item_state["bias"]


def write_run(run: Path) -> Path:
    write_tiny_run(run, items=ITEMS)
    np.save(run / "embeddings/item_state_bias.npy", np.zeros(ITEMS, np.float32))
    np.save(run / "vocabulary/cate_ids.npy", CATES)
    return run


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("live"), model=Featured(), write=write_run)


def event(item_id: int, **changed: Any) -> bytes:
    features = {"brand": "acme", "cate_ids": 105, "item row": 3, "price": 2.0, **changed}
    return json.dumps({"id": item_id, "features": features}).encode()


def test_features_become_what_the_model_makes_of_them(model_dir: Path) -> None:
    with Publisher(model_dir) as publisher:
        given = [event(10**6), event(10**6 + 1, brand="unknown", cate_ids=5, price=1.0)]
        published = publisher.publish(given, {})
    assert (published.new, published.refused) == (2, ())
    features = {
        "brand": tf.constant(["acme", "unknown"]),
        "cate_ids": tf.constant([2, 0], tf.int64),  # Rows of the vocabulary; 5 is not in it.
        "item row": tf.constant([3, 3]),
        "price": tf.constant([2.0, 1.0]),
    }
    embs, item_state = Featured().embed_item(features)
    state = state_of(model_dir)
    positions = np.array([state.position_of(10**6), state.position_of(10**6 + 1)])
    np.testing.assert_allclose(state.rows("item_embs", positions), embs, rtol=1e-6)
    np.testing.assert_allclose(state.state_rows("bias", positions), item_state["bias"], rtol=1e-6)


def test_features_that_the_model_does_not_take_are_refused_alone(model_dir: Path) -> None:
    with Publisher(model_dir) as publisher:
        before = publisher.state.num_positions
        given = [event(20), event(21, **{"item row": 10}), event(22, price=0.0), event(23)]
        published = publisher.publish(given, {})
        assert publisher.state.num_positions == before + 3
    # A row that the table lacks is an error of TensorFlow's; log(0) is item state, which may be infinite.
    (refused,) = published.refused
    assert refused.startswith("features of item 21: expected what embed_item takes")


@pytest.mark.parametrize(
    "changed",
    [{"brand": 3}, {"brand": ["a"]}, {"cate_ids": 1.5}, {"cate_ids": [1]}, {"price": "3"}, {"more": 1}],
)
def test_features_of_another_form_are_refused(model_dir: Path, changed: dict[str, Any]) -> None:
    reader = EventReader(open_base(model_dir))
    assert reader.read(event(1)) is not None
    with pytest.raises(InvalidInputError, match="feature"):
        reader.read(event(1, **changed))
