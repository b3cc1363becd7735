"""Loops whose rounds look like a map's: TensorFlow's own results, or none of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from nann.export.scorer import split_function
from support.splitting import frozen, largest_difference

L, D = 5, 8


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
    [begins_before_the_first],
)
def test_scores_are_those_of_the_rounds(score: Callable[..., tf.Tensor]) -> None:
    function = frozen(score, events=[L, D]).function
    assert largest_difference(function, split_function(function, max_table_width=4096)) <= 1e-5
