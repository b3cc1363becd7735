"""Softmaxes that are written by a logarithm of sums: the exponentials are divided by their sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer._program import Opcode, UnaryOp
from support.programs import compare, compare_with_traced, lowered

L, D = 6, 8
EVENTS = np.random.default_rng(3).normal(size=(2, L, D)).astype(np.float32)
softmax_of_two = keras.layers.Softmax(axis=(1, 2))


def _pairs(user: Any, item: tf.Tensor) -> tf.Tensor:
    events = user["events"]
    return tf.matmul(events * item[:, tf.newaxis], events, transpose_b=True)


def of_rows(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = tf.matmul(item, user["events"], transpose_b=True)
    weights = tf.exp(x - tf.reduce_logsumexp(x, -1, keepdims=True))
    return tf.reduce_sum(tf.matmul(weights, user["events"]) * item, -1)


def of_two_axes(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = _pairs(user, item)
    return tf.reduce_max(tf.exp(x - tf.reduce_logsumexp(x, [1, 2], keepdims=True)), [1, 2])


def of_the_middle_axis(user: Any, item: tf.Tensor) -> tf.Tensor:
    x = _pairs(user, item)
    weights = tf.exp(x - tf.reduce_logsumexp(x, 1, keepdims=True))
    return tf.reduce_max(tf.matmul(weights, user["events"]), [1, 2])


def by_keras(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(softmax_of_two(_pairs(user, item)), [1, 2])


@pytest.mark.parametrize("score", [of_rows, of_two_axes, of_the_middle_axis, by_keras])
def test_exponentials_are_computed_once(score: Callable[..., tf.Tensor]) -> None:
    unary = [e.function for e in lowered(score, events=EVENTS)[1].instructions if e.opcode == Opcode.UNARY]
    assert unary.count(UnaryOp.EXP) == 1
    assert UnaryOp.LOG not in unary
    compare(score, events=EVENTS)
    compare_with_traced(score, events=EVENTS[0])


def test_what_may_overflow_stays_as_it_is() -> None:
    """exp(100) is infinite, exp(100 - log(exp(100))) is not."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        x = 0.1 * tf.matmul(item, user["events"], transpose_b=True) + user["shift"]
        shift = tf.reduce_max(user["events"])
        total = tf.reduce_sum(tf.exp(x - shift), -1, keepdims=True)
        return tf.reduce_max(tf.exp(x - (tf.math.log(total) + shift)), -1)

    program = lowered(score, events=EVENTS, shift=np.zeros(2, np.float32))[1]
    assert UnaryOp.LOG in [e.function for e in program.instructions if e.opcode == Opcode.UNARY]
    compare(score, events=EVENTS, shift=np.zeros(2, np.float32))


def test_sums_without_a_logarithm_are_no_softmax() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        x = tf.tanh(tf.matmul(item, user["events"], transpose_b=True))
        largest = tf.reduce_max(x, -1, keepdims=True)
        total = tf.reduce_sum(tf.exp(x - largest), -1, keepdims=True)
        return tf.reduce_max(tf.exp(x - (total + largest)), -1)

    compare(score, events=EVENTS)
    compare_with_traced(score, events=EVENTS[0])


def test_infinite_logits_are_as_in_tensorflow() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        x = tf.where(user["mask"], tf.matmul(item, user["events"], transpose_b=True), user["other"])
        return tf.reduce_sum(tf.exp(x - tf.reduce_logsumexp(x, -1, keepdims=True)) * tf.range(1.0, L + 1), -1)

    mask = np.array([[1, 1, 0, 1, 0, 1], [1, 1, 1, 1, 0, 0]], bool)
    other = np.array([-np.inf, -1e9], np.float32)
    compare(score, events=EVENTS, mask=mask, other=other)
