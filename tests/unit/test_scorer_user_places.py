"""Places and segments that a user's integers name, along axes of what is computed of user and item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from support.programs import compare, weighted

L, D = 6, 8
RANDOM = np.random.default_rng(4)
EVENTS = RANDOM.normal(size=(2, L, D)).astype(np.float32)
# How many events there are, and the session of each, where -1 is none.
LENGTH = np.array([4, 1], np.int32)
SESSION = np.array([[0, 0, 1, 3, 3, -1], [2, 1, 1, 1, 0, 0]], np.int32)


def _softmax_of_edges(x: tf.Tensor, session: tf.Tensor) -> tf.Tensor:
    """As graph networks have it: over the edges of each node."""
    powers = tf.exp(x)
    total = tf.math.unsorted_segment_sum(powers, session, 4)
    return powers / tf.gather(total, session)


# Of pairs [n, L, D], similarities [n, L], and the user's length and sessions.
CHOSEN: dict[str, Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "the last event": lambda x, s, n, k: x[:, n - 1],
    "the last but so many": lambda x, s, n, k: x[:, -n],
    "a number of the last event": lambda x, s, n, k: x[..., n, tf.newaxis, 2] + x[:, tf.newaxis, 0, n],
    "a place by gather": lambda x, s, n, k: tf.gather(x, n, axis=1),
    "some places by gather": lambda x, s, n, k: tf.gather(x, [n, n - 1, 0 * n], axis=-1),
    "two events from a place on": lambda x, s, n, k: tf.slice(x, [0, n, 0], [x.shape[0], 2, 3]),
    "two by Keras": lambda x, s, n, k: keras.ops.slice(s, (0, n), (x.shape[0], 2)),
    "sums of sessions": lambda x, s, n, k: tf.math.unsorted_segment_sum(tf.transpose(s), k, 4),
    "rows of sessions": lambda x, s, n, k: tf.transpose(
        tf.math.unsorted_segment_sum(tf.transpose(x, [1, 0, 2]), k, 4), [1, 0, 2]
    ),
    "means of sessions": lambda x, s, n, k: tf.math.unsorted_segment_mean(tf.transpose(s), k, 4),
    "the largest of sessions": lambda x, s, n, k: tf.maximum(
        tf.math.unsorted_segment_max(tf.transpose(s), k, 4), -9.0
    ),
    "the least of sessions": lambda x, s, n, k: tf.minimum(
        keras.ops.transpose(tf.math.unsorted_segment_min(tf.transpose(x, [2, 1, 0])[:L], k, 4)[:, 0]), 9.0
    ),
    "shares of sessions": lambda x, s, n, k: _softmax_of_edges(tf.transpose(s), tf.abs(k)),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_places_of_the_user(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        pairs = user["events"] * item[:, tf.newaxis]
        similar = tf.matmul(item, user["events"], transpose_b=True)
        found = CHOSEN[name](pairs, similar, user["length"], user["session"])
        return weighted(tf.transpose(found) if found.shape[-1] == item.shape[0] else found)

    compare(score, events=EVENTS, length=LENGTH, session=SESSION)
