"""Rows of tables at an index that user and item make up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.programs import Score, compare, weighted

L, D = 6, 8
EVENTS = np.random.default_rng(2).normal(size=(2, L, D)).astype(np.float32)


ROWS, LARGE = 300, np.random.default_rng(8).normal(size=(300, D)).astype(np.float32)


def _cell(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reduce_sum(item * user["events"][0], -1) * 20.0, tf.int32) + ROWS // 2


def _bucket(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(_cell(user, item), 0, ROWS - 1)


LOOKED_UP: dict[str, Score] = {
    "of each field, behind those of the others": lambda u, x: tf.reduce_sum(
        tf.gather(
            LARGE, tf.nn.bias_add(tf.stack([_bucket(u, x) // 3, _bucket(u, x) // 4], axis=1), [0, 100])
        ),
        1,
    ),
    "a row of a table": lambda u, x: tf.gather(LARGE, _bucket(u, x)),
    "that is not clipped": lambda u, x: tf.gather(LARGE, _cell(u, x)),
    "rows of a table": lambda u, x: tf.reduce_sum(
        tf.gather(LARGE, tf.stack([_cell(u, x), _bucket(u, x) // 2], axis=1)), 1
    ),
    "a number of the user's": lambda u, x: tf.gather(u["affinity"], _cell(u, x))[:, tf.newaxis],
    "numbers of the user's, repeated": lambda u, x: tf.gather(
        tf.repeat(u["affinity"][tf.newaxis], tf.shape(x)[0], axis=0),
        tf.stack([_cell(u, x), _bucket(u, x) // 2], axis=1),
        batch_dims=1,
    ),
    "a cell of a table": lambda u, x: tf.gather_nd(
        tf.reshape(LARGE, [10, 30, D]), tf.stack([_bucket(u, x) // 30, _bucket(u, x) % 30], axis=1)
    ),
    "counted from the end": lambda u, x: tf.gather(
        LARGE, tf.where(_cell(u, x) - 150 < 0, _cell(u, x) + 150, _cell(u, x) - 150)
    ),
    "a column of the user's": lambda u, x: tf.transpose(
        tf.gather(tf.reshape(u["affinity"], [3, 100]), _bucket(u, x) // 3, axis=1)
    ),
    "a column of each item's copy of the user's": lambda u, x: tf.gather(
        tf.repeat(tf.reshape(u["affinity"], [1, 3, 100]), tf.shape(x)[0], axis=0),
        tf.stack([_bucket(u, x) // 3, _bucket(u, x) // 4], axis=1),
        axis=2,
        batch_dims=1,
    )[:, :, 0],
    "of truth values": lambda u, x: tf.where(
        tf.gather(LARGE[:, 0] > 0, _bucket(u, x))[:, tf.newaxis], x, 2 * x
    ),
    "of the item's truth values": lambda u, x: tf.where(
        tf.gather(LARGE[:, 0] > 0, tf.cast(tf.abs(x[:, :2]) * 9, tf.int32)),
        x[:, :2] * u["events"][0, :2],
        0.0,
    ),
    "rows of all items": lambda u, x: tf.reduce_sum(
        tf.reshape(
            tf.gather(LARGE, tf.reshape(tf.stack([_cell(u, x), _cell(u, 2 * x)], 1), [-1])), [-1, 2, D]
        ),
        1,
    ),
    "an integer": lambda u, x: tf.cast(
        tf.gather(np.arange(ROWS) % 7, _bucket(u, x))[:, tf.newaxis], tf.float32
    ),
}


@pytest.mark.parametrize("name", LOOKED_UP)
def test_rows_at_an_index_of_user_and_item(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        found = LOOKED_UP[name](user, item)
        return tf.reduce_sum(found * (1.0 + item[:, : found.shape[1]]), -1)

    affinity = np.random.default_rng(3).normal(size=(2, ROWS)).astype(np.float32)
    compare(score, events=EVENTS, affinity=affinity)


@pytest.mark.parametrize("operation", ["GatherV2", "GatherNd"])
def test_rows_of_a_table_with_infinities(operation: str) -> None:
    """A product with the ones and zeros of a choice would make NaNs of them."""
    table = np.where(np.arange(4)[:, np.newaxis] == 2, -np.inf, np.ones((4, D))).astype(np.float32)

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        index = tf.argmax(item[:, :4] * user["events"][0, :4], axis=1)
        by_row = operation == "GatherV2"
        row = tf.gather(table, index) if by_row else tf.gather_nd(table, index[:, tf.newaxis])
        return weighted(tf.sigmoid(row) * item)

    compare(score, events=EVENTS)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_ones_and_zeros_along_another_axis(axis: int) -> None:
    """Of an item's code, which is stored, and of one of user and item."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        codes = [tf.cast(tf.abs(item[:, :2]) * 9, tf.int32), _bucket(user, item)[:, tf.newaxis] % 5]
        moved = [tf.one_hot(code, 20, axis=axis) for code in codes]
        first, second = (tf.transpose(each, _PERMS[axis]) for each in moved)
        return weighted(first) + weighted(second) * 2.0

    compare(score, max_table_width=64, events=EVENTS)


_PERMS = {0: [1, 2, 0], 1: [0, 2, 1], 2: [0, 1, 2]}


@pytest.mark.parametrize("options", [{}, {"weights": True}, {"binary_output": True}])
def test_counts_of_the_user_are_looked_up(options: dict[str, bool]) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        values = tf.reshape(user["events"], [-1])
        given = {**options, **({"weights": values} if "weights" in options else {})}
        codes = tf.cast(tf.abs(values) * 9, tf.int32)
        counts = tf.cast(tf.math.bincount(codes, minlength=9, maxlength=9, **given), tf.float32)
        return tf.gather(counts, tf.cast(tf.abs(item[:, 0]) * 4, tf.int32) % 9) + item[:, 1]

    compare(score, max_table_width=64, events=EVENTS)
