"""A scorer with an unknown operation: TensorFlow computes that part of it, the native executor the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export.scorer import Scorer, SplitScorer, choose_executor, freeze_scorer, split_function
from nann.export.scorer._lowering import NotLowerableError
from nann.export.scorer._partly import lower_partly
from support.native_scores import ITEMS, TILE_ROWS, scores_of
from support.splitting import FunctionModel

L, D = 5, 8
RANDOM = np.random.default_rng(0)
FIRST, SECOND = (tf.constant(RANDOM.normal(size=s) * 0.4, tf.float32) for s in ((D, 64), (64, 32)))


def _network(x: tf.Tensor) -> tf.Tensor:
    """What costs most of each scorer."""
    return tf.reduce_sum(tf.nn.relu(tf.nn.relu(x @ FIRST) @ SECOND), -1)


def nearest_events(user: Any, item: tf.Tensor) -> tf.Tensor:
    """The two nearest events of each item: two results of an operation, and one that reads its indices."""
    products = tf.cast(item @ tf.transpose(user["events"]), tf.float64)
    best, where = tf.math.top_k(products, 2)
    found = tf.gather(tf.broadcast_to(user["events"], [item.shape[0], L, D]), where, batch_dims=1)
    weights = tf.nn.softmax(tf.cast(best, tf.float32))
    pooled = tf.reduce_sum(weights[..., tf.newaxis] * found, 1)
    return _network(pooled * item) + _network(pooled + item)


def logarithms(user: Any, item: tf.Tensor) -> tf.Tensor:
    """A function that no instruction computes."""
    return _network(_unknown(item * user["events"][0])) + _network(item * user["events"][1])


def _unknown(x: tf.Tensor) -> tf.Tensor:
    return tf.math.lgamma(1.5 + tf.abs(x))


def flags(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Truth values of an unknown operation."""
    known = tf.raw_ops.ApproximateEqual(x=item, y=0 * item, tolerance=0.5)
    return _network(tf.where(known, item, item * user["events"][1])) + _network(item * user["events"][2])


def of_the_user(user: Any, item: tf.Tensor) -> tf.Tensor:
    """With a user part of its own."""
    gates = tf.sort(tf.nn.softmax(user["events"] @ FIRST)[:, :D], axis=0)
    return _network(item * gates[0]) + _network(_unknown(item * gates[1]))


SCORERS = [nearest_events, logarithms, flags, of_the_user]


def _scorer(score: Callable[..., tf.Tensor]) -> tuple[SplitScorer, Scorer]:
    model = FunctionModel(score, events=[L, D])
    function = freeze_scorer(model, tile_rows=TILE_ROWS).function
    result = split_function(function, max_table_width=64)
    scorer = Scorer(
        result.function, result.item_tables, TILE_ROWS, user_function=result.user_function, ir=result.ir
    )
    return result, choose_executor(scorer, "auto", {})


@pytest.mark.parametrize("score", SCORERS)
def test_the_scores_are_those_of_tensorflow(score: Callable[..., tf.Tensor]) -> None:
    result, scorer = _scorer(score)
    assert scorer.program
    assert scorer.unknown_function is not None
    assert scorer.executor == "tensorflow"
    state = [RANDOM.normal(size=(2, L, D)).astype(np.float32)]
    expected = scores_of(result, state, b"")
    found = scores_of(result, state, scorer.program, function=scorer.unknown_function)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    order = np.random.default_rng(1).permutation(ITEMS)
    moved = scores_of(result, state, scorer.program, order, function=scorer.unknown_function)
    # Not equal to the last bit: a row at the edge of a tile may be computed by other instructions.
    np.testing.assert_allclose(moved, found[:, order], rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_the_export_says_what_tensorflow_computes_and_what_it_costs() -> None:
    reason = _scorer(nearest_events)[1].executor_reason
    assert reason is not None
    assert "(TopKV2)" in reason
    assert "; TensorFlow computes it and what it is computed from" in reason
    costs = re.search(r"from, ([\d,]+) of ([\d,]+) FLOPs per item", reason)
    assert costs is not None
    part, whole = (int(each.replace(",", "")) for each in costs.groups())
    assert 0 < part < whole / 4


def test_tensorflow_runs_what_is_most_of_a_scorer() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        hidden = tf.nn.relu(item * user["events"][0] @ FIRST)
        for _ in range(3):
            hidden = tf.nn.relu(hidden @ SECOND) @ tf.transpose(SECOND)
        return tf.reduce_max(tf.math.lgamma(hidden), -1)

    _, scorer = _scorer(score)
    assert not scorer.program
    assert scorer.unknown_function is None
    assert scorer.executor_reason is not None


def test_nothing_is_left_where_the_last_operation_is_unknown() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return tf.math.lgamma(_network(item * user["events"][0]))

    assert not _scorer(score)[1].program


def test_a_native_executor_that_is_wanted_runs_all_or_nothing() -> None:
    model = FunctionModel(nearest_events, events=[L, D])
    function = freeze_scorer(model, tile_rows=TILE_ROWS).function
    with pytest.raises(InvalidInputError, match="expected a scorer that the native executor can run"):
        choose_executor(Scorer(function, ("item_embs",), TILE_ROWS), "native", {})


def test_a_function_of_another_width_is_an_error() -> None:
    result, scorer = _scorer(nearest_events)
    state = [RANDOM.normal(size=(2, L, D)).astype(np.float32)]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected one output float32\[7, \d+\]"):
        scores_of(result, state, scorer.program)  # The whole scorer's function: one number per item.


def test_a_scorer_that_is_all_known_has_no_part_for_tensorflow() -> None:
    model = FunctionModel(lambda user, item: _network(item * user["events"][0]), events=[L, D])
    result = split_function(freeze_scorer(model, tile_rows=TILE_ROWS).function, max_table_width=64)
    assert result.ir is not None
    with pytest.raises((ValueError, NotLowerableError)):
        lower_partly(result.ir)
