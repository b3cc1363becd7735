"""Loops whose rounds look like a map's: TensorFlow's own results, or none of ours."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import split_function
from support.splitting import TILE, frozen, largest_difference, scores_of

L, D = 5, 8


def branches_with_its_list(user: Any, item: tf.Tensor) -> tf.Tensor:
    """The branch that counts the rounds writes the list too, as an `if` of AutoGraph does."""

    def step(i: tf.Tensor, weights: Any) -> list[Any]:
        return tf.cond(
            i % 2 == 0,
            lambda: [i + 1, weights.write(i, 1.0)],
            lambda: [i + 1, weights.write(i, tf.cast(i, tf.float32) * 0.5)],
        )

    weights = tf.while_loop(lambda i, _: i < L, step, [0, tf.TensorArray(tf.float32, L)])[1].stack()
    return tf.linalg.matvec(tf.matmul(item, user["events"], transpose_b=True), weights)


def rolls_the_last_axis(user: Any, item: tf.Tensor) -> tf.Tensor:
    """TensorFlow's rule for all rounds at once takes axis -1 for the one of the rounds."""
    return tf.map_fn(lambda each: tf.tensordot(tf.roll(each, 1, -1), user["events"][0], 1), item)


def rolls_further_each_round(user: Any, item: tf.Tensor) -> tf.Tensor:
    rolled = tf.map_fn(
        lambda i: tf.roll(item * user["events"][i], i, -1), tf.range(L), fn_output_signature=tf.float32
    )
    return tf.reduce_sum(tf.tanh(rolled) * tf.range(1.0, D + 1), [0, 2])


def begins_before_the_first(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Both rounds read event 0: `events[-7:1]` and `events[-6:1]`."""
    return tf.reduce_sum(
        tf.map_fn(
            lambda i: tf.linalg.matvec(item, user["events"][i - L - 2 : 1][0]) * tf.cast(i + 1, tf.float32),
            tf.range(2),
            fn_output_signature=tf.float32,
        ),
        0,
    )


@pytest.mark.parametrize(
    "score",
    [branches_with_its_list, rolls_the_last_axis, rolls_further_each_round, begins_before_the_first],
)
def test_scores_are_those_of_the_rounds(score: Callable[..., tf.Tensor]) -> None:
    function = frozen(score, events=[L, D]).function
    assert largest_difference(function, split_function(function, max_table_width=4096)) <= 1e-5


def test_elements_that_do_not_stack_are_left() -> None:
    """TensorFlow stacks no slices of several lengths, and says so where it runs."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        parts = tf.TensorArray(tf.float32, 2, infer_shape=False, element_shape=[None, D])
        parts = parts.write(0, user["events"][:1]).write(1, user["events"][:2])
        return tf.linalg.matvec(item, tf.reduce_sum(parts.stack(), [0, 1]))

    function = frozen(score, events=[L, D]).function
    result = split_function(function, max_table_width=4096)
    with pytest.raises(tf.errors.InvalidArgumentError, match="shape"):
        scores_of(result, [tf.zeros([L, D])], np.zeros([TILE, D], np.float32))


def test_forms_that_are_not_known_are_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow logs the trace of a stack for each slice whose length changes from round to round."""
    logged: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: logged.append(record.getMessage()))

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        sums = tf.map_fn(
            lambda i: tf.reduce_sum(user["events"][: i % 3 + 1], 0),
            tf.range(L),
            fn_output_signature=tf.float32,
        )
        return tf.linalg.matvec(item, tf.reduce_sum(sums, 0))

    function = frozen(score, events=[L, D]).function
    tf.get_logger().addHandler(handler)
    try:
        split_function(function, max_table_width=4096)
    finally:
        tf.get_logger().removeHandler(handler)
    assert logged == []
