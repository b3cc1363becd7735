"""Loops of a scorer: those of a known number of rounds are written out, the others are left to TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import _search, split_function
from nann.export.scorer._lower import lower
from nann.export.scorer._lowering import NotLowerableError
from nann.export.scorer._unroll import without_loops
from support.splitting import frozen, largest_difference

L, D = 5, 8
GRU = keras.layers.GRU(4)
CALLED_GRU = tf.function(keras.layers.GRU(4))
TABLE = tf.Variable(np.random.default_rng(1).normal(size=(7, D)).astype(np.float32))
KERNEL = tf.Variable(np.random.default_rng(0).normal(size=(D, D)).astype(np.float32) * 0.4)


def loops(function: Any) -> list[str]:
    return [each.type for each in function.graph.get_operations() if "While" in each.type]


def rounds(user: Any, item: tf.Tensor) -> tf.Tensor:
    def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return i + 1, tf.tanh(x @ KERNEL) + user["taste"]

    return tf.reduce_sum(tf.while_loop(lambda i, x: i < 3, step, (0, item))[1], -1)


def downwards(user: Any, item: tf.Tensor) -> tf.Tensor:
    """The number of rounds hangs on two of the variables, and is not counted by one."""

    def step(i: tf.Tensor, left: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return i + 2, left - i, tf.tanh(x) * user["taste"]

    return tf.reduce_sum(tf.while_loop(lambda i, left, x: left > 0, step, (1, 9, item))[2], -1)


def nested(user: Any, item: tf.Tensor) -> tf.Tensor:
    def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        inner = tf.while_loop(lambda j, y: j < 2, lambda j, y: (j + 1, tf.tanh(y)), (0, x))[1]
        return i + 1, inner + user["taste"]

    return tf.reduce_sum(tf.while_loop(lambda i, x: i < 2, step, (0, item))[1], -1)


def none_at_all(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = tf.while_loop(lambda i, x: i < 0, lambda i, x: (i + 1, tf.tanh(x)), (0, item))[1]
    return tf.linalg.matvec(x, user["taste"])


def recurrent(user: Any, item: tf.Tensor) -> tf.Tensor:
    """A GRU over the events, each beside the item."""
    n = item.shape[0]
    events = tf.repeat(user["events"][tf.newaxis], n, 0) * item[:, tf.newaxis]
    return tf.reduce_sum(GRU(events) * item[:, :4], -1) + tf.reduce_sum(user["taste"])


def called(user: Any, item: tf.Tensor) -> tf.Tensor:
    """A network of a SavedModel, or in a `tf.function`: its constants wait for the arguments of the call."""
    return CALLED_GRU(tf.repeat(user["events"][tf.newaxis], item.shape[0], 0) * item[:, tf.newaxis])[:, 0]


def calling(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Each round calls a function that XLA compiles."""

    def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return i + 1, compiled_step(x) * user["taste"]

    return tf.reduce_sum(tf.while_loop(lambda i, x: i < 3, step, (0, item))[1], -1)


@tf.function(jit_compile=True)
def compiled_step(x: tf.Tensor) -> tf.Tensor:
    return tf.tanh(x @ KERNEL)


def mapped(user: Any, item: tf.Tensor) -> tf.Tensor:
    scores = tf.map_fn(lambda event: tf.linalg.matvec(tf.tanh(item * event), user["taste"]), user["events"])
    return tf.reduce_sum(scores, 0)


def gathering(user: Any, item: tf.Tensor) -> tf.Tensor:
    """`tf.gather` of a variable reads the variable itself: in a round here, in a branch of the user's."""

    def times_its_row(event: tf.Tensor) -> tf.Tensor:
        return event * tf.gather(TABLE, code_of(event))

    code = code_of(user["taste"])
    row = tf.cond(code > 3, lambda: tf.gather(TABLE, code), lambda: tf.gather(TABLE, [code + 1])[0])
    events = tf.map_fn(times_its_row, user["events"])
    return tf.reduce_sum(tf.tanh(item @ tf.transpose(events)), -1) + tf.linalg.matvec(item, row)


def code_of(vector: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.abs(vector[0]), tf.int32) % 7


@pytest.mark.parametrize(
    "score", [rounds, downwards, nested, none_at_all, recurrent, called, calling, mapped, gathering]
)
def test_known_rounds_are_written_out(score: Callable[..., tf.Tensor]) -> None:
    function = frozen(score, events=[L, D], taste=[D]).function
    assert loops(function)
    assert not loops(without_loops(function))
    result = split_function(function, max_table_width=4096)
    assert largest_difference(function, result) <= 1e-5
    assert result.ir is not None
    lower(result.ir)


def test_a_loop_of_more_rounds_than_a_tile_has_items_is_written_out() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        x = tf.while_loop(lambda i, x: i < 100, lambda i, x: (i + 1, tf.tanh(x + 0.1)), (0, item))[1]
        return tf.linalg.matvec(x, user["taste"])

    function = frozen(score, events=[L, D], taste=[D]).function
    assert not loops(without_loops(function, tile_rows=function.inputs[-1].shape[0]))


def test_what_all_rounds_have_is_rewritten_in_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rewrite of the whole graph is tried: one for each round would take minutes."""
    tried = []
    normal = _search._normal
    monkeypatch.setattr(_search, "_normal", lambda output: tried.append(output) or normal(output))
    function = frozen(recurrent, events=[30, D], taste=[D]).function
    result = split_function(function, max_table_width=4096)
    assert largest_difference(function, result) <= 1e-5
    assert len(tried) < 30


def many(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = tf.while_loop(lambda i, x: i < 1000, lambda i, x: (i + 1, tf.tanh(x + 0.1)), (0, item))[1]
    return tf.linalg.matvec(x, user["taste"])


def as_the_user_says(user: Any, item: tf.Tensor) -> tf.Tensor:
    n = tf.cast(tf.reduce_sum(user["taste"]), tf.int32) % 4
    x = tf.while_loop(lambda i, x: i < n, lambda i, x: (i + 1, tf.tanh(x + 0.1)), (0, item))[1]
    return tf.linalg.matvec(x, user["taste"])


@pytest.mark.parametrize("score", [many, as_the_user_says])
def test_other_loops_stay(score: Callable[..., tf.Tensor]) -> None:
    function = frozen(score, events=[L, D], taste=[D]).function
    assert loops(without_loops(function)) == loops(function)
    assert largest_difference(function, split_function(function, max_table_width=4096)) <= 1e-5


def test_a_loop_over_the_items_of_a_tile_stays() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        def one(each: tf.Tensor) -> tf.Tensor:
            row = tf.gather(TABLE, code_of(each))
            return tf.tensordot(tf.tanh(each * row), user["taste"], 1)

        return tf.map_fn(one, item)

    function = frozen(score, tile_rows=128, taste=[D]).function
    result = split_function(function, max_table_width=4096)
    assert loops(result.function)
    assert largest_difference(function, result) <= 1e-5


def test_a_loop_that_stays_is_the_reason() -> None:
    function = frozen(many, taste=[D]).function
    ir = split_function(function, max_table_width=4096).ir
    assert ir is not None
    with pytest.raises(NotLowerableError, match=r"While.*a loop of more than 512 rounds"):
        lower(ir)
