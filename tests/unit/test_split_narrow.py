"""What is the same along an axis is computed once, whatever the operation, and broadcast afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._narrow import narrowed
from nann.export.scorer._ops import (
    add,
    broadcast,
    cast,
    concat,
    dot,
    matmul,
    mul,
    reduce_,
    reshape,
    select,
    slice_,
    transpose,
    unary,
)
from nann.export.scorer._rewrite import rewrite
from support.splitting import item, operation, ops_of, user, value_of, weights

X = item(8)
ROW, KEYS, EVENTS = user(8, name="row"), user(8, 5, name="keys"), user(5, 8, name="events")
FLAGS = user(5, name="flags", dtype=tf.bool)
FLOATS, LENGTH = user(5, name="floats"), user(name="length", dtype=tf.int32)
W = weights(8, 4)
IDS = user(3, name="ids", dtype=tf.int32)
REPEATED = broadcast(EVENTS, (6, 5, 8))  # a user's events, once for each item


def _clipped(x: tf.Tensor, least: tf.Tensor, most: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.ClipByValue(t=x, clip_value_min=least, clip_value_max=most)


def _places(ordered: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.LowerBound(sorted_inputs=ordered, values=values)


def _in_blocks() -> Tensor:
    """Every second event: [6 * 2, 3, 8]."""
    return operation(tf.space_to_batch, REPEATED, block_shape=[2], paddings=[[0, 1]])


def _convolved(x: Tensor) -> Tensor:
    """Of rows, which are images one row high."""
    images = reshape(x, (x.shape[0], 1, *x.shape[1:]))
    kernel = weights(1, 2, 8, 4)
    found = operation(tf.nn.conv2d, images, kernel, strides=1, padding="SAME")
    return reshape(found, (x.shape[0], 3, 4))


def relu(x: Tensor) -> Tensor:
    return unary("Relu", x)


@dataclass(frozen=True)
class Case:
    """What becomes of a tensor.

    ops: of the result, inputs first, without constants; None: the tensor is left alone.
    """

    before: Callable[[], Tensor]
    ops: list[str] | None


CASES = {
    "a broadcast operand": Case(lambda: add(broadcast(ROW, (6, 8)), X), ["add"]),
    "broadcasts that give the shape": Case(
        lambda: mul(broadcast(ROW, (6, 8)), broadcast(user(1, 1), (6, 8))),
        ["mul", "broadcast"],
    ),
    "no broadcast": Case(lambda: add(ROW, X), None),
    "a constant that repeats": Case(lambda: mul(X, constant(np.full((6, 8), 3.0), np.float32)), ["mul"]),
    "a constant of NaNs, as sparsemax has it": Case(
        lambda: select(operation(tf.math.is_finite, X), X, constant(np.full((6, 8), np.nan), np.float32)),
        ["IsFinite", "SelectV2"],
    ),
    "windows with gaps": Case(
        lambda: operation(tf.batch_to_space, relu(_in_blocks()), block_shape=[2], crops=[[0, 1]]),
        None,
    ),
    "a convolution of the user with gaps": Case(
        lambda: operation(tf.batch_to_space, _convolved(_in_blocks()), block_shape=[2], crops=[[0, 1]]),
        ["reshape", "SpaceToBatchND", "reshape", "Conv2D", "reshape", "BatchToSpaceND", "broadcast"],
    ),
    "a constant that gives the shape": Case(
        lambda: add(ROW, constant(np.full((6, 8), 3.0), np.float32)),
        ["add", "broadcast"],
    ),
    "a function of a broadcast": Case(lambda: relu(broadcast(ROW, (6, 8))), ["Relu", "broadcast"]),
    "a product with a broadcast": Case(lambda: dot(broadcast(ROW, (6, 8)), W), ["dot", "broadcast"]),
    "a broadcast along the last axis": Case(lambda: dot(broadcast(item(1), (6, 8)), W), None),
    "a reshape of a broadcast": Case(
        lambda: reshape(broadcast(item(1, 8), (6, 3, 8)), (6, 1, 3, 8)),
        ["reshape", "broadcast"],
    ),
    "a reshape that mixes broadcast axes": Case(
        lambda: reshape(broadcast(item(1, 8), (6, 3, 8)), (18, 8)), None
    ),
    "a comparison of a broadcast": Case(
        lambda: operation(tf.math.greater, REPEATED, constant(0.5, np.float32)),
        ["Greater", "broadcast"],
    ),
    "where one of the operands is of the items": Case(
        lambda: select(broadcast(FLAGS, (6, 5)), item(5), broadcast(user(), (6, 5))),
        ["SelectV2"],
    ),
    "operands that TensorFlow does not broadcast": Case(
        lambda: operation(_clipped, item(5, 8), REPEATED, REPEATED), None
    ),
    "softmax of a broadcast": Case(lambda: unary("Softmax", REPEATED), ["reshape", "Softmax", "broadcast"]),
    "a sum of a broadcast": Case(lambda: reduce_(REPEATED, "Sum", [1]), ["reshape", "reduce", "broadcast"]),
    "a sum along a broadcast axis": Case(
        lambda: reduce_(REPEATED, "Sum", [0, 1]), ["reshape", "reduce", "mul"]
    ),
    "a mean over equal elements": Case(lambda: reduce_(REPEATED, "Mean", [0]), []),
    "a product over equal elements": Case(lambda: reduce_(REPEATED, "Prod", [0]), None),
    "a concatenation of broadcasts": Case(
        lambda: concat([REPEATED, REPEATED], 1), ["reshape", "concat", "broadcast"]
    ),
    "a concatenation with an item": Case(lambda: concat([REPEATED, item(5, 8)], 1), None),
    "a slice of a broadcast": Case(
        lambda: slice_(REPEATED, (2, 1, 0), (3, 2, 8)), ["reshape", "slice", "broadcast"]
    ),
    "a transpose of a broadcast": Case(
        lambda: transpose(REPEATED, (2, 0, 1)), ["reshape", "transpose", "broadcast"]
    ),
    "a reshape of broadcast axes": Case(
        lambda: reshape(broadcast(user(1, 8), (6, 3, 8)), (18, 2, 4)),
        ["reshape", "broadcast"],
    ),
    "a batched product of broadcasts": Case(
        lambda: matmul(REPEATED, broadcast(KEYS, (6, 8, 5))),
        ["reshape", "reshape", "BatchMatMulV2", "broadcast"],
    ),
    "a cumulative sum along another axis": Case(
        lambda: operation(tf.cumsum, REPEATED, axis=1), ["reshape", "Cumsum", "broadcast"]
    ),
    "a cumulative sum along the broadcast axis": Case(lambda: operation(tf.cumsum, REPEATED, axis=0), None),
    "a concatenation with a constant": Case(
        lambda: concat([REPEATED, constant(np.ones((6, 2, 8)), np.float32)], 1),
        ["reshape", "concat", "broadcast"],
    ),
    "a cumulative sum of exponentials": Case(
        lambda: operation(tf.math.cumulative_logsumexp, REPEATED, axis=1),
        ["reshape", "CumulativeLogsumexp", "broadcast"],
    ),
    "rows of a table": Case(
        lambda: operation(tf.gather, KEYS, broadcast(IDS, (6, 3))), ["reshape", "GatherV2", "broadcast"]
    ),
    "rows of a table that each item has": Case(
        lambda: operation(tf.gather, REPEATED, broadcast(IDS, (6, 3)), batch_dims=1),
        ["reshape", "reshape", "GatherV2", "broadcast"],
    ),
    "rows of an item's table": Case(
        lambda: operation(tf.gather, item(5, 8), broadcast(IDS, (6, 3)), batch_dims=1), None
    ),
    "ones and zeros along an axis in the middle": Case(
        lambda: operation(tf.one_hot, broadcast(IDS, (6, 3)), depth=4, axis=1),
        ["reshape", "OneHot", "broadcast"],
    ),
    "rows that are reversed": Case(
        lambda: operation(tf.reverse_sequence, REPEATED, broadcast(LENGTH, (6,)), seq_axis=1),
        ["reshape", "reshape", "ReverseSequence", "broadcast"],
    ),
    "an item's rows that are reversed": Case(
        lambda: operation(tf.reverse_sequence, item(5, 8), broadcast(LENGTH, (6,)), seq_axis=1), None
    ),
    "the same number in a row of others": Case(
        lambda: operation(_places, user(1, 5, name="bounds"), broadcast(user(), (1, 6))),
        ["reshape", "LowerBound", "broadcast"],
    ),
    "numbers in rows of their own": Case(
        lambda: operation(_places, broadcast(FLOATS, (6, 5)), broadcast(user(2, name="values"), (6, 2))),
        ["reshape", "reshape", "LowerBound", "broadcast"],
    ),
    "the user's numbers in rows of the items": Case(
        lambda: operation(_places, item(5), broadcast(user(2, name="values"), (6, 2))), None
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operation(name: str) -> None:
    before = CASES[name].before()
    after = narrowed(before)
    if CASES[name].ops is None:
        assert after is None or after == before
        return
    assert after is not None
    assert after.shape == before.shape
    assert ops_of(after) == CASES[name].ops
    np.testing.assert_allclose(value_of(after), value_of(before), rtol=1e-5, atol=1e-5)


def test_an_operation_of_several_outputs() -> None:
    best = operation(lambda x: tf.math.top_k(x, 3).values, REPEATED)
    total = add(best, cast(Tensor(best.node, 1)))
    rewritten = rewrite(total, [narrowed], free_rules=[narrowed])
    assert ops_of(rewritten) == ["reshape", "TopKV2", "Cast", "add", "broadcast"]
    np.testing.assert_allclose(value_of(rewritten), value_of(total), rtol=1e-5)
