"""Which features are rows of tables as they are sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from nann.export._raw_rows import misnamed_vocabulary_warnings, raw_id_warnings, short_vocabulary_warnings
from nann.export._user_side import rewrite_user_side

R, E = 50, 4


class _Model:
    """`embed` makes the vectors [B, L, E] of the ids."""

    user_features = {"ids": tf.TensorSpec([3], tf.int64)}  # noqa: RUF012
    user_state = {"user": tf.TensorSpec([E], tf.float32)}  # noqa: RUF012
    embedding_dim = E

    def __init__(self, embed: Callable[[Any], Any]) -> None:
        self._embed = embed

    def embed_user(self, features: Any) -> Any:
        return {"user": tf.reduce_sum(self._embed(features["ids"]), axis=1)}

    def embed_item(self, features: Any) -> Any:
        raise NotImplementedError

    def score(self, user_state: Any, item_embs: Any) -> Any:
        return tf.linalg.matvec(item_embs, user_state["user"])


def _variable() -> Callable[[Any], Any]:
    table = tf.Variable(tf.ones([R, E]), name="table")
    return lambda ids: tf.gather(table, tf.maximum(tf.cast(ids, tf.int32), 0))


def _keras() -> Callable[[Any], Any]:
    ids = keras.Input([3], dtype="int64")
    network = keras.Model(ids, layers.Embedding(R, E)(ids))
    network.layers[1].name = "table"
    return network


def _nested() -> Callable[[Any], Any]:
    inside = tf.function(_variable())
    return lambda ids: inside(tf.reshape(ids, [-1, 3]))


def _shifted() -> Callable[[Any], Any]:
    inside = _variable()
    return lambda ids: inside(tf.where(ids > 0, ids + 1, 0))


def _constant() -> Callable[[Any], Any]:
    table = tf.constant(np.ones([R, E], np.float32))
    return lambda ids: tf.gather(table, ids)


def _one_hot() -> Callable[[Any], Any]:
    kernel = tf.Variable(tf.ones([R, E]))
    return lambda ids: tf.one_hot(ids, R) @ kernel


def _looked_up() -> Callable[[Any], Any]:
    lookup, table = layers.IntegerLookup(vocabulary=list(range(100, 100 + R - 1))), _variable()
    return lambda ids: table(lookup(ids))


def _hashed() -> Callable[[Any], Any]:
    table = _variable()
    return lambda ids: table(tf.math.floormod(ids, R))


def _numbers() -> Callable[[Any], Any]:
    return lambda ids: tf.cast(ids, tf.float32)[..., tf.newaxis] * tf.ones([E])


@pytest.mark.parametrize("make", [_variable, _keras, _nested, _shifted, _constant, _one_hot])
def test_values_that_are_rows_are_found(make: Callable[[], Callable[[Any], Any]]) -> None:
    for table_bytes in (0, 2**20):  # the table is a mapped file, or is none
        (rows,) = rewrite_user_side(_Model(make()), table_bytes=table_bytes).raw_rows["ids"].values()
        assert rows == R


@pytest.mark.parametrize("make", [_looked_up, _hashed, _numbers])
def test_values_that_become_others_are_no_rows(make: Callable[[], Callable[[Any], Any]]) -> None:
    assert rewrite_user_side(_Model(make())).raw_rows == {}


@pytest.mark.parametrize(
    ("ids", "warned"),
    [
        (np.arange(1, R), False),  # may be rows
        (np.arange(R), False),
        (np.arange(1, R + 1), True),
        (np.arange(1000, 1000 + R), True),
        (np.arange(-1, R - 1), True),
        (np.arange(7, 7 + R + 1), False),  # the table is too small for the items: no table of items
    ],
)
def test_only_ids_that_are_no_rows_are_warned_of(ids: Any, warned: bool) -> None:
    rows = {"ids": {"table": R}, "hour": {"hours": 24}}
    assert len(raw_id_warnings(rows, ["ids", "hour"], ids)) == warned
    assert raw_id_warnings(rows, ["hour"], ids) == []


@pytest.mark.parametrize(
    ("vocabulary", "size", "warned"),
    [
        (range(10, 40), 31, 0),  # as it should be
        (range(10, 40), 64, 0),  # rows to spare, and every item is known
        (range(10, 39), 31, 1),  # one id short at the end
        (range(11, 40), 31, 1),  # and at the front, where it shifts all rows
        (range(10, 39), 30, 0),  # an item that training did not know
        (range(100, 105), 64, 0),  # ids of other things than items
    ],
)
def test_a_vocabulary_with_fewer_ids_than_its_table_has_rows(vocabulary: Any, size: int, warned: int) -> None:
    ids = np.random.default_rng(0).permutation(np.arange(10, 40))
    found = short_vocabulary_warnings({"ids": {"table": size}}, {"ids": np.array(vocabulary)}, ids)
    assert len(found) == warned
    assert all(
        "29 ids, which are rows 1 to 29 of table (31 rows). It lacks 1 of 30" in each for each in found
    )


def test_a_vocabulary_of_a_misspelled_name_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "vocabulary"
    folder.mkdir()
    for name in ("item_ids", "cat_ids"):
        np.save(folder / f"{name}.npy", np.arange(3))
    (text,) = misnamed_vocabulary_warnings(tmp_path, {"item_ids", "cate_ids"}, ["cate_ids"])
    assert text.startswith("RUN/vocabulary/cat_ids.npy is named after no feature of the model (cate_ids, ")
    assert "Without a vocabulary are: cate_ids." in text
