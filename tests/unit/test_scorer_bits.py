"""Bits of integers, of which some are the user's and some the item's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from support.programs import compare_with_traced

# Of one bit, of several, of all, of none.
MASKS = np.array([1 << 5, 0b1011_0110, -1, 0], np.int64)
PLACES = np.array([0, 3, 40, 63, 70, -2], np.int64)


def _stored(item: tf.Tensor) -> tf.Tensor:
    """Integers [items, 1] as item state has them: three parts of 22 bits."""
    low, middle, high = (tf.cast(part, tf.int64) for part in tf.split(tf.round(9 * item[:, :3]), 3, axis=1))
    return low + (middle + high * 2**22) * 2**22


def _and(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_and(x, y)


def _as(dtype: tf.DType, function: Callable[..., tf.Tensor], x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    return function(tf.cast(x, dtype), tf.cast(y, dtype))


def _counted(x: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.PopulationCount(x=x)


# Of the item's [items, 1] and the user's [4].
OF_MASKS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "any": lambda x, y: tf.not_equal(_and(x, y), 0),
    "any, as it is written of positive ones": lambda x, y: _and(y, x) > 0,
    "none": lambda x, y: tf.equal(_and(x, y), 0),
    "all of the user's": lambda x, y: tf.equal(_and(x, y), y),
    "not all of the item's": lambda x, y: tf.not_equal(_and(x, y), x),
    "how many": lambda x, y: _counted(_and(x, y)),
    "how many differ": lambda x, y: _counted(tf.bitwise.bitwise_xor(x, y)),
    "any of 32": lambda x, y: _as(tf.int32, _and, x, y) > 0,
    "any of 32 without a sign": lambda x, y: _as(tf.uint32, _and, x, y) > 0,
    "of a byte": lambda x, y: _as(tf.uint8, _and, x, y),
    "of a byte and a number": lambda x, y: _and(x, tf.math.floormod(y, 256)),
    "of either": lambda x, y: tf.bitwise.bitwise_or(x % 256, y % 1024),
    "the lowest bits of a hash": lambda x, y: _and(tf.bitwise.bitwise_xor(x * 31, y * 17), 255),
    "the lowest bits of either": lambda x, y: _and(tf.bitwise.bitwise_or(x * 31, y * 17), 0b1011),
    "the lowest bits of a sum": lambda x, y: _and(x * 31 + y * 17, 255),
    "the lowest bits of a sum of 32": lambda x, y: _as(
        tf.int32, lambda a, b: _and(a * 31 - b * 17, 1023), x, y
    ),
    "a bit of where they differ": lambda x, y: _and(
        tf.bitwise.right_shift(tf.bitwise.bitwise_xor(x * 31, y * 17), 33), 1
    ),
    "a bit of where bytes differ": lambda x, y: _and(
        tf.bitwise.right_shift(tf.bitwise.bitwise_xor(x % 256, y % 256), 2), 1
    ),
    "two bits of a sum": lambda x, y: _and(tf.bitwise.right_shift(x % 256 - y % 1024, 2), 3),
    "of one of them": lambda x, y: tf.bitwise.bitwise_xor(x % 1024, y % 256),
}


@pytest.mark.parametrize("name", OF_MASKS)
def test_masks_of_user_and_item(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        found = tf.cast(OF_MASKS[name](_stored(item), user["masks"]), tf.float32)
        return tf.linalg.matvec(found, [1.0, 0.3, 0.1, 0.03]) + item[:, 3]

    compare_with_traced(score, masks=MASKS)


@pytest.mark.parametrize("of", ["item", "user"])
def test_a_bit_whose_place_the_other_says(of: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        mask, places = _stored(item), user["places"]
        if of == "user":
            mask, places = places * 12_345_678_901, mask % 64
        bits = tf.cast(_and(tf.bitwise.right_shift(mask, places), 1), tf.float32)
        return tf.linalg.matvec(bits, tf.linspace(0.5, 1.5, 6)) + item[:, 3]

    compare_with_traced(score, places=PLACES)
