"""Loops over so many events as the user says: as many rounds as there are events that they may read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.programs import compare, compare_with_traced, lowered

L, D = 5, 8
RANDOM = np.random.default_rng(3)
EVENTS = RANDOM.normal(size=(2, L, D)).astype(np.float32)
MASK = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 1, 1]], bool)
KERNEL = tf.constant(RANDOM.normal(size=(D, D)) * 0.4, tf.float32)


@tf.function
def over_a_range(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = item
    for at in tf.range(user["length"]):
        x = 0.8 * x + tf.tanh(item * user["events"][at])
    return tf.reduce_sum(x, -1)


@tf.function
def where_flags_are_set(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = tf.zeros_like(item)
    for at in tf.range(user["length"]):
        if user["mask"][at]:
            x += tf.nn.relu(item * tf.gather(user["events"], at))
    return tf.reduce_sum(x, -1) + item[:, 0]


@tf.function
def beside_the_one_before(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = tf.tanh(item)
    for at in tf.range(1, user["length"]):
        x += tf.nn.relu(item * (user["events"][at] - user["events"][at - 1, :]))
    return tf.reduce_sum(x, -1)


def while_it_is_so(user: Any, item: tf.Tensor) -> tf.Tensor:
    def step(at: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return at + 1, tf.tanh(tf.matmul(x, KERNEL) + user["events"][at])

    return tf.reduce_sum(tf.while_loop(lambda at, x: at < user["length"], step, (0, item))[1], -1)


@pytest.mark.parametrize("length", [0, 1, 3, L])
@pytest.mark.parametrize("score", [over_a_range, where_flags_are_set, beside_the_one_before, while_it_is_so])
def test_loops_of_a_user_s_rounds(score: Callable[..., tf.Tensor], length: int) -> None:
    state = {"events": EVENTS, "mask": MASK, "length": np.array([length, 2], np.int32)}
    compare(score, **state)
    for user in range(2):
        compare_with_traced(score, **{name: values[user] for name, values in state.items()})


@tf.function
def until_an_event_is_missing(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = item
    for at in tf.range(L):
        if user["events"][at, 0] == 0:
            break
        x = tf.tanh(x + tf.gather(user["events"], at))
    return tf.reduce_sum(x, -1)


@tf.function
def without_missing_events(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = item
    for at in tf.range(L):
        if tf.slice(user["events"], [at, 0], [1, 1])[0, 0] == 0:
            continue
        x = tf.tanh(x + user["events"][at])
    return tf.reduce_sum(x, -1)


@pytest.mark.parametrize("score", [until_an_event_is_missing, without_missing_events])
def test_what_a_branch_reads_is_read_without_tensorflow(score: Callable[..., tf.Tensor]) -> None:
    """The place that it has where it is not taken is a constant too."""
    events = EVENTS.copy()
    events[0, 3:] = events[1, 2:4] = 0
    assert not lowered(score, events=events)[1].after_user_function
    compare(score, events=events)
    for user in range(2):
        compare_with_traced(score, events=events[user])
