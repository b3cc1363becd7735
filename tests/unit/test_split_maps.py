"""Scores of one item that are mapped over the items of a tile: all items at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import split_function
from nann.export.scorer._control_flow import without_control_flow
from nann.export.scorer._lower import lower
from nann.export.scorer._maps import without_maps
from support.splitting import frozen, largest_difference, split

L, D = 5, 8
HIDDEN, LAST = keras.layers.Dense(6, activation="relu"), keras.layers.Dense(1)
GRU = keras.layers.GRU(4)
TABLE = tf.Variable(np.random.default_rng(1).normal(size=(7, D)).astype(np.float32))


def loops(function: Any) -> list[str]:
    return [each.type for each in function.graph.get_operations() if "While" in each.type]


def network(*parts: tf.Tensor) -> tf.Tensor:
    return LAST(HIDDEN(tf.concat(parts, 0)[tf.newaxis]))[0, 0]


def attention(user: Any, item: tf.Tensor) -> tf.Tensor:
    def one(each: tf.Tensor) -> tf.Tensor:
        weights = tf.nn.softmax(tf.linalg.matvec(user["events"], each))
        return network(tf.linalg.matvec(user["events"], weights, transpose_a=True), each)

    return tf.map_fn(one, item)


def pairs(user: Any, item: tf.Tensor) -> tf.Tensor:
    """A map over the events in one over the items."""

    def one(each: tf.Tensor) -> tf.Tensor:
        weights = tf.map_fn(lambda event: network(event, event * each), user["events"])
        return tf.reduce_sum(tf.linalg.matvec(user["events"], weights, transpose_a=True) * each)

    return tf.map_fn(one, item)


def recurrent(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.map_fn(lambda each: tf.reduce_sum(GRU((user["events"] * each)[tf.newaxis])), item)


def looked_up(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Several tensors of an item, and two results."""

    def one(parts: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        each, code = parts
        row = tf.gather(TABLE, code)
        return tf.tensordot(row, user["taste"], 1), tf.nn.softmax(each * row)

    codes = tf.cast(tf.abs(item[:, 0] * 9), tf.int32) % 7
    scores, shares = tf.map_fn(one, (item, codes), fn_output_signature=(tf.float32, tf.float32))
    return scores + tf.reduce_max(shares, -1)


def branching(user: Any, item: tf.Tensor) -> tf.Tensor:
    def one(each: tf.Tensor) -> tf.Tensor:
        return tf.cond(
            each[0] > 0,
            lambda: tf.tensordot(each, user["taste"], 1),
            lambda: tf.reduce_max(tf.linalg.matvec(user["events"], each)),
        )

    return tf.map_fn(one, item)


def by_hand(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Backwards, by a loop that keeps its last score too."""
    n = item.shape[0]

    def step(i: tf.Tensor, scores: Any, _: tf.Tensor) -> tuple[Any, ...]:
        score = tf.tanh(tf.tensordot(item[i], user["taste"], 1))
        return i - 1, scores.write(i, score), score

    begin = (n - 1, tf.TensorArray(tf.float32, n), tf.constant(0.0))
    return tf.while_loop(lambda i, *_: i >= 0, step, begin)[1].stack()


@tf.function
def written_in_python(events: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    scores = tf.TensorArray(tf.float32, size=tf.shape(items)[0])
    for i in tf.range(tf.shape(items)[0]):
        score = 0.0
        for event in events:
            score += tf.exp(-tf.reduce_sum(tf.square(event - items[i])) / 20)
        scores = scores.write(i, score)
    return scores.stack()


def written(user: Any, item: tf.Tensor) -> tf.Tensor:
    return written_in_python(user["events"], item)


@tf.function
def grown_in_python(items: tf.Tensor, taste: tf.Tensor) -> tf.Tensor:
    scores = tf.TensorArray(tf.float32, 0, dynamic_size=True)
    for i in tf.range(tf.shape(items)[0]):
        scores = scores.write(i, tf.tensordot(tf.tanh(items[i]), taste, 1))
    return scores.stack()


def grown(user: Any, item: tf.Tensor) -> tf.Tensor:
    return grown_in_python(item, user["taste"])


def scanned(user: Any, item: tf.Tensor) -> tf.Tensor:
    """A scan that does not look back."""
    return tf.scan(lambda _, each: tf.tensordot(tf.tanh(each), user["taste"], 1), item, initializer=0.0)


def of_the_user(user: Any, item: tf.Tensor) -> tf.Tensor:
    """The same for each item."""
    return tf.map_fn(lambda _: user["taste"][0], item) + tf.map_fn(lambda each: each[0], item)


MAPS = [attention, pairs, recurrent, looked_up, branching, by_hand, written, grown, scanned, of_the_user]


@pytest.mark.parametrize("score", MAPS)
def test_all_items_are_scored_at_once(score: Callable[..., tf.Tensor]) -> None:
    sizes = set()
    for tile_rows in (6, 128):
        function = frozen(score, tile_rows=tile_rows, events=[L, D], taste=[D]).function
        assert loops(function)
        plain = without_control_flow(function, tile_rows=tile_rows)
        assert not loops(plain)
        sizes.add(len(plain.graph.get_operations()))
        result = split_function(function, max_table_width=4096)
        assert largest_difference(function, result) <= 1e-5
        assert result.ir is not None
        lower(result.ir)
    assert len(sizes) == 1


def test_the_work_is_that_of_a_score_for_a_batch() -> None:
    def at_once(user: Any, item: tf.Tensor) -> tf.Tensor:
        weights = tf.nn.softmax(tf.matmul(item, user["events"], transpose_b=True))
        return LAST(HIDDEN(tf.concat([weights @ user["events"], item], 1)))[:, 0]

    mapped, batch = (split(score, events=[L, D]).report.flops_per_item for score in (attention, at_once))
    assert mapped == batch


def looks_back(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.scan(
        lambda before, event: before * 0.5 + tf.linalg.matvec(item, event), user["events"], item[:, 0]
    )[-1]


def reads_what_it_wrote(user: Any, item: tf.Tensor) -> tf.Tensor:
    sums = tf.TensorArray(tf.float32, L, clear_after_read=False).write(0, item[:, 0])

    def step(i: tf.Tensor, sums: Any) -> tuple[Any, Any]:
        return i + 1, sums.write(i, sums.read(i - 1) + tf.linalg.matvec(item, user["events"][i]))

    return tf.while_loop(lambda i, _: i < L, step, (1, sums))[1].read(L - 1)


def writes_twice(user: Any, item: tf.Tensor) -> tf.Tensor:
    """What is written later counts."""
    last = tf.TensorArray(tf.float32, 2)

    def step(i: tf.Tensor, last: Any) -> tuple[Any, Any]:
        return i + 1, last.write(i % 2, tf.linalg.matvec(item, user["events"][i]))

    return tf.reduce_sum(tf.while_loop(lambda i, _: i < L, step, (0, last))[1].stack(), 0)


@pytest.mark.parametrize("score", [looks_back, reads_what_it_wrote, writes_twice])
def test_rounds_that_wait_for_one_another_are_no_map(score: Callable[..., tf.Tensor]) -> None:
    function = frozen(score, events=[L, D]).function
    assert without_maps(function, without_control_flow) is function
    assert largest_difference(function, split_function(function, max_table_width=4096)) <= 1e-5


def test_an_operation_that_is_not_known_for_all_rounds_leaves_the_loop() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(lambda each: tf.reduce_sum(tf.unique(each).y) * user["taste"][0], item)

    function = frozen(score, taste=[D]).function
    assert without_maps(function, without_control_flow) is function
    assert largest_difference(function, split_function(function, max_table_width=4096)) <= 1e-5
