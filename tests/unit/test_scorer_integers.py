"""Integers of user and item beyond 2^24, where floats lack some: compared, subtracted, divided, stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer._lowering import NotLowerableError
from support.programs import compare, lowered, weighted

D = 8
RANDOM = np.random.default_rng(4)
TASTE = RANDOM.normal(size=(2, D)).astype(np.float32)
# Beyond 2^24, and one that an item has.
NUMBERS = np.array([[3, 2**31 + 1], [2**31, 2**40 + 5]])
TABLE = RANDOM.normal(size=(9, D)).astype(np.float32)


def _stored(item: tf.Tensor) -> tf.Tensor:
    """Integers as item state has them: three parts of 22 bits."""
    low, middle, high = (tf.cast(part, tf.int64) for part in tf.split(tf.round(item[:, :3]), 3, axis=1))
    return (low + (middle + high * 2**22) * 2**22)[:, 0]


@pytest.mark.parametrize("relation", [tf.equal, tf.not_equal, tf.less, tf.less_equal, tf.greater])
def test_integers_of_any_size_are_compared(relation: Callable[..., tf.Tensor]) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        known = relation(user["numbers"], _stored(item)[:, tf.newaxis])
        return weighted(tf.cast(known, tf.float32)) + item[:, 3]

    compare(score, numbers=np.concatenate([NUMBERS, [[0, 1], [2**22, -1]]], axis=1))


def test_a_difference_of_large_integers_is_a_float() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return tf.cast(user["numbers"][0] - _stored(item), tf.float32) / 3600.0

    compare(score, numbers=NUMBERS)


OF_NUMBERS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "days since": lambda x, y: (x - y) // 86_400,
    "days until": lambda x, y: (y - x) // 86_400,
    "weeks, clipped": lambda x, y: tf.clip_by_value((x - y) // 604_800, -3, 1000),
    "between two": lambda x, y: tf.maximum(tf.minimum(y - x, 10), tf.constant(-10, tf.int64)),
    "a bucket of a sum": lambda x, y: (x + y) % 97,
    "a bucket of a difference": lambda x, y: (y - x) % 97,
    "half a sum": lambda x, y: (x + y) // 2,
    "hours apart": lambda x, y: (x // 3600 - y // 3600) % 24,
    "the same hour": lambda x, y: tf.cast(x // 3600 % 24 >= y // 3600 % 24, tf.int64) + 1,
    "a hash of three": lambda x, y: (y * 7 + x * 3 + 11) % 97,
    "a hash with a difference": lambda x, y: (5 - y + x * 3 - y // 9) % 97,
    "hours that differ": lambda x, y: tf.cast((x - y) % 24 < (y + 5) % 24, tf.int64),
    "a run of ones": lambda x, y: tf.reduce_sum(
        tf.math.cumprod(tf.cast(tf.stack([y > 7, y > x, y > 90], axis=1), tf.int32), axis=1), 1
    ),
    "seconds from thousandths": lambda x, y: tf.clip_by_value(1000 * (x - y) + x % 1000, -(10**6), 10**6),
    "hours around the clock": lambda x, y: tf.minimum(tf.abs(x - y), 24 - tf.abs(x - y)),
    "a difference of remainders": lambda x, y: (y * 7 + 3) % 24 - (x - y) % 24,
    "a remainder less than a large one": lambda x, y: tf.cast((x - y) % 24 < y, tf.int64),
    "a product of remainders": lambda x, y: (y % 60) * ((x - y) % 24) + y // 1000 % 9,
    "the square of a clipped difference": lambda x, y: tf.square(tf.clip_by_value(x - y, -9, 9)),
    "the larger of two": lambda x, y: tf.maximum(x - y, 2 * y - x),
    "within a week": lambda x, y: tf.cast(tf.abs(x - y) < 604_800, tf.int64),
    "another than a small one": lambda x, y: tf.cast(tf.not_equal(x - y, 7), tf.int64),
    "the least distance": lambda x, y: tf.reduce_min(tf.abs(tf.stack([x - y, y - 5], axis=1)), 1),
    "a cell of a table": lambda x, y: tf.gather(
        tf.constant(np.tile(TABLE[:, 0], 30)), tf.clip_by_value(7 * (y - x) + y % 7, 0, 99)
    ),
    "a row of a table": lambda x, y: tf.gather(tf.constant(TABLE[:, 0]), tf.clip_by_value(y // 7 - x, 0, 8)),
    "a number of the user's": lambda x, y: tf.gather(
        tf.repeat(tf.sin(tf.cast(x, tf.float32) + tf.range(9.0))[tf.newaxis], y.shape[0], axis=0),
        (y // 7 % 9)[:, tf.newaxis],
        batch_dims=1,
    )[:, 0],
}


# As float64, which Python's division of integers is.
AS_DOUBLES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "days": lambda x, y: (x - y) / 86_400,
    "a decay": lambda x, y: tf.exp(-tf.abs(tf.cast(x - y, tf.float64) / 1e9)),
    "its logarithm": lambda x, y: tf.math.log1p(tf.cast(tf.abs(x - y), tf.float64) / 3600.0),
    "a share": lambda x, y: tf.maximum(x - y, 1) / tf.maximum(x, 1000),
}


@pytest.mark.parametrize("name", AS_DOUBLES)
def test_quotients_of_large_integers(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        found = AS_DOUBLES[name](user["numbers"][0], _stored(item))
        return tf.cast(found, tf.float32) * (1.0 + item[:, 3]) + tf.reduce_sum(item * user["taste"], -1)

    compare(score, max_table_width=64, numbers=np.array([[3], [1_760_000_123]]), taste=TASTE)


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_arithmetic_of_large_integers(name: str) -> None:
    """What is computed of the item alone is stored."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        found = OF_NUMBERS[name](user["numbers"][0], _stored(item))
        return tf.cast(found, tf.float32) * (1.0 + item[:, 3]) + tf.reduce_sum(item * user["taste"], -1)

    numbers = np.array([[3], [1_760_000_123]])
    compare(score, max_table_width=64, numbers=numbers, taste=TASTE)


