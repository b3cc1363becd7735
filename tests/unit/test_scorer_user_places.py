"""Places and segments that a user's integers name, along axes of what is computed of user and item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

from support.programs import compare, compare_with_traced, weighted

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


def _masked(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    return tf.where(mask, x, -np.inf)


# Of pairs [n, L, D], similarities [n, L], events [L, D], the user's mask [L] and an index of the item [n].
OF_MASKED: dict[str, Callable[..., tf.Tensor]] = {
    "a place of the user": lambda x, s, h, m, at: _masked(s, m)[:, 2],
    "the last place": lambda x, s, h, m, at: tf.gather(
        _masked(s, m), tf.reduce_sum(tf.cast(m, tf.int32)), axis=1
    ),
    "the last place of what a logarithm masks": lambda x, s, h, m, at: tf.gather(
        s + tf.math.log(tf.cast(m, tf.float32)), tf.reduce_sum(tf.cast(m, tf.int32)), axis=1
    ),
    "sums of sessions": lambda x, s, h, m, at: tf.transpose(
        tf.math.unsorted_segment_sum(tf.transpose(_masked(s, m)), tf.cast(m, tf.int32), 3)
    ),
    "a row by the item's index": lambda x, s, h, m, at: tf.gather(
        _masked(x, m[:, tf.newaxis]), at[:, tf.newaxis], batch_dims=1
    ),
    "a number by the item's index": lambda x, s, h, m, at: tf.gather(
        _masked(s, m), at[:, tf.newaxis], batch_dims=1
    ),
    "a row that is put to the item's index": lambda x, s, h, m, at: tf.scatter_nd(
        tf.stack([tf.range(x.shape[0]), at], axis=1), _masked(x, m[:, tf.newaxis])[:, 1], [x.shape[0], L, D]
    ),
    "a number of the user's": lambda x, s, h, m, at: tf.gather(_masked(h[:, 0], m), at),
}


@pytest.mark.parametrize("name", OF_MASKED)
def test_what_is_masked_by_an_infinity_is_not_met(name: str) -> None:
    """A product with ones and zeros would make a NaN of it, and the item would be dropped."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        events = user["events"]
        at = tf.cast(tf.argmax(tf.matmul(item, events, transpose_b=True), axis=-1), tf.int32)
        found = OF_MASKED[name](
            events * item[:, tf.newaxis],
            tf.matmul(item, events, transpose_b=True),
            events,
            user["mask"],
            at,
        )
        return weighted(tf.maximum(tf.reshape(found, [item.shape[0], -1]), -9.0)) + item[:, 0]

    mask = np.array([True, False, True, True, False, True])
    compare_with_traced(score, events=EVENTS[0], mask=mask)


@pytest.mark.parametrize("function", [tf.argmax, tf.argmin])
def test_the_place_of_an_extreme_is_never_that_of_a_nan(function: Callable[..., tf.Tensor]) -> None:
    """As of the cosine with an event that is missing, a row of zeros."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        events = user["events"]
        cosines = tf.matmul(item, events / tf.norm(events, axis=1, keepdims=True), transpose_b=True)
        return tf.reduce_sum(tf.gather(events, function(cosines, axis=1)) * item, axis=1)

    events = EVENTS[0].copy()
    events[[0, 3]] = 0
    compare_with_traced(score, events=events)


DISTANCES = np.clip(np.arange(L) - np.arange(L)[:, np.newaxis] + 3, 0, D - 1)


@pytest.mark.parametrize(
    "places",
    [DISTANCES, np.broadcast_to([[5, 0, 2]], (L, 3)), np.random.default_rng(3).integers(0, D, (L, 9))],
)
def test_places_of_each_row(places: npt.NDArray[np.int64]) -> None:
    """DeBERTa takes of each position's products those of the distances to the others."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        pairs = user["events"] * item[:, tf.newaxis]
        heads = tf.stack([pairs, tf.tanh(pairs)], axis=1)
        at = tf.broadcast_to(places, [item.shape[0], 2, *places.shape])
        found = tf.gather(heads, at, batch_dims=3)
        rows = tf.gather(pairs[..., tf.newaxis] * tf.linspace(1.0, 2.0, 3), at[:, 0], batch_dims=2)
        return weighted(found) + weighted(rows)

    compare(score, events=EVENTS)
