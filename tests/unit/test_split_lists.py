"""TensorArrays of a scorer, whose elements are known when the loops that fill them are written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import split_function
from nann.export.scorer._lower import lower
from support.splitting import frozen, largest_difference

L, D = 5, 8
KERNEL = tf.Variable(np.random.default_rng(0).normal(size=(D, D)).astype(np.float32) * 0.4)


def gathered(user: Any, item: tf.Tensor) -> tf.Tensor:
    """The states of some rounds, one of them twice."""
    states = tf.TensorArray(tf.float32, L, element_shape=[None, D])

    def step(i: tf.Tensor, states: Any, x: tf.Tensor) -> tuple[Any, ...]:
        x = tf.tanh(x @ KERNEL + user["events"][i])
        return i + 1, states.write(i, x), x

    states = tf.while_loop(lambda i, *_: i < L, step, (0, states, item))[1]
    return tf.reduce_sum(states.gather([3, 0, 3]), [0, 2])


def scattered(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Backwards; what is written later counts."""
    events = tf.TensorArray(tf.float32, L, clear_after_read=False)
    events = events.unstack(user["events"]).scatter([4, 1, 1], user["events"][:3])

    def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return i + 1, tf.tanh(x @ KERNEL + events.read(L - 1 - i))

    return tf.reduce_sum(tf.while_loop(lambda i, x: i < L, step, (0, item))[1], -1)


@tf.function
def states_of(events: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    states = tf.TensorArray(tf.float32, 0, dynamic_size=True)
    for i in tf.range(L):
        x = tf.tanh(x @ KERNEL + events[i])
        states = states.write(i, x)
    return tf.transpose(states.stack(), [1, 0, 2]) * tf.cast(states.size(), tf.float32)


def grown(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(states_of(user["events"], item)[:, ::2], [1, 2])


def joined(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Parts of the events that are of different lengths."""
    parts = tf.TensorArray(tf.float32, 2, infer_shape=False).split(user["events"], [2, 3])
    rows = tf.TensorArray(tf.float32, 2, infer_shape=False)
    rows = rows.write(0, tf.tanh(parts.read(1))).write(1, user["events"][:1]).concat()
    return tf.reduce_sum(tf.nn.relu(tf.matmul(item, rows, transpose_b=True)), -1)


def pushed(user: Any, item: tf.Tensor) -> tf.Tensor:
    states = tf.raw_ops.EmptyTensorList(
        element_shape=tf.constant([-1, D]), max_num_elements=-1, element_dtype=tf.float32
    )
    for i in range(3):
        states = tf.raw_ops.TensorListPushBack(input_handle=states, tensor=item * user["events"][i])
    second = tf.raw_ops.TensorListGetItem(
        input_handle=states, index=1, element_shape=tf.constant([-1, D]), element_dtype=tf.float32
    )
    return tf.reduce_sum(tf.tanh(tf.reshape(second, [-1, D])), -1)


@pytest.mark.parametrize("score", [gathered, scattered, grown, joined, pushed])
def test_elements_are_known(score: Callable[..., tf.Tensor]) -> None:
    function = frozen(score, events=[L, D]).function
    result = split_function(function, max_table_width=4096)
    assert largest_difference(function, result) <= 1e-5
    assert result.ir is not None
    lower(result.ir)
