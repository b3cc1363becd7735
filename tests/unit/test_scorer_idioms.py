"""What ranking code does besides products: the whole scorer is a program, with TensorFlow's scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from nann.export.scorer import freeze_scorer, split_function
from support.native_scores import TILE_ROWS
from support.programs import Score, compare, weighted
from support.splitting import FunctionModel

L, D = 6, 8
RANDOM = np.random.default_rng(4)
EVENTS = RANDOM.normal(size=(2, L, D)).astype(np.float32)
TABLE = RANDOM.normal(size=(9, D)).astype(np.float32)
PAIRS = np.triu_indices(L, 1)
KERNEL = (RANDOM.normal(size=(3, 3, 1, 4)) * 0.3).astype(np.float32)
LOWER = np.tril(RANDOM.normal(size=(D, D)) * 0.2 + np.eye(D)).astype(np.float32)


def pairs(user: Any, item: tf.Tensor) -> tf.Tensor:
    """[n, L, D]."""
    return user["events"][tf.newaxis] * item[:, tf.newaxis]


def numbered(*places: tf.Tensor) -> tf.Tensor:
    """Places [n, ...] along some axes behind the number of their row, as `tf.gather_nd` wants them."""
    row = tf.reshape(tf.range(TILE_ROWS), [-1] + [1] * (places[0].shape.rank - 1))
    return tf.stack([tf.broadcast_to(row, places[0].shape), *places], axis=-1)


def layers_of_one_number(x: tf.Tensor) -> tf.Tensor:
    """A norm of as many groups as channels: [n, L, D, 1]."""
    mean = tf.reduce_mean(x, axis=[1, 3], keepdims=True)
    return (x - mean) * tf.math.rsqrt(tf.reduce_mean(tf.square(x - mean), axis=[1, 3], keepdims=True) + 0.1)


def attended(x: tf.Tensor) -> tf.Tensor:
    """Attention of the rows of [..., L, d] over themselves."""
    return tf.nn.softmax(tf.matmul(x, 2 * x, transpose_b=True)) @ x


def with_heads_on_batch(x: tf.Tensor) -> tf.Tensor:
    """Attention of two heads, one behind the other on the first axis."""
    return tf.concat(tf.split(attended(tf.concat(tf.split(x, 2, axis=2), axis=0)), 2, axis=0), axis=2)


def normed(x: tf.Tensor) -> tf.Tensor:
    """Each row by its own mean and variance."""
    mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 0.1)


def chained(x: tf.Tensor) -> tf.Tensor:
    """Each column needs the one before: [..., D] to [...]."""
    result = x[..., 0]
    for column in range(1, x.shape[-1]):
        result = x[..., column] - tf.maximum(result, x[..., 0]) * tf.exp(-tf.abs(result - x[..., 0]))
    return result


def known(x: tf.Tensor, *shape: int) -> tf.Tensor:
    """What a trace does not know the shape of."""
    return tf.ensure_shape(x, [TILE_ROWS, *shape])


OF_PAIRS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    # Moves.
    "reverse": lambda x: tf.reverse(x, [1, 2]),
    "every second": lambda x: x[:, ::2],
    "every third from the second": lambda x: x[:, :, 1::3],
    "backwards by two": lambda x: x[:, ::-2],
    "roll": lambda x: tf.roll(x, [1, -3], [1, 2]),
    "pad": lambda x: tf.pad(x, [[0, 0], [2, 1], [0, 1]], constant_values=0.5),
    "pad two axes in turn": lambda x: tf.pad(
        tf.nn.relu(tf.pad(tf.pad(x, [[0, 0], [0, 0], [1, 0]]), [[0, 0], [1, 0], [0, 0]]) - 0.5)
        @ np.eye(D + 1, D),
        [[0, 0], [0, 1], [1, 1]],
    ),
    "mirror": lambda x: tf.pad(x, [[0, 0], [2, 1], [0, 0]], "REFLECT"),
    "tile": lambda x: tf.tile(x, [1, 2, 3]),
    "triangle": lambda x: tf.linalg.band_part(x, 1, 2),
    "diagonal": lambda x: tf.linalg.diag_part(x[:, :, :L]),
    "another diagonal": lambda x: tf.linalg.set_diag(x[:, :, :L], x[:, 0, :L]),
    "places in any order": lambda x: tf.gather(x, [5, 0, 0, 3, 1, 2, 4, 5, 0, 2], axis=1),
    # Numbers that take each other's place.
    "a chain of columns": lambda x: chained(x[:, 0])[:, tf.newaxis],
    "a chain of rows": lambda x: chained(tf.transpose(x, [0, 2, 1])),
    "a softmax over events": lambda x: tf.nn.softmax(x[:, :, :1] * 2.0 - 1.0, axis=1) * x,
    # Items that are not on the first axis.
    "heads on the batch axis": with_heads_on_batch,
    "heads before the batch": lambda x: tf.concat(
        tf.unstack(attended(tf.stack(tf.split(x, 2, axis=2))), axis=0), axis=-1
    ),
    "heads on the batch axis, above no rows": lambda x: tf.concat(
        [with_heads_on_batch(x), tf.reshape(x[:, :0], [TILE_ROWS, 0, D])], axis=1
    ),
    "rows of all items": lambda x: tf.reshape(normed(tf.reshape(x, [-1, D]) @ LOWER), [-1, L, D]),
    "experts on the first axis": lambda x: tf.reduce_sum(
        tf.stack([x[:, 0] @ LOWER, tf.nn.relu(x[:, 1]), x[:, 2]], 0)
        * tf.transpose(tf.nn.softmax(x[:, 0, :3]))[:, :, tf.newaxis],
        axis=0,
    )[:, tf.newaxis],
    "a matrix of each expert": lambda x: tf.transpose(
        tf.transpose(x[:, :3], [1, 0, 2]) @ tf.constant(np.stack([LOWER, 2 * LOWER, -LOWER])), [1, 0, 2]
    ),
    "a matrix repeated for each item": lambda x: x @ tf.tile(LOWER[np.newaxis], [tf.shape(x)[0], 1, 1]),
    "rows repeated for each item": lambda x: tf.matmul(
        tf.broadcast_to(LOWER[:3], [TILE_ROWS, 3, D]), x, transpose_b=True
    ),
    # Functions that differ from row to row, and products with a column.
    "slopes of each row": lambda x: tf.where(
        x > 0, x, x * tf.constant(np.linspace(0, 1, L * D, dtype=np.float32).reshape(L, D))
    ),
    "a product with a column": lambda x: x @ tf.transpose(x[:, 1:2], [0, 2, 1]),
    "a transposed product with a column": lambda x: tf.matmul(x, x[:, :, 3:4], transpose_a=True),
    "cross entropy": lambda x: tf.nn.softmax_cross_entropy_with_logits(tf.nn.relu(x), x)[..., tf.newaxis],
    "cross entropy of a class": lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
        tf.cast(tf.clip_by_value(x[:, :, 0] + 3.0, 0, D - 1), tf.int32), x
    )[..., tf.newaxis],
    # What looks at values.
    "numbers that are checked": lambda x: tf.debugging.check_numerics(x, "not finite") * 2.0,
    # Along an axis.
    "cumsum": lambda x: tf.cumsum(x, axis=1, exclusive=True),
    "cumsum from the end": lambda x: tf.cumsum(x, axis=2, reverse=True),
    "cumprod": lambda x: tf.math.cumprod(x, axis=2),
    "cumprod from the end": lambda x: tf.math.cumprod(x, axis=1, exclusive=True, reverse=True),
    "cumulative log-sum": lambda x: tf.math.cumulative_logsumexp(3 * x, axis=1),
    "the same from the end": lambda x: tf.math.cumulative_logsumexp(x, axis=2, reverse=True),
    "convolution along rows": lambda x: tf.nn.conv2d(x[..., tf.newaxis], KERNEL[:, :1], 1, "SAME")[..., 1],
    "convolution of an image": lambda x: tf.nn.conv2d(x[..., tf.newaxis], KERNEL, 1, "SAME")[..., 0],
    "convolution in strides": lambda x: tf.nn.conv2d(x[..., tf.newaxis], KERNEL, (2, 3), "SAME")[..., 2],
    "convolution with gaps": lambda x: tf.nn.conv2d(
        tf.tile(x, [1, 1, 2])[..., tf.newaxis], KERNEL, 1, "VALID", dilations=(1, 2)
    )[..., 0],
    "convolution of patches": lambda x: tf.nn.conv2d(x[..., tf.newaxis], KERNEL[:, :2], (3, 2), "VALID")[
        ..., 0
    ],
    "means of an image": lambda x: tf.reduce_mean(tf.reshape(x, [TILE_ROWS, 2, 3, D]), axis=2)[:, ::-1],
    "means, as one row": lambda x: tf.reshape(
        tf.reduce_max(tf.reshape(x, [TILE_ROWS, 2, 3, D]), axis=2), [TILE_ROWS, 1, 2 * D]
    ),
    "transposed convolution": lambda x: tf.nn.conv1d_transpose(
        x, np.reshape(np.tile(LOWER, (1, 3)), [3, D, D]), [TILE_ROWS, 2 * L, D], strides=2
    ),
    "product": lambda x: tf.reduce_prod(1 + 0.1 * x, axis=[1, 2]),
    "segments": lambda x: tf.math.unsorted_segment_sum(tf.transpose(x), np.arange(D) % 3, 4)[2:],
    "largest of segments": lambda x: tf.transpose(
        tf.math.unsorted_segment_max(tf.transpose(x, [1, 0, 2]), [0, 2, 1, 1, 0, 2], 3), [1, 0, 2]
    ),
    # Choices.
    "sort": lambda x: tf.sort(x, axis=1),
    "top k": lambda x: tf.math.top_k(x, 3)[0],
    "sort of many": lambda x: tf.sort(tf.reshape(x, [TILE_ROWS, L * D])[:, ::2], axis=1)[:, tf.newaxis],
    "places of many": lambda x: ops.cast(
        ops.argsort(tf.round(2 * tf.reshape(x, [TILE_ROWS, L * D])[:, :20])), "float32"
    )[:, tf.newaxis],
    "a bias of each row": lambda x: tf.nn.bias_add(x[..., tf.newaxis], np.arange(L) * 0.1, "NC..")[..., 0],
    "median": lambda x: keras.ops.median(x, axis=-1),
    "nearest events": lambda x: tf.gather(x, tf.math.top_k(tf.reduce_sum(x, -1), 3)[1], batch_dims=1),
    "take along axis": lambda x: ops.take_along_axis(x, ops.argsort(x[:, :, :1], axis=1)[:, :2], axis=1),
    "take along columns": lambda x: ops.take_along_axis(x, ops.argmin(x, -1, keepdims=True), axis=-1),
    "bilinear pairs": lambda x: (tf.gather(x, PAIRS[0], axis=1) @ LOWER) * tf.gather(x, PAIRS[1], axis=1),
    "rows of one number": lambda x: layers_of_one_number(x[..., tf.newaxis])[..., 0],
    "argmax": lambda x: ops.one_hot(ops.argmax(x, axis=1), L) * 2.0,
    "buckets": lambda x: tf.gather(TABLE, tf.raw_ops.Bucketize(input=x, boundaries=[-1.0, 0.0, 0.3])),
    "an event by gather_nd": lambda x: tf.gather_nd(x, numbered(tf.argmax(x[:, :, 0], 1, tf.int32)))[:, None],
    "numbers by gather_nd": lambda x: tf.gather_nd(
        x, numbered(tf.math.top_k(x[:, :, 0], 2)[1], tf.math.top_k(x[:, 0, :L], 2)[1])
    )[:, None],
    "pairs by gather_nd": lambda x: tf.gather_nd(
        tf.transpose(x, [1, 2, 0]), np.stack(np.triu_indices(L, 1), axis=1)
    ),
    "reversed up to a length": lambda x: tf.reverse_sequence(x, tf.fill([TILE_ROWS], 4), seq_axis=1),
    "experts by scatter_nd": lambda x: (
        tf.scatter_nd(
            numbered(tf.math.top_k(x[:, 0], 2)[1]),
            tf.nn.softmax(tf.math.top_k(x[:, 0], 2)[0]),
            [TILE_ROWS, D],
        )[:, None]
        * x
    ),
    "rows by scatter_nd": lambda x: tf.scatter_nd(
        numbered(tf.argsort(x[:, :, 0])[:, :3] // 2), x[:, :3], [TILE_ROWS, 3, D]
    ),
    "rows added": lambda x: tf.tensor_scatter_nd_add(
        x, numbered(tf.argmax(x[:, :, 0], 1, tf.int32)), x[:, 0]
    ),
    "places updated": lambda x: tf.tensor_scatter_nd_update(
        x[:, 0], numbered(tf.argsort(x[:, 0])[:, :4] // 2), x[:, 1, :4]
    )[:, None],
    "a triangle by a mask": lambda x: known(
        tf.boolean_mask(x[:, :, :L], np.tri(L, k=-1) > 0, axis=1), L * (L - 1) // 2
    ),
    "a triangle by a mask of all pairs": lambda x: tf.reshape(
        tf.boolean_mask(x[:, :, :L], tf.ones_like(x[:, :, :L]) * np.tri(L, k=-1, dtype=np.float32) > 0),
        [TILE_ROWS, 1, L * (L - 1) // 2],
    ),
    "means of segments": lambda x: known(
        tf.transpose(tf.math.segment_mean(tf.transpose(x, [1, 0, 2]), [0, 0, 1, 1, 1, 2]), [1, 0, 2]), 3, D
    ),
    "a histogram": lambda x: known(
        tf.math.bincount(
            tf.cast(2 * tf.abs(x[:, 0]), tf.int32), minlength=5, maxlength=5, axis=-1, dtype=tf.float32
        ),
        5,
    ),
    "a weighted histogram": lambda x: known(
        tf.math.bincount(
            tf.cast(2 * tf.abs(x[:, 0]), tf.int32), weights=x[:, 1], minlength=5, maxlength=5, axis=-1
        ),
        5,
    ),
    "categories": lambda x: known(
        keras.layers.CategoryEncoding(8, output_mode="multi_hot")(
            tf.cast(tf.clip_by_value(4 + x[:, 0, :3], 0, 7), tf.int32)
        ),
        8,
    ),
    "a number of the row's": lambda x: tf.gather(x[:, 0], tf.argmax(x[:, 1], axis=-1), batch_dims=1)[:, None],
    "numbers of rows": lambda x: tf.gather(x, tf.argmax(x, axis=-1), batch_dims=2)[:, :, None],
    "ranks": lambda x: tf.cast(tf.argsort(tf.argsort(x, axis=-1), axis=-1), tf.float32),
    "knots": lambda x: tf.gather(
        TABLE[:, 0], tf.searchsorted(np.linspace(-1, 1, 8, dtype=np.float32), x[:, 2, 3])
    )[:, None],
    "knots of each row": lambda x: tf.cast(
        tf.searchsorted(tf.sort(x[:, 0]), x[:, 1], side="right"), tf.float32
    ),
    "a leaf of a tree": lambda x: tf.gather(
        TABLE, tf.tensordot(tf.cast(x[:, :, :3] > 0, tf.int32), [4, 2, 1], 1)
    ),
    "counts so far": lambda x: tf.cast(tf.cumsum(tf.cast(x > 0, tf.int32), axis=1), tf.float32),
    "rows by a clipped number": lambda x: tf.gather(TABLE, tf.cast(tf.clip_by_value(x + 4, 0, 8), tf.int32)),
    "a count of matches": lambda x: ops.cast(ops.sum(ops.cast(x > 0.2, "int32"), 1) // 2 % 3, "float32"),
    # Layers.
    "a layer of one number": lambda x: tf.nn.relu(
        tf.reshape(tf.reshape(x[:, :, :1], [-1, 1]) @ TABLE[:1, :5] + TABLE[1, :5], [-1, L, 5])
    ),
    "a layer over the events": lambda x: (
        x[:, :4]
        + tf.transpose(tf.nn.gelu(tf.transpose(x, [0, 2, 1]) @ TABLE[:6, :4] + TABLE[7, :4]), [0, 2, 1])
    ),
    # Windows.
    "convolution": lambda x: tf.nn.conv1d(x, TABLE[:6].reshape(3, D, 2), 2, "SAME"),
    "convolution of groups": lambda x: tf.nn.conv1d(x, TABLE[:6, :4].reshape(3, 4, 2), 1, "SAME"),
    "dilated convolution of groups": lambda x: keras.ops.conv(
        x, TABLE[:6, :4].reshape(3, 4, 2), padding="same", dilation_rate=2
    ),
    "dilated convolution": lambda x: tf.nn.conv1d(x, TABLE[:6].reshape(3, D, 2), 1, "SAME", dilations=2),
    "depthwise convolution": lambda x: keras.ops.depthwise_conv(x, TABLE[:6].reshape(3, D, 2), 1, "same"),
    "largest of windows": lambda x: tf.nn.max_pool1d(x, 3, 2, "SAME"),
    "mean of windows": lambda x: tf.nn.avg_pool1d(x, 3, 2, "SAME"),
    # Linear systems.
    "triangular": lambda x: tf.linalg.triangular_solve(LOWER, tf.transpose(x, [0, 2, 1])),
    # Functions.
    "hyperbolic": lambda x: tf.sinh(x) + tf.cosh(x),
    "areas": lambda x: tf.asinh(x) + tf.acosh(1 + x * x) + tf.atanh(0.9 * tf.tanh(x)),
    "waves": lambda x: tf.sin(9 * x) + tf.cos(1e6 * tf.round(x)) + tf.tan(0.7 * tf.tanh(x)),
    "angles": lambda x: tf.atan(5 * x) + tf.asin(0.9 * tf.sin(x)) + tf.acos(0.9 * tf.cos(3 * x)),
    "directions": lambda x: tf.atan2(x[:, 1:, :4], x[:, :-1, 4:]),
    "directions on the axes": lambda x: tf.atan2(tf.nn.relu(x), tf.nn.relu(x[:, ::-1])),
    "powers": lambda x: tf.pow(x, 9.0) + tf.pow(1.5 + tf.nn.relu(x), -3.0) + tf.pow(0.1 * x, 2),
    "a power of each column": lambda x: tf.pow(
        tf.nn.relu(x) + 0.1, [0.0, 0.5, 1.0, 2.0, 3.0, 1.5, -1.0, 2.0]
    ),
    "whole powers of negative numbers": lambda x: tf.pow(x, [0.0, 1.0, 2.0, 3.0] * 2) + tf.pow(x, 0.0),
    "sparsemax": lambda x: keras.ops.sparsemax(x),
    "a mean with weights": lambda x: keras.ops.average(x, axis=1, weights=TABLE[0, :L])[:, tf.newaxis],
    "computed powers": lambda x: tf.pow(tf.nn.relu(x), tf.nn.relu(x[:, ::-1])) + tf.pow(tf.exp(x), x),
    "lengths": lambda x: tf.math.reduce_euclidean_norm(x, axis=[1], keepdims=True),
    "weights beside each column": lambda x: tf.exp(tf.einsum("nld,dk->nldk", 0.1 * x, TABLE[:8, :3])),
    "weights of each event": lambda x: tf.einsum("nld,lde->nle", x, np.tile(TABLE[:6, :, None], (1, 1, 3))),
    "rounded": lambda x: tf.round(4 * x) + tf.round(tf.floor(4 * x) / 2),
    "remainder": lambda x: tf.math.floormod(x, 0.7) + tf.math.floordiv(x, 0.3),
    "entropy": lambda x: tf.math.xlogy(tf.nn.relu(x), tf.nn.relu(x)) + tf.math.multiply_no_nan(x, x),
    "infinite": lambda x: tf.where(tf.math.is_inf(1 / tf.nn.relu(x)), x, 1.0),
}


@pytest.mark.parametrize("name", OF_PAIRS)
def test_pairs_of_events_and_item(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        found = OF_PAIRS[name](pairs(user, item))
        if found.shape[-1] == TILE_ROWS:  # The items are last.
            found = tf.transpose(found)
        return weighted(found)

    compare(score, events=EVENTS)


def associative(x: tf.Tensor) -> tf.Tensor:
    """The trace does not know the shape of what it finds."""
    return tf.ensure_shape(keras.ops.associative_scan(lambda a, b: a + 0.5 * b, x, axis=1), x.shape)


def scanned(x: tf.Tensor) -> tf.Tensor:
    """Nor that of the states."""
    states = keras.ops.scan(lambda h, e: (tf.tanh(h + e), h), x[:, 0], tf.transpose(x, [1, 0, 2]))[1]
    return tf.transpose(states, [1, 0, 2])


@pytest.mark.parametrize("scan", [associative, scanned])
def test_scans_of_keras(scan: Callable[[tf.Tensor], tf.Tensor]) -> None:
    compare(lambda user, item: weighted(scan(item[:, tf.newaxis] + user["events"])), events=EVENTS)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_places_that_a_length_of_the_user_decides(dtype: Any) -> None:
    """The last event that is there, and the events that are there in the opposite order."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        found, count = pairs(user, item), tf.repeat(user["length"], item.shape[0])
        last = tf.gather_nd(found, tf.stack([tf.range(item.shape[0], dtype=count.dtype), count - 1], axis=1))
        return weighted(tf.reverse_sequence(found, count, seq_axis=1)) + weighted(last)

    compare(score, events=EVENTS, length=np.array([[4], [1]], dtype))


