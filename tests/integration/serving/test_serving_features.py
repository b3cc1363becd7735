"""Served: strings, an open length, a recurrent user, names that are no identifiers, item state."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export import ExportOptions, export_model
from nann.serving.client import NannClient, RequestRejectedError
from support.tiny_model import D
from support.tiny_run import N, write_run

BEAMS = [20, 40, 40, 40, 40, 10]


class Modern:
    """A GRU over the clicks, a looked-up country, an hour of day, and a bias of the item."""

    user_features = {  # noqa: RUF012
        "clicked items": tf.TensorSpec([None], tf.int64),
        "country": tf.TensorSpec([], tf.string),
        "hour": tf.TensorSpec([], tf.int32),
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

    def embed_user(self, features: Any) -> dict[str, tf.Tensor]:
        country = tf.one_hot(self.countries(features["country"]), D)
        hour = tf.gather(self.table, features["hour"])
        clicks = self.recurrent(tf.gather(self.table, features["clicked items"]))
        return {"user-vector": clicks + country + hour}

    def embed_item(self, features: Any) -> Any:
        raise NotImplementedError

    def score(self, user_state: Any, item_embs: tf.Tensor, item_state: Any) -> tf.Tensor:
        return tf.linalg.matvec(item_embs, user_state["user-vector"]) + item_state["bias"]


USERS = [([5, 9, 11], "fr", 0), ([], "", 23), ([7], "elsewhere", 12)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("features") / "run")
    np.save(run / "embeddings/item_state_bias.npy", np.linspace(-2, 2, N).astype(np.float32))
    np.save(run / "vocabulary/clicked items.npy", np.arange(1, 1000, 2))
    return run


@pytest.fixture(scope="module")
def address(run: Path, serve: Callable[..., Any]) -> Iterator[Any]:
    models = run.parent / "models"
    # The table is a mapped file though the user is recurrent.
    options = ExportOptions(level_topn=BEAMS, table_bytes=0)
    result = export_model(run, models / "1", options, model=Modern())
    assert "clicked_items_vocabulary" in result["user_tables"]
    server = serve("--model_name", "nann", "--model_base_path", str(models))
    yield server.wait_ready()
    server.close()


def _expected(run: Path, user: tuple[Any, str, int], ids: Any) -> Any:
    """By the model, outside of the export."""
    clicks, country, hour = user
    model = Modern()
    rows = [(click + 1) // 2 for click in clicks] or [0]
    state = model.embed_user(
        {
            "clicked items": tf.constant([rows], tf.int64),
            "country": tf.constant([country]),
            "hour": tf.constant([hour]),
        }
    )
    order = {int(item): row for row, item in enumerate(np.load(run / "embeddings/item_ids.npy"))}
    at = [order[int(item)] for item in ids]
    embs = np.load(run / "embeddings/item_embs.npy")[at]
    bias = np.load(run / "embeddings/item_state_bias.npy")[at]
    one = {"user-vector": state["user-vector"][0]}
    return model.score(one, tf.constant(embs), {"bias": tf.constant(bias)}).numpy()


def test_the_client_sends_features_of_any_kind(run: Path, address: Any) -> None:
    clicks, countries, hours = (list(each) for each in zip(*USERS, strict=True))
    features = {"clicked items": clicks, "country": countries, "hour": hours}
    with NannClient(address.grpc, model="nann") as client:
        result = client.top_k_by_ids(features, level_topn=BEAMS)
        for user, ids, scores in zip(USERS, result.ids, result.scores, strict=True):
            np.testing.assert_allclose(scores, _expected(run, user, ids), rtol=1e-4, atol=1e-5)
        one = client.top_k_by_ids(
            level_topn=BEAMS, **{"clicked items": [5, 9, 11], "country": "fr", "hour": 0}
        )
        np.testing.assert_array_equal(one.ids[0], result.ids[0])
        with pytest.raises(InvalidInputError, match="hour: expected int32"):
            client.top_k_by_ids({**features, "hour": ["noon"] * 3}, level_topn=BEAMS)
        padded = {"clicked items": [[5], [5], [5]], "clicked items_length": [1, 1, 2]}
        with pytest.raises(RequestRejectedError, match="expected 0 to the width of clicked items"):
            client.top_k_by_ids({**features, **padded}, level_topn=BEAMS)


def test_rest_takes_them_too(run: Path, address: Any) -> None:
    body = {
        "signature_name": "retrieve_by_ids",
        "instances": [
            {
                "clicked items": [*clicks, 999, 3, 3][:3],
                "clicked items_length": len(clicks),
                "country": country,
                "hour": hour,
                "level_topn": BEAMS,
                "exclude_ids": [-1],
            }
            for clicks, country, hour in USERS
        ],
    }
    request = urllib.request.Request(
        f"http://{address.rest}/v1/models/nann:predict", data=json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        rows = json.load(response)["predictions"]
    for user, row in zip(USERS, rows, strict=True):
        np.testing.assert_allclose(row["scores"], _expected(run, user, row["top_k"]), rtol=1e-4, atol=1e-5)
