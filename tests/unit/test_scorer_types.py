"""Masks, whole numbers, narrow floats and functions of one element: natively as by TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import freeze_scorer, split_function
from nann.export.scorer._lower import lower
from nann.export.scorer._lowering import NotLowerableError
from nann.export.scorer.scorer import tolerance_of
from nann.export.scorer.split import whole_scorer
from support.native_scores import TILE_ROWS, scores_of
from support.splitting import FunctionModel

L, D = 5, 8
RANDOM = np.random.default_rng(4)
EVENTS = RANDOM.normal(size=(2, L, D)).astype(np.float32)
TASTE = RANDOM.normal(size=(2, D)).astype(np.float32)
MASK = np.array([[True, True, False, True, False], [False, True, True, True, True]])
KERNEL = RANDOM.normal(size=(D, D)).astype(np.float32) * 0.4


def compare(
    score: Callable[..., tf.Tensor],
    *,
    after_user_function: bool | None = None,
    max_table_width: int = 0,
    **state: Any,
) -> None:
    """That the program's scores are TensorFlow's. state: [users, ...] of each of the user's tensors."""
    specs = {name: tf.TensorSpec(value.shape[1:], value.dtype) for name, value in state.items()}
    function = freeze_scorer(FunctionModel(score, **specs), tile_rows=TILE_ROWS).function
    result = split_function(function, max_table_width=max_table_width)
    program = lower(result.ir or whole_scorer(function))
    assert after_user_function in (None, program.after_user_function)
    expected, found = (scores_of(result, list(state.values()), each) for each in (b"", program.to_bytes()))
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, atol=tolerance_of(function) * np.abs(expected).max())


