"""Rows of which a request says how many there are: masks that leave rows out, slices up to a length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer._lowering import NotLowerableError
from support.programs import Score, compare, compare_with_traced, lowered

L, D = 6, 8
RANDOM = np.random.default_rng(25)
EVENTS = RANDOM.normal(size=(2, L, D)).astype(np.float32)
TABLE = RANDOM.normal(size=(40, D)).astype(np.float32)
FIRST, LAST = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((3 * D, 16), (16, 1)))
# Of two users each; the second mask leaves nothing, and the third everything.
MASKS = {
    "some": np.array([[1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 0, 0]], bool),
    "none or all": np.array([[0] * L, [1] * L], bool),
}


def _similar(events: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    return tf.matmul(item, events, transpose_b=True)


def _attended(events: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    weights = tf.nn.softmax(_similar(events, item))
    return tf.reduce_sum(tf.matmul(weights, events) * item, -1)


def _pairs(events: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    """As DIN: the candidate is repeated for each event."""
    count = tf.shape(events)[0]
    items = tf.repeat(item[:, tf.newaxis], count, 1)
    rows = tf.repeat(events[tf.newaxis], item.shape[0], 0)
    inputs = tf.concat([items, rows, items * rows], -1)
    weights = tf.tensordot(tf.nn.relu(tf.tensordot(inputs, FIRST, 1)), LAST, 1)[..., 0]
    return tf.reduce_sum(tf.einsum("nl,nld->nd", tf.nn.softmax(weights), rows) * item, -1)


def _with_candidate(events: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    """Self-attention over the events and the candidate behind them."""
    rows = tf.concat([tf.tile(events[tf.newaxis], [item.shape[0], 1, 1]), item[:, tf.newaxis]], 1)
    weights = tf.nn.softmax(tf.matmul(rows, rows, transpose_b=True) / 8.0)
    return tf.reduce_sum(tf.reduce_mean(tf.matmul(weights, rows), 1) * item, -1) + tf.reduce_max(
        rows[:, -1], 1
    )


def _with_places(events: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    count = tf.shape(events)[0]
    age = tf.cast(count - 1 - tf.range(count), tf.float32)
    places = tf.gather(TABLE, tf.range(count))
    return tf.reduce_sum(tf.nn.relu(tf.matmul(item, events + places, transpose_b=True)) * tf.exp(-age), -1)


def _mean_or_first(events: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    similar = _similar(events, item)
    return tf.cond(tf.size(events) > 0, lambda: tf.reduce_mean(similar, 1), lambda: item[:, 0])


# Of the events that are present and items.
SCORES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "attended": _attended,
    "pairs": _pairs,
    "with the candidate": _with_candidate,
    "with places": _with_places,
    "mean, where there is one": _mean_or_first,
    "sums so far": lambda x, item: tf.reduce_sum(tf.nn.relu(tf.cumsum(_similar(x, item), 1)), 1),
    "the last two": lambda x, item: tf.reduce_sum(_similar(x[-2:], item), 1) + item[:, 0],
    "all but the first": lambda x, item: tf.reduce_sum(tf.nn.relu(_similar(x[1:], item)), 1),
    "likest": lambda x, item: tf.reduce_max(tf.concat([_similar(x, item), item[:, :1]], 1), 1),
}


def _check(score: Score, **state: Any) -> None:
    """The program has the split scorer's scores, and that has those of what was traced."""
    compare(score, **state)
    for user in range(2):
        compare_with_traced(score, **{name: values[user] for name, values in state.items()})


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("mask", MASKS)
def test_events_that_a_mask_leaves(mask: str, name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return SCORES[name](tf.boolean_mask(user["events"], user["mask"]), item) + 0.1 * item[:, 1]

    _check(score, events=EVENTS, mask=MASKS[mask])


@pytest.mark.parametrize("length", [0, 1, 4, 6])
def test_events_up_to_a_length(length: int) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        n = user["length"]
        rows = user["events"][tf.newaxis] * item[:, tf.newaxis]
        last = tf.reduce_sum(tf.nn.relu(rows[:, -tf.maximum(n, 1) :, 1:]), [1, 2])
        part = tf.slice(user["events"], [0, 0], tf.stack([n, D]))
        return (
            last + tf.reduce_sum(tf.nn.relu(rows[:, n // 2 : n]), [1, 2]) + _attended(part, item) + item[:, 0]
        )

    _check(score, events=EVENTS, length=np.array([length, 2], np.int32))


def test_one_of_the_events_that_are_present() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        present = tf.boolean_mask(user["events"], user["mask"])
        rows = tf.boolean_mask(user["events"][tf.newaxis] * item[:, tf.newaxis], user["mask"], axis=1)
        return tf.linalg.matvec(item, present[-1]) + tf.reduce_max(tf.nn.relu(rows[:, 0, 2:]), 1)

    _check(score, events=EVENTS, mask=MASKS["some"])


def test_no_row_is_read_for_an_id_that_is_left_out() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        rows = tf.gather(TABLE, tf.boolean_mask(user["ids"], user["ids"] >= 0))
        return _attended(rows, item) + tf.reduce_sum(item, -1)

    _check(score, ids=np.array([[3, -1, 39, -7, 0, 5], [-1] * 6], np.int64))


def test_nothing_has_no_mean_and_no_largest() -> None:
    """As TensorFlow says: a NaN and minus infinity."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        similar = tf.matmul(item, tf.boolean_mask(user["events"], user["mask"]), transpose_b=True)
        is_mean = tf.math.is_nan(tf.reduce_mean(similar, 1))
        is_largest = tf.reduce_max(similar, 1) == -np.inf
        return tf.where(is_mean & is_largest, 7.0, 0.0) + item[:, 0]

    _check(score, events=EVENTS, mask=MASKS["none or all"])


def test_events_of_two_masks_are_not_lined_up() -> None:
    """The n-th row of one is not in the place of the other's: TensorFlow goes on with the scorer."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        present = tf.boolean_mask(user["events"], user["mask"])
        changes = present[1:] - present[:-1]
        return tf.reduce_sum(tf.nn.relu(tf.matmul(item, changes, transpose_b=True)), 1)

    with pytest.raises(NotLowerableError):
        lowered(score, events=EVENTS, mask=MASKS["some"])


def test_a_form_that_asks_for_a_shape_that_is_not_known_leaves_it_to_tensorflow() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        similar = _similar(tf.boolean_mask(user["events"], user["mask"])[::-1], item)
        return tf.cast(tf.reduce_any(similar > 0.5, 1), tf.float32) + item[:, 0]

    with pytest.raises(NotLowerableError, match="a tensor of open shape"):
        lowered(score, events=EVENTS, mask=MASKS["some"])
