"""Encoders of many kinds: a search by ids scores as the model does with the state that it encodes itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from nann.export import ExportOptions, export_model
from nann.export.loaded import loaded
from support.tiny_model import E, L, TinyModel

BEAMS = [10, 30, 40, 40, 40, 25]
USERS = 5
_RANDOM = np.random.default_rng(3)
MATRIX = tf.constant(_RANDOM.normal(size=(E, E)).astype(np.float32) * 0.4)
Features = Mapping[str, tf.Tensor]
Encode = Callable[[tf.Tensor, Features, Any], tf.Tensor]


def _lengths(features: Features) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(features["item_ids"] > 0, tf.int32), axis=1)


def _last(events: tf.Tensor, features: Features, _: Any) -> tf.Tensor:
    last = tf.gather(events, tf.maximum(_lengths(features) - 1, 0), batch_dims=1)
    return events + last[:, tf.newaxis]


def _mean(events: tf.Tensor, features: Features, _: Any) -> tf.Tensor:
    mask = tf.sequence_mask(_lengths(features), L, dtype=tf.float32)[..., tf.newaxis]
    count = tf.maximum(tf.cast(_lengths(features), tf.float32), 1.0)
    return events + tf.reduce_sum(events * mask, axis=1, keepdims=True) / count[:, tf.newaxis, tf.newaxis]


def _best(events: tf.Tensor, _: Features, __: Any) -> tf.Tensor:
    _, places = tf.math.top_k(tf.reduce_sum(events * events, axis=-1), 2)
    return events + tf.reduce_mean(tf.gather(events, places, batch_dims=1), axis=1, keepdims=True)


def _masked_attention(events: tf.Tensor, features: Features, _: Any) -> tf.Tensor:
    logits = tf.matmul(events, events @ MATRIX, transpose_b=True)
    weights = tf.nn.softmax(tf.where((features["item_ids"] > 0)[:, tf.newaxis], logits, -np.inf))
    return tf.where(tf.math.is_nan(weights), 0.0, weights) @ events


def _ragged(events: tf.Tensor, features: Features, _: Any) -> tf.Tensor:
    ragged = tf.RaggedTensor.from_tensor(events, lengths=tf.maximum(_lengths(features), 1))
    return events + tf.reduce_mean(ragged, axis=1)[:, tf.newaxis]


def _scan(events: tf.Tensor, _: Features, __: Any) -> tf.Tensor:
    states = tf.scan(lambda state, event: tf.tanh(state * 0.5 + event), tf.transpose(events, [1, 0, 2]))
    return tf.transpose(states, [1, 0, 2])


def _multiplied(columns: tf.Tensor) -> tf.Tensor:
    """Of columns whose number is only said (`set_shape`): what a network makes of them."""
    return (tf.cast(columns, tf.float32) @ tf.ones([columns.shape[1], E]))[:, tf.newaxis]


def _words() -> Any:
    return layers.TextVectorization(vocabulary=["red", "shoe"], output_sequence_length=3)


def _table() -> Any:
    values = tf.lookup.KeyValueTensorInitializer(tf.constant(["red", "a"]), tf.constant([0.5, -1.0]))
    return tf.lookup.StaticHashTable(values, 0.25)


def _at_place(events: tf.Tensor, features: Features, _: Any) -> tf.Tensor:
    return events + tf.gather(events @ MATRIX, features["place"], batch_dims=1)[:, tf.newaxis]


def _along(events: tf.Tensor, features: Features, _: Any) -> tf.Tensor:
    places = ops.reshape(features["place"], (-1, 1, 1))
    return events + ops.take_along_axis(events @ MATRIX, places, axis=1)


def _sessions(events: tf.Tensor, features: Features, _: Any) -> tf.Tensor:
    users = tf.shape(events)[0]
    sessions = (
        features["place"][:, tf.newaxis] * tf.constant([[0, 0, 0, 1, 1]]) + L * tf.range(users)[:, None]
    )
    rows = tf.reshape(events @ MATRIX, [-1, E])
    sums = tf.math.unsorted_segment_sum(rows, tf.reshape(sessions, [-1]), L * users)
    return events + tf.reshape(sums, [users, L, E])


def _turned(events: tf.Tensor, features: Features, _: Any) -> tf.Tensor:
    return tf.reverse_sequence(events @ MATRIX, features["place"], seq_axis=1)


def _buckets_and_crosses() -> Any:
    return [(layers.Discretization([6.0, 12.0]), layers.HashedCrossing(16)) for _ in range(14)]


def _crossed_buckets(events: tf.Tensor, features: Features, pairs: Any) -> tf.Tensor:
    hour, columns = tf.cast(features["at"] % 24, tf.float32), []
    for bucket, cross in pairs:
        found = bucket(hour)
        columns += [tf.cast(cross((features["query"], found)), tf.float32), tf.cast(found, tf.float32)]
    return events @ MATRIX + _multiplied(tf.stack(columns, axis=1))


def _shifted(events: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
    return events + tf.cast(by, tf.float32)[:, tf.newaxis, tf.newaxis]


# The layer that it calls, if any, and what it does; of that only what is named last may be TensorFlow's.
ENCODERS: dict[str, tuple[Callable[[], Any] | None, Encode, str | None]] = {
    "along_a_place": (None, _along, "SelectV2"),
    "at_a_place": (None, _at_place, None),
    "attention": (None, _masked_attention, None),
    "batch_map": (None, lambda x, f, _: tf.map_fn(lambda one: tf.nn.softmax(one @ MATRIX), x), None),
    "best_events": (None, _best, None),
    "category_counts": (
        lambda: layers.CategoryEncoding(8, "count"),
        lambda x, f, layer: x @ MATRIX + _multiplied(layer(f["cate_ids"])),
        None,
    ),
    "convolution": (lambda: layers.Conv1D(E, 3, padding="causal"), lambda x, f, layer: layer(x), None),
    "crossed": (
        lambda: layers.HashedCrossing(16, output_mode="one_hot"),
        lambda x, f, layer: x @ MATRIX + _multiplied(layer((f["query"], f["at"] % 24))),
        None,
    ),
    "crossed_buckets": (_buckets_and_crosses, _crossed_buckets, "Cast"),
    "float64": (None, lambda x, f, _: tf.cast(tf.cast(x, tf.float64) / 3, tf.float32), None),
    "gru": (
        lambda: layers.GRU(E, return_sequences=True),
        lambda x, f, layer: layer(x, mask=f["item_ids"] > 0),
        None,
    ),
    "gru_of_a_function": (  # As networks in SavedModels are: variables are read within a call.
        lambda: tf.function(layers.GRU(E, return_sequences=True)),
        lambda x, f, layer: layer(x),
        None,
    ),
    "hashed": (lambda: layers.Embedding(16, E), lambda x, f, layer: x + layer(f["item_ids"] * 31 % 16), None),
    "hour": (
        None,
        lambda x, f, _: x + (tf.one_hot(f["at"] // 3600 % 24, 24) @ tf.ones([24, E]))[:, None],
        None,
    ),
    "last_event": (None, _last, None),
    "lstm": (
        lambda: layers.Bidirectional(layers.LSTM(E // 2, return_sequences=True)),
        lambda x, f, layer: layer(x),
        None,
    ),
    "mean": (None, _mean, None),
    "ragged": (None, _ragged, "Where"),
    "running_sum": (None, lambda x, f, _: tf.cumsum(x, axis=1, exclusive=True), None),
    "scan": (None, _scan, None),
    "sessions": (None, _sessions, None),
    "table_of_text": (
        _table,
        lambda x, f, table: x @ MATRIX + _multiplied(table.lookup(tf.stack([f["query"], f["query"]], 1))),
        None,
    ),
    "times_equal": (None, lambda x, f, _: _shifted(x, f["at"] == f["then"]), "Equal"),
    "times_apart": (None, lambda x, f, _: _shifted(x, (f["at"] - f["then"]) // 86400 % 7), None),
    "turned": (None, _turned, None),
    "words": (_words, lambda x, f, words: x @ MATRIX + _multiplied(words(f["query"])), None),
}


class _Model(TinyModel):
    user_features = {  # noqa: RUF012
        **TinyModel.user_features,
        "at": tf.TensorSpec([], tf.int64),
        "then": tf.TensorSpec([], tf.int64),
        "place": tf.TensorSpec([], tf.int32),
        "query": tf.TensorSpec([], tf.string),
    }

    def __init__(self, make_layer: Callable[[], Any] | None, encode: Encode) -> None:
        super().__init__()
        self.layer = None if make_layer is None else make_layer()
        self._encode = encode

    def embed_user(self, features: Any) -> dict[str, tf.Tensor]:
        return {"comm_seq": self._encode(super().embed_user(features)["comm_seq"], features, self.layer)}


def _users(vocabularies: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Features as the model takes them, and as requests bring them: users without some events or any."""
    random = np.random.default_rng(1)
    rows = {name: random.integers(1, len(ids) + 1, (USERS, L)) for name, ids in vocabularies.items()}
    for each in rows.values():
        each[1, 2:], each[2], each[3, :3] = 0, 0, 0
    ids = {name: np.where(rows[name] > 0, known[rows[name] - 1], 0) for name, known in vocabularies.items()}
    # Floats do not tell most of these apart.
    at = np.array([1_700_000_000, 16_777_217, 5, 1_700_000_001, 2**40])
    plain = {
        "at": at,
        "then": at - np.array([1, 1, 0, 86_400, 0]),
        "place": np.array([0, 3, L - 1, 1, 2], np.int32),
        "query": np.array([b"red shoe", b"", b"a red red shoe", b"red", b"a"], object),
    }
    return {**rows, **plain}, {**ids, **plain}