# Of [items, numbers] and the user's [numbers], of bool.
COUNTS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "of the item's": lambda known, mine: tf.reduce_sum(tf.cast(known, tf.int32), 1),
    "count_nonzero": lambda known, mine: tf.math.count_nonzero(known, axis=1),
    "tenths": lambda known, mine: tf.reduce_sum(tf.cast(known, tf.int32), 1) * 10 // 3,
    "of the user's": lambda known, mine: tf.reduce_sum(tf.cast(mine, tf.int32)),
    "of both": lambda known, mine: tf.reduce_sum(tf.cast(known & mine, tf.int64), 1),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_as_floats(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        known = user["numbers"] > _stored(item)[:, tf.newaxis]
        count = COUNTS[name](known, user["numbers"] > 100)
        return tf.cast(count, tf.float32) * (1.0 + item[:, 3]) + tf.reduce_sum(item * user["taste"], -1)

    compare(score, numbers=np.array([[3, 2**31, 0], [2**40, 2, 7]]), taste=TASTE)


def test_an_item_that_is_quantized_finds_its_code() -> None:
    """The nearest row of a table, by an index that counts from the end below 0, as Keras has it."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        distances = tf.reduce_sum(tf.square(item[:, tf.newaxis] - TABLE), axis=-1)
        code = keras.ops.take(TABLE, keras.ops.argmin(distances, axis=-1), axis=0)
        return tf.reduce_sum(code * user["taste"], -1) + tf.reduce_min(distances, axis=-1)

    compare(score, taste=TASTE)


@pytest.mark.parametrize("dtype", [tf.float32, tf.int32])
def test_hashes_are_compared_by_their_bits(dtype: tf.DType) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        differ = tf.bitwise.bitwise_xor(user["numbers"], _stored(item)[:, tf.newaxis] * [7, -13])
        apart = tf.cast(tf.raw_ops.PopulationCount(x=differ), dtype)
        return tf.reduce_sum(item * user["taste"], -1) * tf.cast(tf.reduce_sum(apart, -1), tf.float32)

    compare(score, max_table_width=256, numbers=NUMBERS, taste=TASTE)


def test_a_hash_of_an_item_is_stored() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        buckets = tf.strings.to_hash_bucket_fast(tf.strings.as_string(_stored(item)), 9)
        return tf.reduce_sum(tf.gather(TABLE, buckets) * user["taste"], -1)

    compare(score, max_table_width=64, taste=TASTE)


def table_of(keys: Any, values: Any, default: Any) -> Any:
    """A lookup table with these contents."""
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), default)


@pytest.mark.parametrize("of", ["user", "item"])
def test_a_lookup_table_of_integers_becomes_constants(of: str) -> None:
    """One key is nobody's, one that a user or item has is not there; what is found is of several types."""
    keys = tf.constant([10**12, 3, 0, 2**31, 1, 2], tf.int64)
    weights = table_of(keys, tf.range(6.0) - 2.5, 0.25)
    codes = table_of(keys, tf.range(6, dtype=tf.int64), tf.constant(-1, tf.int64))
    layer = tf.function(keras.layers.IntegerLookup(vocabulary=[3, 1, 2**31]))

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        number = tf.abs(_stored(item)) % 5 if of == "item" else user["numbers"][:1]
        row = tf.gather(TABLE, codes.lookup(number) + 1 + layer(number))
        found = tf.reduce_sum(row * item * user["taste"], -1) * weights.lookup(number)
        return found * tf.cast(codes.size(), tf.float32)

    compare(score, max_table_width=64, numbers=NUMBERS, taste=TASTE)


def test_tables_that_were_filled_by_hand_become_constants() -> None:
    """A value may be a vector; a dense table lists its free places too."""
    keys = tf.constant([4, 0, 2], tf.int64)
    rows = tf.lookup.experimental.MutableHashTable(tf.int64, tf.float32, tf.zeros([8]))
    rows.insert(keys, tf.constant(TABLE[:3]))
    dense = tf.lookup.experimental.DenseHashTable(tf.int64, tf.int64, 5, -1, -2)
    dense.insert(keys, tf.constant([3, 1, 2], tf.int64))

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        number = tf.abs(_stored(item)) % 5
        row = rows.lookup(number) + tf.gather(TABLE, dense.lookup(number))
        return tf.reduce_sum(row * item * user["taste"], -1)

    compare(score, max_table_width=64, taste=TASTE)


def test_other_arithmetic_of_large_integers_is_refused() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.math.floormod(user["numbers"][0] * _stored(item), 7), tf.float32)

    with pytest.raises(NotLowerableError, match="integers that may be beyond 2\\^24"):
        lowered(score, numbers=NUMBERS)
