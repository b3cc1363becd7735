"""Scorer programs of rank 3 and 4: what moves numbers costs no instruction where its reader can follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer._lower import lower
from nann.export.scorer._program import Opcode
from support.splitting import split

L, D, HEADS = 5, 8, 2
N = L + 1


def _instructions(score: Callable[[Any, tf.Tensor], tf.Tensor], **state: list[int]) -> list[str]:
    """What a tile runs, views of columns left out."""
    result = split(score, **state)
    assert result.ir is not None
    passive = (Opcode.TABLE, Opcode.SLICE)
    instructions = lower(result.ir).instructions
    return [each.opcode.name for each in instructions if each.shape.per_item and each.opcode not in passive]


def _weights(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32)


def _sequence(user: Any, item: tf.Tensor) -> tf.Tensor:
    """The user's events and the item, [n, N, D]."""
    events = tf.tile(user["events"][tf.newaxis], [item.shape[0], 1, 1])
    return tf.concat([events, item[:, tf.newaxis]], 1)


def _attention_by_einsum(x: tf.Tensor) -> tf.Tensor:
    query, key, value = (
        tf.reshape(tf.einsum("nac,cd->nad", x, _weights(D, D) * scale), [-1, N, HEADS, D // HEADS])
        for scale in (0.5, 0.7, 0.9)
    )
    weights = tf.nn.softmax(tf.einsum("nahd,nbhd->nhab", query, key))
    return tf.reshape(tf.einsum("nhab,nbhd->nahd", weights, value), [-1, N, D])


def _attention_by_transposes(x: tf.Tensor) -> tf.Tensor:
    query, key, value = (
        tf.transpose(
            tf.reshape(tf.einsum("nac,cd->nad", x, _weights(D, D) * scale), [-1, N, HEADS, D // HEADS]),
            [0, 2, 1, 3],
        )
        for scale in (0.5, 0.7, 0.9)
    )
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
    return tf.reshape(tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3]), [-1, N, D])


@pytest.mark.parametrize("attention", [_attention_by_einsum, _attention_by_transposes])
def test_heads_are_multiplied_where_they_are(attention: Callable[[tf.Tensor], tf.Tensor]) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        attended = tf.einsum("nac,cd->nad", attention(_sequence(user, item)), _weights(D, D))
        return tf.reduce_max(attended, [1, 2])

    instructions = _instructions(score, events=[L, D])
    assert instructions.count("PRODUCT") == 2
    assert not {"REARRANGE", "RESHAPE", "TRANSPOSE"} & set(instructions)


def test_the_mean_of_a_row_stays_beside_its_row() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        x = tf.tanh(_sequence(user, item) * tf.reduce_max(user["events"]))
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return tf.reduce_max((x - mean) * tf.math.rsqrt(variance + 0.1), [1, 2])

    assert not {"RESHAPE", "REARRANGE"} & set(_instructions(score, events=[L, D]))


def test_a_sum_over_events_is_one_instruction() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(tf.reduce_sum(tf.tanh(_sequence(user, item) * item[:, tf.newaxis]), 1), -1)

    assert _instructions(score, events=[L, D])[-2:] == ["REDUCE", "REDUCE"]
