"""Assertions and prints of a scorer: they are left out of its parts, and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import split_scorer
from nann.export.scorer._lower import lower
from support.splitting import frozen, largest_difference, split

L, D = 5, 8
KERNEL = tf.Variable(np.random.default_rng(0).normal(size=(D, D)).astype(np.float32) * 0.4)
NOWHERE = "file:///dev/null"


def scores(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.linalg.matvec(tf.tanh(item @ KERNEL), user["taste"])


def of_the_user(user: Any, item: tf.Tensor) -> tf.Tensor:
    tf.debugging.assert_less(tf.abs(user["taste"]), 1e6)
    return scores(user, item)


def of_the_scores(user: Any, item: tf.Tensor) -> tf.Tensor:
    found = scores(user, item)
    with tf.control_dependencies([tf.debugging.assert_less(found, 1e6)]):
        return tf.identity(found)


def of_strings(user: Any, item: tf.Tensor) -> tf.Tensor:
    """What an assertion says is computed for it alone."""
    tf.debugging.Assert(tf.reduce_all(item < 1e6), [tf.strings.as_string(item)])
    return scores(user, item)


def of_numbers(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.debugging.assert_all_finite(scores(user, item), "a score") * 2


def printed(user: Any, item: tf.Tensor) -> tf.Tensor:
    found = scores(user, item)
    tf.print("scores", found, output_stream=NOWHERE)
    return found


def handed_on_by_a_print(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.compat.v1.Print(scores(user, item), [tf.shape(item)])


def in_a_branch(user: Any, item: tf.Tensor) -> tf.Tensor:
    def checked() -> tf.Tensor:
        tf.debugging.assert_less(item, 1e6)
        return scores(user, item)

    return tf.cond(user["taste"][0] > 0, checked, lambda: item[:, 0])


def in_a_function(user: Any, item: tf.Tensor) -> tf.Tensor:
    return checked_scores(user["taste"], item)


@tf.function
def checked_scores(taste: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
    tf.debugging.assert_less(item, 1e6)
    if tf.reduce_sum(taste) > 1e6:
        tf.print("a user", output_stream=NOWHERE)
    return scores({"taste": taste}, item)


def in_a_loop(user: Any, item: tf.Tensor) -> tf.Tensor:
    def step(i: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        tf.debugging.assert_less(x, 1e6)
        return i + 1, tf.tanh(x @ KERNEL) + user["taste"]

    return tf.reduce_sum(tf.while_loop(lambda i, x: i < 3, step, (0, item))[1], -1)


EFFECTS = [
    *(of_the_user, of_the_scores, of_strings, of_numbers, printed, handed_on_by_a_print, in_a_branch),
    *(in_a_function, in_a_loop),
]


@pytest.mark.parametrize("score", EFFECTS)
def test_they_are_left_out_and_named(score: Callable[..., tf.Tensor]) -> None:
    scorer = frozen(score, taste=[D])
    assert scorer.effects
    result = split_scorer(scorer, num_items=10, item_table_bytes=2**20)
    assert result.left_out == scorer.effects
    assert largest_difference(scorer.function, split(score, taste=[D])) <= 1e-5
    assert result.ir is not None
    lower(result.ir)


@pytest.mark.parametrize("score", EFFECTS)
def test_they_are_kept_where_they_are_to_be(score: Callable[..., tf.Tensor]) -> None:
    scorer = frozen(score, taste=[D])
    result = split_scorer(scorer, num_items=10, item_table_bytes=2**20, keep_effects=True)
    assert result.function is scorer.function
    assert result.left_out == ()
    assert result.report is not None
    assert result.report.reason == f"its assertions and prints are kept: {', '.join(scorer.effects)}"


def test_what_shapes_and_constants_decide_is_no_assertion() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        repeated = tf.tile(user["taste"][tf.newaxis], [tf.shape(item)[0], 1])
        tf.debugging.assert_equal(tf.shape(repeated), tf.shape(item))
        tf.debugging.assert_rank(item, 2)
        tf.debugging.assert_shapes([(item, ("n", D)), (user["taste"], (D,))])
        tf.debugging.assert_greater(tf.shape(item)[0], tf.size(item) // 100)
        return scores(user, tf.ensure_shape(item, [None, D]))

    scorer = frozen(score, taste=[D])
    assert scorer.effects == ()
    result = split_scorer(scorer, num_items=10, item_table_bytes=2**20, keep_effects=True)
    assert result.function is not scorer.function


def test_an_assertion_in_the_branch_that_constants_choose_is_named() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        def checked() -> tf.Tensor:
            tf.debugging.assert_less(item, 1e6, name="small")
            return scores(user, item)

        return tf.cond(tf.size(user["events"]) > L, checked, lambda: item[:, 0])

    assert any("small" in name for name in frozen(score, taste=[D], events=[L, D]).effects)
    assert frozen(score, taste=[D], events=[L, 1]).effects == ()
