"""A ranking network whose scorer reads price and brand beside the item embedding, as `nann export` takes it.

`python my_ranker.py RUN` writes a run with random weights, where a real one would come out of your training.
docs/your-model.md explains each part.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

E = 16  # width of an item embedding and of the user's vector
BRANDS = ["acme", "globex", "initech", "umbrella"]
Tensors = Mapping[str, Any]


def ranking_network(item_ids: np.ndarray) -> keras.Model:
    """What training makes: clicked_ids, country, item_id, price, brand -> the probability of a click."""
    clicked = keras.Input([None], dtype="int64", name="clicked_ids")
    country = keras.Input([], dtype="string", name="country")
    item_id = keras.Input([], dtype="int64", name="item_id")
    price = keras.Input([], name="price")
    brand = keras.Input([], dtype="string", name="brand")
    row = layers.IntegerLookup(vocabulary=item_ids.tolist(), name="row")  # any order; 0 is an unknown id
    items = layers.Embedding(len(item_ids) + 1, E)
    item = layers.Activation("linear", name="item_vector")(items(row(item_id)))
    history = layers.GRU(E)(items(row(clicked)))
    countries = layers.Embedding(3, 4)(layers.StringLookup(vocabulary=["de", "fr"])(country))
    user = layers.Dense(E, "tanh", name="user")(layers.Concatenate()([history, countries]))
    code = layers.StringLookup(vocabulary=BRANDS, name="brand_code")(brand)
    cost = layers.Dense(4, "gelu")(layers.Reshape([1])(price))
    pair = [user, item, user * item, cost, layers.Embedding(len(BRANDS) + 1, 4)(code)]
    hidden = layers.Dense(32, "gelu")(layers.Concatenate()(pair))
    return keras.Model([clicked, country, item_id, price, brand], layers.Dense(1, "sigmoid")(hidden))


class Ranker:
    """The network, cut at its layers: its head reads price and brand beside the item embedding."""

    user_features = {  # noqa: RUF012
        "clicked_ids": tf.TensorSpec([None], tf.int64),
        "country": tf.TensorSpec([], tf.string),
    }
    user_state = {"user": tf.TensorSpec([E], tf.float32)}  # noqa: RUF012
    item_state = {  # noqa: RUF012
        "price": tf.TensorSpec([], tf.float32),
        "brand": tf.TensorSpec([], tf.int64),
    }
    embedding_dim = E
    batch_score = True  # the head takes a batch of pairs

    def __init__(self, network: keras.Model) -> None:
        clicked, country, item_id, price, brand = network.inputs
        user, item, code = (network.get_layer(name).output for name in ("user", "item_vector", "brand_code"))
        self.user_network = keras.Model([clicked, country], user)
        self.item_network = keras.Model(item_id, item)
        self.brand_code = keras.Model(brand, code)
        self.head = keras.Model([user, item, price, code], network.output)  # behind the lookup layers

    @classmethod
    def from_run(cls, run_dir: Path) -> "Ranker":
        """Restore what training saved."""
        return cls(keras.models.load_model(run_dir / "ranking.keras"))

    def embed_user(self, features: Tensors) -> Tensors:
        """Raw ids int64 [B, T] and strings [B] -> float32 [B, E]."""
        return {"user": self.user_network([features["clicked_ids"], features["country"]])}

    def embed_item(self, features: Tensors) -> Any:
        """Raw ids int64 [n], prices [n] and strings [n] -> float32 [n, E] and the state of the items."""
        state = {"price": features["price"], "brand": self.brand_code(features["brand"])}
        return self.item_network(features["item_id"]), state

    def score(self, user_state: Tensors, item_embs: Any, item_state: Tensors) -> Any:
        """A batch of pairs: [B, E], [B, E], and price and code of the brand [B] -> [B, 1]."""
        state = [item_state["price"], item_state["brand"]]
        return self.head([user_state["user"], item_embs, *state], training=False)


def write_run(run_dir: Path, features: Tensors) -> None:
    """Write what `nann index` and `nann export` read. features: item_id [N], price [N], brand [N]."""
    keras.utils.set_random_seed(0)
    network = ranking_network(features["item_id"])
    (run_dir / "embeddings").mkdir(parents=True)
    network.save(run_dir / "ranking.keras")
    tensors = {name: tf.constant(values) for name, values in features.items()}
    item_embs, item_state = Ranker(network).embed_item(tensors)
    np.save(run_dir / "embeddings/item_ids.npy", features["item_id"])
    np.save(run_dir / "embeddings/item_embs.npy", item_embs.numpy())
    for name, values in item_state.items():
        np.save(run_dir / f"embeddings/item_state_{name}.npy", values.numpy())
    (run_dir / "run.json").write_text(json.dumps({"format": 1, "model": "my_ranker:Ranker"}))


if __name__ == "__main__":
    random = np.random.default_rng(0)
    catalogue = {
        "item_id": random.permutation(np.arange(1000, 3000)),
        "price": random.gamma(2, 10, 2000).astype(np.float32),
        "brand": random.choice(BRANDS, 2000),
    }
    write_run(Path(sys.argv[1]), catalogue)