@pytest.mark.parametrize("name", ENCODERS)
def test_a_search_by_ids_scores_as_the_model(shared_run: Path, tmp_path: Path, name: str) -> None:
    make_layer, encode, by_tensorflow = ENCODERS[name]
    model, out = _Model(make_layer, encode), tmp_path / "1"
    export_model(shared_run, out, ExportOptions(level_topn=BEAMS), model=model)
    manifest = json.loads((out / "assets.extra/nann_manifest.json").read_text())
    encoder = manifest["encoder"]
    assert encoder["executor"] == "native"
    assert (encoder["executor_reason"] is None) == (by_tensorflow is None), encoder
    assert (by_tensorflow or "") in (encoder["executor_reason"] or "")
    files = manifest["tables"]["user"]
    vocabularies = {
        name: np.load(out / files[table]["file"]) for name, table in manifest["model"]["vocabularies"].items()
    }
    rows, ids = _users(vocabularies)
    search = {
        "level_topn": np.tile(np.array(BEAMS, np.int32), (USERS, 1)),
        "exclude_ids": np.full((USERS, 1), -1),
    }
    with loaded(out) as exported:
        together = exported.run("retrieve_by_ids", {**ids, **search})
        for user in range(USERS):
            one = {name: each[user : user + 1] for name, each in rows.items()}
            state = model.embed_user({name: tf.constant(each) for name, each in one.items()})["comm_seq"]
            asked = {name: each[user : user + 1] for name, each in {**ids, **search}.items()}
            found = exported.run("retrieve_by_ids", asked)
            scores = exported.run(
                "score", {"comm_seq": state.numpy().reshape(1, -1), "item_ids": found["top_k"]}
            )["scores"]
            np.testing.assert_allclose(found["scores"], scores, rtol=0, atol=1e-5 * np.abs(scores).max())
            np.testing.assert_array_equal(together["scores"][user], found["scores"][0])
