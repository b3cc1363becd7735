"""Masks by large numbers, of user and item both: the numbers that are not masked are not lost in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.programs import Score, compare, compare_with_traced

L, D = 6, 8
RANDOM = np.random.default_rng(7)
EVENTS = RANDOM.normal(size=(2, L, D)).astype(np.float32)
EVENTS[0, 4:] = 0
REVERSED = np.eye(L, dtype=np.float32)[::-1].copy()


def _logits(user: Any, item: tf.Tensor) -> tf.Tensor:
    return 3 * tf.matmul(item, user["events"], transpose_b=True)


def _present(user: Any, item: tf.Tensor) -> tf.Tensor:
    """[n, L]: 1 where an event may be seen by an item."""
    seen = tf.cast(tf.reduce_any(user["events"] != 0, -1), tf.float32)
    return seen * tf.cast(item[:, :1] > 0, tf.float32)


def _equal(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.equal(tf.round(item[:, :1]), tf.round(user["events"][:, 0])), tf.float32)


MASKED: dict[str, Score] = {
    "what is absent": lambda u, x: _logits(u, x) + (1.0 - _present(u, x)) * -1e9,
    "in small steps": lambda u, x: _logits(u, x) + (1.0 - _present(u, x)) * -1e4 + 0.3,
    "less what is absent": lambda u, x: _logits(u, x) - 1e9 * (1.0 - _present(u, x)),
    "what is present less one": lambda u, x: _logits(u, x) + (_present(u, x) - 1.0) / 1e-9,
    "scaled afterwards": lambda u, x: (_logits(u, x) + (1.0 - _present(u, x)) * -1e9) * 0.35,
    "scaled by the user": lambda u, x: (_logits(u, x) + (1.0 - _present(u, x)) * -1e9) / u["heat"],
    "of a size by the user": lambda u, x: _logits(u, x) + (1.0 - _present(u, x)) * (-1e9 * u["heat"]),
    "divided by the user in small steps": lambda u, x: (
        (_logits(u, x) + (1.0 - _present(u, x)) * -1e4) / u["heat"]
    ),
    "scaled twice": lambda u, x: (_logits(u, x) + tf.where(_present(u, x) > 0, 0.0, -1e4)) * 0.35 / u["heat"],
    "through a layer": lambda u, x: _logits(u, x) + tf.matmul((1.0 - _present(u, x)) * -1e9, REVERSED),
    "by a sum": lambda u, x: (
        _logits(u, x) + tf.reduce_sum(((1.0 - _present(u, x)) * -1e9)[:, :, tf.newaxis] * REVERSED, 1)
    ),
    "of another kind": lambda u, x: _logits(u, x) + (1.0 - _equal(u, x)) * -(2.0**32 - 1),
}


def _attended(user: Any, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.tanh(tf.matmul(tf.nn.softmax(logits), user["events"])), 1)


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_leaves_the_others_as_they_are(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return _attended(user, MASKED[name](user, item))

    heat = np.asarray([1.3, 0.7], np.float32)
    compare(score, events=EVENTS, heat=heat)
    compare_with_traced(score, events=EVENTS[0], heat=heat[0])


def test_a_mask_that_is_written_out() -> None:
    """TensorFlow's own optimizer takes it apart where the function that was traced is run as it is."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return _attended(user, _logits(user, item) + (1e9 * _present(user, item) - 1e9))

    compare(score, events=EVENTS)


# What a model does with logits that it masks for the user alone, by steps of 1e-3.
OF_NO_EVENTS: dict[str, Score] = {
    "a bias before": lambda u, x: _towards(x) + u["bias"] + u["mask"],
    "the item's after": lambda u, x: _towards(x) + u["mask"] + x[:, :L],
    "a scale": lambda u, x: (_towards(x) + u["mask"]) * 0.35,
    "a division": lambda u, x: (_towards(x) + u["mask"]) / u["heat"],
}


def _towards(item: tf.Tensor) -> tf.Tensor:
    return tf.matmul(item, tf.reshape(tf.linspace(-1.0, 1.0, D * L), [D, L]))


@pytest.mark.parametrize("name", OF_NO_EVENTS)
def test_a_user_without_events(name: str) -> None:
    """All logits are rounded to the steps of -1e4, and are all that is left."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        mask = (1.0 - tf.cast(user["present"], tf.float32)) * -1e4
        weights = tf.nn.softmax(OF_NO_EVENTS[name]({**user, "mask": mask}, item))
        return tf.linalg.matvec(weights, tf.linspace(-1.0, 1.0, L))

    bias = RANDOM.normal(size=L).astype(np.float32)
    state = {"present": np.zeros(L, bool), "bias": bias, "heat": np.asarray(1.3, np.float32)}
    compare_with_traced(score, **state)
    compare(score, **{name: np.stack([value, value]) for name, value in state.items()})
