"""Branches, places and empty slices of which only some rounds, users or items may do what is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.constants import freeze
from nann.export.scorer import split_function
from nann.export.scorer._branches import without_branches
from nann.export.scorer._control_flow import without_control_flow
from support.splitting import frozen, largest_difference

L, D = 5, 8
TABLE = tf.constant(np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32))


def gathered(row: Any) -> Any:
    return tf.reduce_sum(tf.gather(TABLE, row))


def sliced(row: Any) -> Any:
    return TABLE[row, 1]


def divided(row: Any) -> Any:
    return tf.cast(60 // (6 - row), tf.float32)


def solved(row: Any) -> Any:
    return tf.reduce_sum(tf.linalg.inv(tf.eye(2) * tf.cast(6 - row, tf.float32)))


def nested(row: Any) -> Any:
    return tf.cond(row > -9, lambda: gathered(row), lambda: 1.0)


@tf.function
def called(row: Any, x: Any) -> Any:
    """AutoGraph writes `and` and `or` as branches that call a function each."""
    if row > 0 and (row > 5 or x > 1.0):
        x = x * 2.0
    return x


def test_names_of_calls_that_were_written_out_are_free_for_others() -> None:
    specs = [tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)]
    score = tf.function(lambda row, x: called(row, x), input_signature=specs)
    model = freeze(score.get_concrete_function(), what="score")
    plain = without_branches(model)
    assert not [each for each in plain.graph.get_operations() if each.type.endswith("If")]
    for row in (0, 3, 7):
        for x in (0.5, 1.5):
            arguments = tf.constant(row), tf.constant(x)
            assert float(plain(*arguments)[0]) == float(called(*arguments))


@pytest.mark.parametrize("risky", [gathered, sliced, divided, solved, nested])
def test_a_branch_that_is_not_chosen_does_not_fail(risky: Callable[[Any], Any]) -> None:
    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def score(row: Any) -> Any:
        return tf.cond(row < 6, lambda: risky(row), lambda: 0.5)

    model = freeze(score.get_concrete_function(), what="score")
    plain = without_branches(model)
    assert not [each for each in plain.graph.get_operations() if each.type.endswith("If")]
    for row in (0, 2, 5, 6, 7):
        found, expected = (float(np.ravel(each(tf.constant(row))[0])[0]) for each in (plain, model))
        assert found == pytest.approx(expected)


def test_the_chosen_branch_fails_as_it_does() -> None:
    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def score(row: Any) -> Any:
        return tf.cond(row > 3, lambda: gathered(row), lambda: 0.5)

    with pytest.raises(tf.errors.InvalidArgumentError):
        without_branches(freeze(score.get_concrete_function(), what="score"))(tf.constant(7))


def over_events(one: Callable[[Any, Any, Any], Any]) -> Callable[..., Any]:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        found = tf.map_fn(lambda i: one(user["events"], item, i), tf.range(L), fn_output_signature=tf.float32)
        return tf.reduce_sum(found * tf.range(1.0, L + 1)[:, tf.newaxis], 0)

    return score


def before(events: Any, item: Any, i: Any) -> Any:
    return tf.reduce_sum(tf.matmul(item, events[i - 1 : i], transpose_b=True), 1)


def after(events: Any, item: Any, i: Any) -> Any:
    return tf.reduce_sum(tf.matmul(item, events[i + 1 : i + 2], transpose_b=True), 1)


def growing(events: Any, item: Any, i: Any) -> Any:
    return tf.reduce_sum(events[i, : i + 1]) * item[:, 0]


def growing_rows(events: Any, item: Any, i: Any) -> Any:
    return tf.reduce_sum(events[i : i + 1, :i]) * item[:, 0]


@pytest.mark.parametrize("one", [before, after, growing, growing_rows])
def test_slices_whose_length_changes_from_round_to_round(one: Callable[..., Any]) -> None:
    """They are no gathers: some rounds have no place, or more of another axis."""
    function = frozen(over_events(one), events=[L, D]).function
    # As the model runs, for which nothing was taken apart.
    plain = without_control_flow(function, tile_rows=6)
    assert largest_difference(function, split_function(function, max_table_width=4096)) <= 1e-5
    random = np.random.default_rng(0)
    inputs = [tf.constant(random.normal(size=each.shape).astype(np.float32)) for each in function.inputs]
    np.testing.assert_allclose(plain(*inputs)[0], function(*inputs)[0], rtol=1e-4, atol=1e-4)


def largest_of_none(user: Any, item: tf.Tensor) -> tf.Tensor:
    return item[:, 0] + tf.maximum(tf.reduce_max(user["events"][:0]), -3.0)


def split_of_none(user: Any, item: tf.Tensor) -> tf.Tensor:
    none, some, rest = tf.split(item, [0, 3, 5], 1)
    return tf.reduce_sum(none, 1) + tf.reduce_sum(some, 1) * user["events"][0, 0] + tf.reduce_sum(rest, 1)


@pytest.mark.parametrize("score", [largest_of_none, split_of_none])
def test_tensors_without_elements(score: Callable[..., tf.Tensor]) -> None:
    function = frozen(score, events=[L, D]).function
    assert largest_difference(function, split_function(function, max_table_width=4096)) <= 1e-5


def test_models_of_one_process_do_not_share_names_of_functions() -> None:
    def of(parts: int) -> Callable[..., tf.Tensor]:
        def score(user: Any, item: tf.Tensor) -> tf.Tensor:
            given = (item, *(item[:, at] for at in range(parts)))
            return tf.map_fn(
                lambda each: tf.cond(
                    each[0][0] > 0, lambda: tf.reduce_sum(each[0] * user["taste"]), lambda: tf.add_n(each[1:])
                ),
                given,
                fn_output_signature=tf.float32,
            )

        return score

    models = [frozen(of(parts), taste=[D]).function for parts in (1, 2, 3)]
    names = [
        {each.signature.name for each in model.graph.as_graph_def().library.function} for model in models
    ]
    assert not names[0] & names[1]
    assert not names[1] & names[2]