def test_an_operand_of_open_shape_is_left_to_tensorflow() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        first = tf.boolean_mask(user["events"], user["events"][:, 0] > 0)[:1]
        return weighted((pairs(user, item) + first[:, tf.newaxis])[:, -1])

    function = freeze_scorer(FunctionModel(score, events=tf.TensorSpec([L, D])), tile_rows=TILE_ROWS).function
    assert split_function(function, max_table_width=0).report.flops_per_item


def test_codes_of_items_choose_numbers_of_the_user() -> None:
    """Product quantization: a row of numbers for each of the item's codes; an integer of 64 bits is one."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        code = tf.cast(tf.clip_by_value(tf.abs(item[:, 0]) * 3, 0, 5), tf.int64)
        stored = code + (tf.cast(0 * item[:, 1], tf.int64) + 0 * code * 2**22) * 2**22
        tables = tf.repeat(tf.transpose(user["events"])[tf.newaxis], item.shape[0], axis=0)
        codes = tf.stack([stored, 5 - code, code // 2], axis=1)
        return weighted(tf.gather(tables[:, :3], codes, batch_dims=2))

    compare(score, events=EVENTS)


def test_events_merged_before_a_layer_are_the_users() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        events = tf.repeat(user["events"][tf.newaxis], item.shape[0], axis=0)
        merged = tf.tensordot(tf.reshape(events, [-1, L // 2, 2 * D]), TABLE[:8].reshape(2 * D, 4), 1)
        return weighted(tf.concat([merged, item[:, tf.newaxis, :4]], axis=1))

    compare(score, events=EVENTS)


def test_equal_numbers_are_found_in_their_order() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        values, where = tf.math.top_k(tf.round(pairs(user, item)[:, 0]), 4)
        return weighted(values) + weighted(tf.cast(where, tf.float32))

    compare(score, events=EVENTS)


def test_a_mask_of_infinity_is_no_event_twice() -> None:
    """Fewer events than are looked for."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        logits = tf.where(tf.range(L) < 2, tf.reduce_sum(pairs(user, item), -1), -np.inf)
        return weighted(tf.cast(tf.math.top_k(logits, 4)[1], tf.float32))

    compare(score, events=EVENTS)


def cold(user: Any, item: tf.Tensor) -> tf.Tensor:
    """Another network for users without events."""
    is_cold = tf.reduce_sum(user["events"]) < 0
    return tf.cond(is_cold, lambda: weighted(item), lambda: weighted(tf.tanh(item * user["events"][0])))


def constant_branch(user: Any, item: tf.Tensor) -> tf.Tensor:
    taken = tf.cond(tf.constant(3) > 2, lambda: item * user["events"][0], lambda: tf.math.lgamma(item))
    return weighted(taken)


def one_of_three(user: Any, item: tf.Tensor) -> tf.Tensor:
    """With a loop in a branch."""
    which = tf.cast(user["events"][0, 0] > 0, tf.int32) * 7
    branches = [
        lambda: item * user["events"][1],
        lambda: item,
        lambda: tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, tf.tanh(x)), (0, item))[1],
    ]
    return weighted(tf.switch_case(which, branches))


@pytest.mark.parametrize("score", [cold, constant_branch, one_of_three])
def test_branches_are_taken_or_chosen(score: Score) -> None:
    compare(score, events=EVENTS)
