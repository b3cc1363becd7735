"""AdamW that updates of an embedding table only the rows that a step has touched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf

from nann.training._trainable import values_of

Schedule = Literal["constant", "linear", "cosine"]

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8
# The share of the highest learning rate that a schedule ends with.
_LAST_SHARE = 0.01
# Parts of the names of variables that are not decayed: they have no scale of their own to lose.
_NOT_DECAYED = ("bias", "alpha", "gamma", "beta", "log_scale")


def learning_rate(kind: Schedule, highest: float, step: int, *, total: int, warm_up: int) -> float:
    """The learning rate of step number `step`, from 0: a linear rise, then the schedule."""
    if step < warm_up:
        return highest * (step + 1) / warm_up
    done = min(1.0, (step - warm_up) / max(1, total - warm_up))
    if kind == "constant":
        return highest
    falling = 1.0 - done if kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return highest * (_LAST_SHARE + (1.0 - _LAST_SHARE) * falling)


class RowwiseAdamW:
    """Adam with decoupled weight decay (arXiv 1711.05101), lazy for gradients of rows.

    A gradient that is `tf.IndexedSlices` changes the named rows, their moments and their decay, and nothing
    else: the cost of a step does not grow with the table. Other gradients change the whole variable.

    variables: those of Keras or TensorFlow.
    clip_norm: the largest norm of all gradients together; larger ones are scaled down. 0: no limit.
    """

    def __init__(self, variables: Sequence[Any], *, weight_decay: float, clip_norm: float) -> None:
        self._names = [getattr(each, "path", each.name) for each in variables]
        self._variables = values_of(variables)
        self._weight_decay = weight_decay
        self._clip_norm = clip_norm
        self._moments = [
            tuple(
                tf.Variable(tf.zeros_like(variable), trainable=False, name=kind)
                for kind in ("first", "second")
            )
            for variable in self._variables
        ]
        self._steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")

    def checkpointed(self) -> dict[str, tf.Variable]:
        """All state, for tf.train.Checkpoint."""
        state = {"steps": self._steps}
        for number, (first, second) in enumerate(self._moments):
            state |= {f"first {number}": first, f"second {number}": second}
        return state

    def apply(self, gradients: Sequence[Any], rate: tf.Tensor) -> None:
        """One step; `rate`: float32 [], the learning rate."""
        gradients = [each if each is None else _summed(each) for each in gradients]
        if self._clip_norm > 0:
            # The values of slices are clipped as they are: no gradient becomes dense.
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm)
        steps = tf.cast(self._steps.assign_add(1), tf.float32)
        scale = tf.sqrt(1.0 - _BETA_2**steps) / (1.0 - _BETA_1**steps)
        for number, gradient in enumerate(gradients):
            if gradient is None:
                continue
            decay = 0.0 if self._names[number].endswith(_NOT_DECAYED) else self._weight_decay
            update = _update_rows if isinstance(gradient, tf.IndexedSlices) else _update_all
            update(self._variables[number], self._moments[number], gradient, rate, scale, decay)


def _summed(gradient: Any) -> Any:
    """A gradient of rows with each row once."""
    if not isinstance(gradient, tf.IndexedSlices):
        return tf.convert_to_tensor(gradient)
    rows, places = tf.unique(tf.cast(gradient.indices, tf.int64))
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.shape(rows)[0])
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def _step(
    gradient: tf.Tensor, first: tf.Tensor, second: tf.Tensor, scale: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    first = _BETA_1 * first + (1.0 - _BETA_1) * gradient
    second = _BETA_2 * second + (1.0 - _BETA_2) * tf.square(gradient)
    return scale * first / (tf.sqrt(second) + _EPSILON), first, second


def _update_all(
    variable: tf.Variable,
    moments: tuple[tf.Variable, tf.Variable],
    gradient: tf.Tensor,
    rate: tf.Tensor,
    scale: tf.Tensor,
    decay: float,
) -> None:
    step, first, second = _step(gradient, moments[0], moments[1], scale)
    moments[0].assign(first)
    moments[1].assign(second)
    variable.assign_sub(rate * (step + decay * variable))


def _update_rows(
    variable: tf.Variable,
    moments: tuple[tf.Variable, tf.Variable],
    gradient: tf.IndexedSlices,
    rate: tf.Tensor,
    scale: tf.Tensor,
    decay: float,
) -> None:
    rows = gradient.indices
    old = [tf.gather(each, rows) for each in (variable, *moments)]
    step, first, second = _step(gradient.values, old[1], old[2], scale)
    for target, values in (
        (moments[0], first),
        (moments[1], second),
        (variable, old[0] - rate * (step + decay * old[0])),
    ):
        target.scatter_update(tf.IndexedSlices(values, rows))