def attention(user: Any, item: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    logits = tf.where(mask, tf.matmul(item, user["events"], transpose_b=True), -1e9)
    return tf.reduce_sum(tf.matmul(tf.nn.softmax(logits), user["events"]) * tf.tanh(item), -1)


def to_int8(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.cast(tf.clip_by_value(tf.round(x * 30), -127, 127), tf.int8), tf.float32)


def to_float8(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.cast(x, "float8_e4m3fn"), tf.float32)


@pytest.mark.parametrize("quantized", [to_int8, to_float8, tf.quantization.fake_quant_with_min_max_args])
def test_a_quantized_scorer_is_left_as_it_is(quantized: Callable[[tf.Tensor], tf.Tensor]) -> None:
    """In another order the last bit of a sum would make another step of a quantized layer's input."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(quantized((item + user["taste"]) @ KERNEL), axis=-1)

    function = freeze_scorer(
        FunctionModel(score, taste=tf.TensorSpec([D], tf.float32)), tile_rows=TILE_ROWS
    ).function
    result = split_function(function, max_table_width=64)
    assert result.function is function
    assert re.match(r"it is quantized: \S+ \((Cast|FakeQuant\w+)\)", result.report.reason or "")


def test_item_state_of_few_bits_is_not_quantized() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        code = tf.cast(item[:, 0], tf.int8)
        return tf.cast(code, tf.float32) + tf.linalg.matvec(item @ KERNEL, user["taste"])

    function = freeze_scorer(
        FunctionModel(score, taste=tf.TensorSpec([D], tf.float32)), tile_rows=TILE_ROWS
    ).function
    assert split_function(function, max_table_width=64).report.reason is None


@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.int64])
def test_a_mask_of_any_type(dtype: Any) -> None:
    compare(
        lambda user, item: attention(user, item, tf.cast(user["mask"], tf.bool)),
        after_user_function=False,
        events=EVENTS,
        mask=MASK.astype(dtype),
    )


def test_a_mask_with_axes_of_size_one() -> None:
    compare(
        lambda user, item: attention(user, item, tf.squeeze(tf.logical_not(user["mask"]))),
        events=EVENTS,
        mask=MASK[:, np.newaxis, :, np.newaxis],
    )


def test_user_tensors_of_many_axes() -> None:
    """As the heads of an attention: read as rows and columns."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        keys = tf.transpose(tf.reshape(user["events"], [L, 2, 4]), [1, 2, 0])
        logits = tf.einsum("nhd,hdl->nhl", tf.reshape(tf.tanh(item), [-1, 2, 4]), keys)
        return tf.reduce_sum(tf.nn.softmax(logits) * user["weights"], [1, 2])

    compare(score, events=EVENTS, weights=RANDOM.normal(size=(2, 1, 2, L)).astype(np.float32))


def test_numbers_of_the_user_are_compared_with_those_of_items() -> None:
    """A number beyond 2^24 equals none of theirs, though as a float it would."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        numbers = tf.cast(item[:, :1] * 0.0 + 2.0**24, tf.int64)
        same = tf.cast(tf.equal(numbers, user["ids"]), tf.float32)
        return tf.reduce_sum(same, -1) * item[:, 0]

    ids = np.array([[2**24, 2**24 + 1, 3, 4, 5], [-(2**40), 1, 2**53 + 1, 2**24, 2**24]], np.int64)
    compare(score, ids=ids)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_a_narrow_scorer_is_computed_in_float32(dtype: tf.DType) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        hidden = tf.nn.relu(tf.matmul(tf.cast(item, dtype), tf.constant(KERNEL, dtype)) + user["taste"])
        return tf.reduce_sum(hidden * tf.cast(0.3, dtype), -1)

    compare(score, taste=tf.cast(TASTE, dtype).numpy())


def of_integers(score: Callable[..., tf.Tensor]) -> Any:
    specs = {name: tf.TensorSpec([L], tf.int64) for name in ("left", "right")}
    function = freeze_scorer(FunctionModel(score, **specs), tile_rows=TILE_ROWS).function
    ir = split_function(function, max_table_width=0).ir
    assert ir is not None
    return lower(ir)


def test_arithmetic_of_integers_is_refused() -> None:
    with pytest.raises(NotLowerableError, match="arithmetic of integers"):
        of_integers(lambda user, item: tf.cast(tf.cast(item[:, 0], tf.int64) * user["left"][0], tf.float32))


def test_integers_of_the_user_stay_with_tensorflow() -> None:
    """Two that are beyond 2^24 would be equal; a sum of such would be another."""
    same = of_integers(
        lambda user, item: tf.reduce_sum(
            item[:, :L] * tf.cast(tf.equal(user["left"], user["right"]), tf.float32), -1
        )
    )
    assert same.after_user_function
    summed = of_integers(
        lambda user, item: tf.reduce_sum(item[:, :L] * tf.cast(user["left"], tf.float32), -1)
    )
    assert summed.after_user_function


FUNCTIONS: list[Callable[[tf.Tensor], tf.Tensor]] = [
    tf.nn.elu,
    tf.nn.selu,
    tf.nn.softplus,
    tf.nn.softsign,
    tf.math.expm1,
    tf.sign,
    tf.math.erfc,
    tf.nn.log_softmax,
    lambda x: tf.math.log(tf.abs(x)),
    lambda x: tf.math.log1p(tf.abs(x)),
    lambda x: tf.floor(3.3 * x),
    lambda x: tf.math.ceil(3.3 * x),
    lambda x: tf.math.divide_no_nan(x, tf.nn.relu(x)),
    lambda x: tf.raw_ops.ClipByValue(t=x, clip_value_min=-0.5, clip_value_max=0.25),
    lambda x: tf.abs(x) ** 1.7,
    lambda x: tf.abs(x) ** -0.3,
    lambda x: 1.3**x,
    lambda x: x**5,
    lambda x: x**-1,
    lambda x: tf.where(tf.math.is_finite(1 / tf.nn.relu(x)), x, 0.5),
    lambda x: tf.where(tf.math.is_nan(tf.sqrt(x)), 0.5, x),
    lambda x: tf.reduce_logsumexp(x, -1, keepdims=True),
    lambda x: tf.cast(tf.cast(4.7 * x, tf.int32), tf.float32),
    lambda x: tf.cast(x > 0.3, tf.float32),
    lambda x: tf.cast(tf.logical_not((x < 0.3) | (x >= 1)) & (x <= 3), tf.float32),
    lambda x: tf.gather(x, [5, 6, 7, 2, 2, 2, 0], axis=1),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=range(len(FUNCTIONS)))
def test_functions(function: Callable[[tf.Tensor], tf.Tensor]) -> None:
    compare(lambda user, item: tf.reduce_sum(function(item * user["taste"]), -1), taste=TASTE)


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh", "selu"])
def test_the_plan_is_one_that_runs_natively(activation: str) -> None:
    """The scorer of docs/your-model.md: which of its forms is the cheapest hangs on the activation."""
    network = keras.Sequential([keras.layers.Dense(16, activation=activation), keras.layers.Dense(1)])
    network.build((None, 3 * D))

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        present = tf.reduce_any(user["events"] != 0, -1)
        attended = tf.matmul(
            tf.nn.softmax(tf.where(present, tf.matmul(item, user["events"], transpose_b=True), -1e9)),
            user["events"],
        )
        return network(tf.concat([attended, item, attended * item], -1))[:, 0]

    compare(score, max_table_width=4096, events=EVENTS)
