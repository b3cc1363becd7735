"""Rows of a user who was repeated for each item, in one batch with those of all copies: computed once."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from nann.export.scorer import split_function
from support.programs import compare, compare_with_traced, weighted
from support.splitting import frozen

TITLES, WORDS, D = 6, 4, 8
RANDOM = np.random.default_rng(9)
TABLE, KERNEL, QUERY = (
    RANDOM.normal(size=size).astype(np.float32) / 2 for size in ((20, 5), (3, 5, D), (D, D))
)
STATE = {
    "titles": RANDOM.integers(0, 20, size=(2, TITLES, WORDS)),
    "user": RANDOM.normal(size=(2, D)).astype(np.float32),
}


def _encoded(words: tf.Tensor, users: tf.Tensor) -> tf.Tensor:
    """Titles [m, words] and their users [m, D] -> [m, D], by a convolution and attention."""
    x = tf.nn.relu(tf.nn.conv1d(tf.gather(TABLE, words), KERNEL, 1, "SAME") + 0.1)
    x = x * tf.cast(words > 0, tf.float32)[..., tf.newaxis]
    weights = tf.matmul(tf.tanh(x @ QUERY), users[..., tf.newaxis])
    return tf.reduce_sum(x * tf.nn.softmax(weights, 1), 1)


def score(user: Any, item: tf.Tensor) -> tf.Tensor:
    n = item.shape[0]
    titles = tf.reshape(tf.repeat(user["titles"][tf.newaxis], n, 0), [-1, WORDS])
    users = tf.repeat(tf.repeat(user["user"][tf.newaxis], n, 0), TITLES, 0)
    titles = tf.reshape(_encoded(titles, users), [n, TITLES, D])
    return weighted(tf.tanh(tf.reduce_max(titles, 1) * item))


def test_copies_are_encoded_once() -> None:
    compare(score, **STATE)
    compare_with_traced(score, **{name: each[0] for name, each in STATE.items()})
    specs = {name: tf.TensorSpec(each.shape[1:], each.dtype) for name, each in STATE.items()}
    report = split_function(frozen(score, **specs).function, max_table_width=0).report
    assert [each["shape"] for each in report.user_tensors] in ([[D]], [[1, D]])


def test_an_interest_is_read_from_one_copy() -> None:
    """By its place among the interests of all copies, as code for capsules reads the nearest one."""

    def nearest(user: Any, item: tf.Tensor) -> tf.Tensor:
        n = item.shape[0]
        interests = tf.tanh(tf.repeat(user["interests"][tf.newaxis], n, 0) * 2.0)
        place = tf.argmax(tf.einsum("nkd,nd->nk", interests, item), 1, tf.int32) + 20 * tf.range(n)
        return tf.reduce_sum(tf.gather(tf.reshape(interests, [-1, D]), place) * item, -1)

    interests = RANDOM.normal(size=(2, 20, D)).astype(np.float32)
    compare(nearest, interests=interests)
    compare_with_traced(nearest, interests=interests[0])


def test_fields_of_the_user_stand_between_axes_of_the_item() -> None:
    """[n, 4, 3 of the user and 1 of the item, D]: a field is weighted for each that it meets."""
    weights = RANDOM.normal(size=(4, 4, D, D)).astype(np.float32) / 3

    def pairs(user: Any, item: tf.Tensor) -> tf.Tensor:
        fields = tf.repeat(user["fields"][tf.newaxis], item.shape[0], 0)
        fields = tf.concat([fields, item[:, tf.newaxis]], 1)
        left = tf.einsum("nmk,fmjk->nfmj", fields, weights)
        return weighted(tf.tanh(tf.reduce_sum(left * fields[:, tf.newaxis], -1)))

    fields = RANDOM.normal(size=(2, 3, D)).astype(np.float32)
    compare(pairs, fields=fields)
    compare_with_traced(pairs, fields=fields[0])


def test_rows_that_are_no_copies_stay() -> None:
    """The users of another batch: what one reads is not the first of some copies."""

    def of_others(user: Any, item: tf.Tensor) -> tf.Tensor:
        others = tf.reshape(user["others"], [2 * TITLES, D])
        x = tf.reshape(tf.tanh(others * 2.0), [2, TITLES, D])
        return weighted(tf.tanh(tf.reduce_max(x[1], 0) * item))

    others = RANDOM.normal(size=(2, 2, TITLES, D)).astype(np.float32)
    compare_with_traced(of_others, others=others[0])
