"""Steps of raw features: a split computes what is in front of them bit by bit as the model does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer._ir import topological
from support.programs import Score
from support.splitting import TILE, frozen, graph_of, scores_of, split

FEATURES = 8
# Whole numbers: the ages, 0 to 47 times 210, are multiples of 7, 10 and 30.
ITEMS = 365 - 210 * np.arange(TILE * FEATURES, dtype=np.float32).reshape(TILE, FEATURES)
MONTHS = 7 * np.arange(FEATURES, dtype=np.float32)
TODAY = np.array([365, 5], np.float32)


def _age(user: Any, item: tf.Tensor) -> tf.Tensor:
    return user["today"][0] - item


def _steps(condition: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(condition, tf.float32) * np.arange(1, FEATURES + 1, dtype=np.float32), -1)


STEPS: dict[str, Score] = {
    "months": lambda u, x: _steps(_age(u, x) / 30.0 > MONTHS),
    "weeks": lambda u, x: _steps(tf.floor(_age(u, x) / 7.0)),
    "weeks of the item": lambda u, x: _steps(tf.floor((x - 365) / 7.0)) + u["today"][1],
    "weeks as integers": lambda u, x: _steps(tf.cast(_age(u, x) / 7.0, tf.int32)),
    "tens, rounded": lambda u, x: _steps(tf.round((u["today"][1] + x) / 10.0)),
    "tens, rounded up": lambda u, x: _steps(tf.math.ceil((x - u["today"][1]) * 0.1)),
    "exactly a month": lambda u, x: _steps(tf.equal(_age(u, x) / 30.0, MONTHS)),
    "a bucket": lambda u, x: _steps(
        tf.raw_ops.Bucketize(input=_age(u, x) / 30.0, boundaries=[7.0 * weeks for weeks in range(48)])
    ),
    "of several, side by side": lambda u, x: _steps(
        tf.floor(tf.concat([_age(u, x)[:, :4] / 30.0, (x[:, 4:] + u["today"][1]) / 10.0], axis=1))
    ),
    "clipped": lambda u, x: _steps(tf.floor(tf.maximum(_age(u, x), 0.0) / 30.0)),
    "a sign": lambda u, x: _steps(tf.sign(_age(u, x) / 30.0 - MONTHS)),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_are_the_model_s(name: str) -> None:
    function = frozen(STEPS[name], today=[2]).function
    result = split(STEPS[name], today=[2])
    assert result.report.reason is None, result.report.reason
    state = [tf.constant(TODAY)]
    expected = np.asarray(function(*state, tf.constant(ITEMS))).reshape(-1)
    np.testing.assert_array_equal(scores_of(result, state, ITEMS), expected)


WRAPPED: dict[str, Score] = {
    "a sum of bytes": lambda x, y: x + y,
    "a difference of bytes": lambda x, y: x - y,
    "a product of bytes": lambda x, y: x * y,
}


@pytest.mark.parametrize("dtype", [tf.uint8, tf.int8, tf.int16, tf.uint16])
@pytest.mark.parametrize("name", WRAPPED)
def test_narrow_integers_wrap_around(name: str, dtype: tf.DType) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        ours = tf.cast(tf.cast(item, tf.int32) * 150, dtype)
        theirs = tf.cast(tf.cast(user["today"][0], tf.int32) * 90, dtype)
        return _steps(WRAPPED[name](ours, theirs))

    function = frozen(score, today=[2]).function
    result = split(score, today=[2])
    state = [tf.constant(TODAY)]
    expected = np.asarray(function(*state, tf.constant(ITEMS))).reshape(-1)
    np.testing.assert_array_equal(scores_of(result, state, ITEMS), expected)


def test_arithmetic_of_layers_is_ours() -> None:
    """A rectifier by hand compares what a layer has summed, whose last bits mean nothing."""
    kernel = np.eye(FEATURES, dtype=np.float32)

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        hidden = tf.matmul(item - user["today"][0], kernel) + user["today"][1]
        return tf.reduce_sum(tf.where(hidden > 0, hidden, 0.1 * hidden), -1)

    operations = {node.op for node in topological([graph_of(score, today=[2]).output])}
    assert not operations & {"AddV2", "Mul", "Sub"}
