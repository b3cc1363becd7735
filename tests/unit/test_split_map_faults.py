"""Loops whose rounds look like a map's: TensorFlow's own results, or none of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from nann.export.scorer import split_function
from support.splitting import frozen, largest_difference

L, D = 5, 8


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
    [rolls_the_last_axis, rolls_further_each_round, begins_before_the_first],
)
def test_scores_are_those_of_the_rounds(score: Callable[..., tf.Tensor]) -> None:
    function = frozen(score, events=[L, D]).function
    assert largest_difference(function, split_function(function, max_table_width=4096)) <= 1e-5
