"""The user, repeated for each item, behind operations that are not known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from nann.export.scorer import split_function
from nann.export.scorer._lower import lower
from nann.export.scorer._ops import add, broadcast, matmul, mul, reshape
from nann.export.scorer._repeated import user_once
from support.splitting import TILE, frozen, item, largest_difference, operation, ops_of, user

L, D = 5, 8
EVENTS = broadcast(user(L, D), (TILE, L, D))


def repeated(value: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    return tf.repeat(value[tf.newaxis], x.shape[0], axis=0)


def ragged(user: Any, x: tf.Tensor) -> tf.Tensor:
    events = repeated(user["events"], x)
    kept = tf.ragged.boolean_mask(events, tf.reduce_any(events > 0.5, -1))
    return tf.ensure_shape(tf.reduce_sum(kept, 1), x.shape)


def normed(user: Any, x: tf.Tensor) -> tf.Tensor:
    events = repeated(user["events"], x)
    return tf.nn.local_response_normalization(events[:, :, tf.newaxis], 2)[:, 0, 0]


@pytest.mark.parametrize("of_user", [ragged, normed])
def test_the_native_executor_runs_what_reads_it(of_user: Callable[..., tf.Tensor]) -> None:
    function = frozen(
        lambda user, x: tf.reduce_sum(tf.tanh(x * of_user(user, x)), -1), events=[L, D]
    ).function
    result = split_function(function, max_table_width=4096)
    assert largest_difference(function, result) <= 1e-5
    assert result.ir is not None
    lower(result.ir)


def test_a_product_with_it() -> None:
    events = operation(tf.cumsum, EVENTS)  # Of one row at the place of each item: a test's own nonsense.
    found = user_once(matmul(events, reshape(item(D), (TILE, D, 1))), TILE)
    assert ops_of(found) == ["broadcast", "Cumsum", "slice", "broadcast", "reshape", "BatchMatMulV2"]


def test_places_of_rows_stay() -> None:
    places = operation(tf.cumsum, broadcast(user(name="k", dtype=tf.int32), (TILE,)))
    output = add(places, operation(tf.math.argmax, item(D), axis=-1, output_type=tf.int32))
    assert user_once(output, TILE) == output


def test_rows_of_the_user_stay() -> None:
    output = mul(operation(tf.cumsum, user(TILE, D)), item(D))
    assert user_once(output, TILE) == output


def test_what_has_the_rows_on_two_axes_stays() -> None:
    output = add(operation(tf.cumsum, broadcast(user(TILE), (TILE, TILE))), item(TILE))
    assert user_once(output, TILE) == output


def test_heads_of_the_user_on_the_batch_axis() -> None:
    """As in the transformer of deepctr, whose events are those of one user for all items."""

    def score(user: Any, x: tf.Tensor) -> tf.Tensor:
        stacked = tf.concat(tf.split(repeated(user["events"], x), 2, axis=-1), axis=0)
        similar = tf.matmul(stacked, stacked, transpose_b=True)
        present = tf.tile(repeated(user["is_present"], x), [2, 1])
        weights = tf.nn.softmax(tf.where(present[:, tf.newaxis], similar, tf.fill(tf.shape(similar), -1e9)))
        found = tf.concat(tf.split(tf.matmul(weights, stacked), 2, axis=0), axis=-1)
        return tf.reduce_sum(tf.tanh(x[:, tf.newaxis] * tf.nn.relu(found)), [1, 2])

    state = {"events": ([L, D], tf.float32), "is_present": ([L], tf.bool)}
    specs = {name: tf.TensorSpec(*each) for name, each in state.items()}
    function = frozen(score, **specs).function
    result = split_function(function, max_table_width=4096)
    assert largest_difference(function, result) <= 1e-5
    assert result.ir is not None
    lower(result.ir)
    assert all(size != 2 * TILE for each in result.user_function.outputs for size in each.shape)
