"""Sums of the user's and the item's integers that are beyond their type begin at its other end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.programs import compare_with_traced

D = 8
# Times such factors, numbers are all over the type, as in hashes.
FACTOR, OTHER = 6_364_136_223_846_793_005, 1_442_695_040_888_963_407
USERS = np.array([3, 11, 2_000_000_011, 2**40 + 9], np.int64)


def _stored(item: tf.Tensor) -> tf.Tensor:
    """Integers [items, 1] as item state has them: three parts of 22 bits."""
    low, middle, high = (tf.cast(part, tf.int64) for part in tf.split(tf.round(9 * item[:, :3]), 3, axis=1))
    return low + (middle + high * 2**22) * 2**22


def _in(dtype: tf.DType, x: tf.Tensor) -> tf.Tensor:
    """A number all over the type, of which the lowest bits count."""
    return tf.bitwise.bitwise_and(tf.cast(x * FACTOR, dtype), tf.constant(dtype.max, dtype))


# Of the item's [items, 1] and the user's [4].
OF_NUMBERS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "a bucket of a hash": lambda x, y: (x * FACTOR + y * OTHER) % 1009,
    "a bucket of a hash of three": lambda x, y: (x * FACTOR + y * OTHER - x // 9) % 1009,
    "a bucket of a difference": lambda x, y: (y * OTHER - x * FACTOR) % 1009,
    "a bucket of hashed ids": lambda x, y: (_in(tf.int64, x) + _in(tf.int64, y)) % 1009,
    "a bucket of 32 bits": lambda x, y: (_in(tf.int32, x) + _in(tf.int32, y)) % 1009,
    "a sum of 32 bits": lambda x, y: _in(tf.int32, x) + _in(tf.int32, y),
    "a sum without a sign": lambda x, y: _in(tf.uint32, x) + _in(tf.uint32, y),
    "a difference without a sign": lambda x, y: _in(tf.uint32, x) - _in(tf.uint32, y),
    "a sum that is below 0": lambda x, y: _in(tf.int32, x) + _in(tf.int32, y) < 0,
    "a sum of 64 bits": lambda x, y: x * FACTOR + y * OTHER,
    "a difference of 64 bits": lambda x, y: x * FACTOR - y * OTHER,
}


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_what_is_beyond_a_type(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        found = OF_NUMBERS[name](_stored(item), user["numbers"])
        scale = 2.0 ** (1 - 8 * found.dtype.size) if found.dtype in (tf.int32, tf.uint32, tf.int64) else 1.0
        scale = 1e-3 if "bucket" in name else scale
        return tf.linalg.matvec(tf.cast(found, tf.float32) * scale, [1.0, 0.3, 0.1, 0.03]) + item[:, 3]

    compare_with_traced(score, numbers=USERS)
