"""The scorer reads integers of the user beside what is encoded: the program encodes all the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from nann.export import ExportOptions, export_model
from nann.export.loaded import loaded
from support.tiny_model import E, L, TinyModel

BEAMS = [10, 30, 40, 40, 40, 25]
USERS = 4
TABLE = tf.constant(np.random.default_rng(2).normal(size=(24, E)).astype(np.float32))
Score = Callable[[Mapping[str, tf.Tensor], tf.Tensor], tf.Tensor]


def _attention(state: Mapping[str, tf.Tensor], items: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    logits = items @ tf.transpose(state["comm_seq"])
    return tf.reduce_sum(tf.nn.softmax(tf.where(mask, logits, -1e9)) * logits, axis=-1)


def _place(state: Mapping[str, tf.Tensor]) -> tf.Tensor:
    return tf.clip_by_value(state["count"] - 1, 0, L - 1)


def _count(state: Mapping[str, tf.Tensor]) -> tf.Tensor:
    return tf.cast(state["count"], tf.float32)


SCORES: dict[str, Score] = {
    "bits_of_small_integers": lambda u, e: (
        tf.linalg.matvec(e, u["comm_seq"][0]) * tf.cast(tf.cast(u["hour"] % 200, tf.int16) % 7, tf.float32)
    ),
    "hour_as_a_number": lambda u, e: (
        tf.linalg.matvec(e, u["comm_seq"][0]) * tf.sin(tf.cast(u["hour"], tf.float32))
    ),
    "last_event": lambda u, e: tf.linalg.matvec(e, u["comm_seq"][_place(u)]),
    "last_event_gathered": lambda u, e: tf.linalg.matvec(e, tf.gather(u["comm_seq"], _place(u))),
    "mask_by_count": lambda u, e: _attention(u, e, tf.sequence_mask(u["count"], L)),
    "row_of_a_table": lambda u, e: tf.linalg.matvec(e, u["comm_seq"][0] + tf.gather(TABLE, u["hour"] % 24)),
    "row_of_what_is_computed": lambda u, e: tf.linalg.matvec(
        e, u["comm_seq"][0] + tf.gather(TABLE, tf.cast(tf.math.log(1.0 + _count(u)), tf.int32))
    ),
}


class Recurrent(TinyModel):
    """Events go through a GRU; an hour and a count are passed on as they are."""

    user_features = {  # noqa: RUF012
        **TinyModel.user_features,
        "hour": tf.TensorSpec([], tf.int64),
        "count": tf.TensorSpec([], tf.int32),
    }
    user_state = {  # noqa: RUF012
        **TinyModel.user_state,
        "hour": tf.TensorSpec([], tf.int64),
        "count": tf.TensorSpec([], tf.int32),
    }

    def __init__(self, score: Score) -> None:
        super().__init__()
        self.layer = layers.GRU(E, return_sequences=True)
        self._score = score

    def embed_user(self, features: Any) -> dict[str, tf.Tensor]:
        events = super().embed_user(features)["comm_seq"]
        return {"comm_seq": self.layer(events), "hour": features["hour"], "count": features["count"]}

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        return self._score(user_state, item_embs)


@pytest.mark.parametrize("name", SCORES)
def test_a_search_by_ids_scores_as_the_model(shared_run: Path, tmp_path: Path, name: str) -> None:
    model, out = Recurrent(SCORES[name]), tmp_path / "1"
    export_model(shared_run, out, ExportOptions(level_topn=BEAMS), model=model)
    manifest = json.loads((out / "assets.extra/nann_manifest.json").read_text())
    assert manifest["encoder"] == {"executor": "native", "executor_reason": None, "left_out": []}
    files = manifest["tables"]["user"]
    vocabularies = {
        each: np.load(out / files[table]["file"]) for each, table in manifest["model"]["vocabularies"].items()
    }
    random = np.random.default_rng(1)
    rows = {each: random.integers(1, len(ids) + 1, (USERS, L)) for each, ids in vocabularies.items()}
    ids = {each: known[rows[each] - 1] for each, known in vocabularies.items()}
    integers = {"hour": np.array([0, 23, 2**40 + 5, 7]), "count": np.array([0, 1, L, 3], np.int32)}
    search = {
        "level_topn": np.tile(np.array(BEAMS, np.int32), (USERS, 1)),
        "exclude_ids": np.full((USERS, 1), -1),
    }
    state = model.embed_user({each: tf.constant(value) for each, value in {**rows, **integers}.items()})
    flat = {each: np.asarray(value).reshape(USERS, -1) for each, value in state.items()}
    with loaded(out) as exported:
        found = exported.run("retrieve_by_ids", {**ids, **integers, **search})
        scores = exported.run("score", {**flat, "item_ids": found["top_k"]})["scores"]
    # The scores of `score` are the model's: the export has compared them.
    np.testing.assert_allclose(found["scores"], scores, rtol=0, atol=1e-5 * np.abs(scores).max())
