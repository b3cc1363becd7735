"""Items that are dealt out to several networks: all networks score all items, and each item keeps its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import freeze_scorer
from nann.export.scorer._dispatch import without_dispatch
from support.native_scores import TILE_ROWS
from support.programs import compare
from support.splitting import FunctionModel

D, EXPERTS = 8, 3
RANDOM = np.random.default_rng(24)
LAYERS = (RANDOM.normal(size=(EXPERTS, D, D)) * 0.4).astype(np.float32)
TABLE = RANDOM.normal(size=(4, D)).astype(np.float32)
TASTE = RANDOM.normal(size=(2, D)).astype(np.float32)


def expert(at: int, x: tf.Tensor) -> tf.Tensor:
    """[rows, D] to [rows]."""
    return tf.reduce_sum(tf.nn.silu(x @ LAYERS[at]), axis=-1)


def chosen(x: tf.Tensor) -> tf.Tensor:
    """The expert of each item."""
    return tf.argmax(x[:, :EXPERTS], axis=-1, output_type=tf.int32)


def partitioned(x: tf.Tensor) -> tf.Tensor:
    parts = tf.dynamic_partition(x, chosen(x), EXPERTS)
    rows = tf.dynamic_partition(tf.range(tf.shape(x)[0]), chosen(x), EXPERTS)
    return tf.dynamic_stitch(rows, [expert(at, each) for at, each in enumerate(parts)])


def added(x: tf.Tensor) -> tf.Tensor:
    """Two of the experts score each item; those of no expert have what stands there."""
    gates = tf.nn.relu(tf.nn.softmax(x[:, :EXPERTS]) - 0.2)
    total = tf.ones([TILE_ROWS])
    for at in range(EXPERTS):
        rows = tf.where(gates[:, at] > 0)
        score = expert(at, tf.gather_nd(x, rows)) * tf.gather_nd(gates[:, at], rows)
        total = tf.tensor_scatter_nd_add(total, rows, score)
    return total


def masked(x: tf.Tensor) -> tf.Tensor:
    scores = -tf.ones([TILE_ROWS, 1])
    for at in range(2):
        mask = tf.equal(chosen(x), at)
        score = expert(at, tf.boolean_mask(x, mask))[:, tf.newaxis]
        scores = tf.tensor_scatter_nd_update(scores, tf.where(mask), score)
    return scores[:, 0]


def scattered(x: tf.Tensor) -> tf.Tensor:
    total = tf.zeros([TILE_ROWS])
    for at in range(2):
        rows = tf.where(chosen(x) == at)[:, 0]
        total += tf.scatter_nd(rows[:, tf.newaxis], expert(at, tf.gather(x, rows)), [TILE_ROWS])
    return total


def beyond_a_table(x: tf.Tensor) -> tf.Tensor:
    """Only items of the second part have a row."""
    number = tf.cast(4.0 * tf.abs(x[:, 0]), tf.int32)
    part = tf.cast(number < 4, tf.int32)
    rows = tf.dynamic_partition(tf.range(TILE_ROWS), part, 2)
    numbers = tf.dynamic_partition(number, part, 2)
    found = tf.reduce_sum(tf.gather(TABLE, numbers[1]), axis=-1)
    return tf.dynamic_stitch(rows, [tf.cast(numbers[0], tf.float32), found])


def beside_each_other(x: tf.Tensor) -> tf.Tensor:
    """No score of an item alone."""
    rows = tf.where(chosen(x) == 0)
    part = expert(0, tf.gather_nd(x, rows))
    return tf.scatter_nd(rows, part - tf.reduce_mean(part), tf.constant([TILE_ROWS], tf.int64))


def not_put_back(x: tf.Tensor) -> tf.Tensor:
    part = expert(0, tf.boolean_mask(x, chosen(x) == 0))
    return x[:, 0] + tf.reduce_max(part)


@pytest.mark.parametrize("deal", [partitioned, added, masked, scattered])
def test_items_that_are_dealt_out(deal: Callable[[tf.Tensor], tf.Tensor]) -> None:
    compare(lambda user, x: deal(x * user["taste"]), taste=TASTE)


@pytest.mark.parametrize("deal", [beyond_a_table, beside_each_other, not_put_back])
def test_other_parts_of_a_tile_stay(deal: Callable[[tf.Tensor], tf.Tensor]) -> None:
    def score(user: Any, x: tf.Tensor) -> tf.Tensor:
        return deal(x * user["taste"])

    taste = tf.TensorSpec([D], tf.float32)
    function = freeze_scorer(FunctionModel(score, taste=taste), tile_rows=TILE_ROWS).function
    assert without_dispatch(function) is function


def test_events_of_the_user_are_not_dealt_out() -> None:
    """There are as many as items of a tile."""

    def score(user: Any, x: tf.Tensor) -> tf.Tensor:
        rows = tf.where(user["kept"] > 0)
        return tf.reduce_sum(x, axis=-1) * tf.reduce_sum(tf.gather_nd(user["kept"], rows))

    kept = tf.TensorSpec([TILE_ROWS], tf.float32)
    function = freeze_scorer(FunctionModel(score, kept=kept), tile_rows=TILE_ROWS).function
    assert without_dispatch(function) is function
