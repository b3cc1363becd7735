"""Raw features: a split computes steps and differences of them as exactly as the model does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import split_function
from nann.export.scorer._ir import topological
from nann.run.as_written import as_written
from support.programs import Score
from support.splitting import TILE, frozen, graph_of, scores_of, split

FEATURES = 8
RANDOM = np.random.default_rng(3)
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


# Times in seconds, and places in one city: the first four columns of an item, and the others.
NEAR = np.concatenate(
    [
        1_700_000_000 + 128 * RANDOM.integers(0, 20_000, (TILE, 4)),
        48.85 + 0.01 * RANDOM.normal(size=(TILE, 4)),
    ],
    axis=1,
).astype(np.float32)
NOW = np.array([1_702_600_192, 48.8512], np.float32)


def _since(user: Any, item: tf.Tensor) -> tf.Tensor:
    return user["today"][0] - item[:, :4]


def _apart(user: Any, item: tf.Tensor) -> tf.Tensor:
    return item[:, 4:] - user["today"][1]


DIFFERENCES: dict[str, Score] = {
    "a decay": lambda u, x: tf.exp(-_since(u, x) / 3600.0 / 24.0),
    "the hour of day": lambda u, x: tf.sin(2.0 * np.pi * _since(u, x) / 86_400.0),
    "a logarithm of hours": lambda u, x: tf.math.log1p(_since(u, x) / 3600.0),
    "kilometres": lambda u, x: tf.sqrt(
        (_apart(u, x)[:, :2] * 111.0) ** 2 + (_apart(u, x)[:, 2:] * 73.0) ** 2
    ),
    "kilometres, squared": lambda u, x: tf.math.squared_difference(x[:, 4:] * 111.0, u["today"][1] * 111.0),
    "of a number of the user's": lambda u, x: _apart(u, x) * tf.exp(u["today"][1]) * 100.0,
    "squashed": lambda u, x: tf.tanh((_apart(u, x)[:, :2] + _apart(u, x)[:, 2:]) * 50.0),
    "the longest": lambda u, x: tf.maximum(_apart(u, x)[:, :2] * 111.0, _apart(u, x)[:, 2:] * 73.0),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_near_numbers_are_subtracted_first(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(DIFFERENCES[name](user, item)[:, :2], -1)

    function = frozen(score, today=[2]).function
    result = split_function(function, max_table_width=64)
    assert result.report.reason is None, result.report.reason
    state = [tf.constant(NOW)]
    expected = np.asarray(function(*state, tf.constant(NEAR))).reshape(-1)
    np.testing.assert_allclose(scores_of(result, state, NEAR), expected, rtol=1e-6, atol=1e-6)


DIRECTIONS = (20.0 * RANDOM.normal(size=(2, 3))).astype(np.float32)
PERIODS = RANDOM.normal(size=(4, 2)).astype(np.float32)
# Layers over a few numbers.
ANGLES: dict[str, Score] = {
    "hours": lambda u, x: tf.nn.bias_add(tf.matmul(_since(u, x)[:, :1] / 3600.0, [[0.7, -1.3]]), [0.3, 0.1]),
    "hours, each embedded by itself": lambda u, x: tf.reshape(
        tf.einsum("bf,fk->bfk", _since(u, x) / 3600.0, PERIODS) + 0.3, [-1, 8]
    ),
    "hours as a column": lambda u, x: tf.einsum(
        "blf,fk->blk", _since(u, x)[..., tf.newaxis] / 3600.0, PERIODS[:1]
    )[:, 0],
    "a place": lambda u, x: tf.matmul(x[:, 4:6], DIRECTIONS) + 0.3 + 0 * u["today"][0],
    "what lies between two places": lambda u, x: tf.matmul(_apart(u, x)[:, :2] * 1e4, DIRECTIONS),
}


@pytest.mark.parametrize("name", ANGLES)
def test_waves_of_layers_over_few_numbers_are_the_model_s(name: str) -> None:
    """Periodic embeddings, whose angles are large: the product, its bias and the wave's factor as written."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.sin(2.0 * np.pi * ANGLES[name](user, item)), -1)

    function = frozen(score, today=[2]).function
    result = split_function(function, max_table_width=64)
    state = [tf.constant(NOW)]
    with as_written():
        expected = np.asarray(function(*state, tf.constant(NEAR))).reshape(-1)
        found = scores_of(result, state, NEAR)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_arithmetic_of_layers_is_ours() -> None:
    """Differences that a layer sums are taken apart; a rectifier by hand compares such sums."""
    kernel = np.eye(FEATURES, dtype=np.float32)

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        hidden = tf.matmul(item - user["today"][0], kernel) + user["today"][1]
        return tf.reduce_sum(tf.where(hidden > 0, hidden, 0.1 * hidden), -1)

    operations = {node.op for node in topological([graph_of(score, today=[2]).output])}
    assert not operations & {"AddV2", "Mul", "Sub"}
