"""Each rewrite of the scorer split: what it makes of what it is for, and that the values stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import _activations, _algebra, _cleanup, _contract
from nann.export.scorer._ir import Tensor, constant, count_uses
from nann.export.scorer._ops import (
    add,
    broadcast,
    columns,
    concat,
    dot,
    matmul,
    mul,
    negated,
    prelu,
    reduce_,
    reshape,
    scaled,
    select,
    slice_,
    transpose,
    unary,
)
from nann.export.scorer._rewrite import Rule
from support.rewrites import Case, check
from support.splitting import item, user, weights

X, Y = item(8), unary("Tanh", item(8))
ROW, KEYS, EVENTS = user(8, name="row"), user(8, 5, name="keys"), user(5, 8, name="events")
FLAGS = user(5, name="flags", dtype=tf.bool)
W = weights(8, 4)
SLOPE = constant(np.linspace(0.1, 0.8, 8), np.float32)


def relu(x: Tensor) -> Tensor:
    return unary("Relu", x)


def plain(move: Callable[[Tensor], Tensor | None]) -> Rule:
    """A move as a rule."""
    return lambda x, _: move(x)


CASES = {
    # Shapes.
    "a sum of parts": Case(
        _algebra.sum_of_concat,
        lambda: reduce_(concat([item(2, 8), user(6, 1, 8)], 1), "Mean", [1]),
        ["reduce", "reshape", "add", "mul"],
    ),
    "a sum along another axis than parts meet at": Case(
        _algebra.sum_of_concat, lambda: reduce_(concat([item(2, 8), user(6, 1, 8)], 1), "Sum", [2]), None
    ),
    "heads that were stacked": Case(
        _cleanup.transpose_of_concat,
        lambda: transpose(concat([reshape(X, (1, 6, 8)), reshape(Y, (1, 6, 8))], 0), (1, 0, 2)),
        ["reshape", "Tanh", "reshape", "concat"],
    ),
    "a transpose that moves more than parts": Case(
        _cleanup.transpose_of_concat, lambda: transpose(concat([X, Y], 0), (1, 0)), None
    ),
    "rows of the user and the item": Case(
        _cleanup.slice_across_parts,
        lambda: slice_(concat([user(6, 3, 8), item(2, 8)], 1), (0, 1, 0), (6, 3, 8)),
        ["slice", "slice", "concat"],
    ),
    "columns of the user and the item": Case(
        _cleanup.slice_across_parts,
        lambda: slice_(concat([user(6, 3), item(2)], 1), (0, 1), (6, 3)),
        None,
    ),
    "a sum along an axis that was moved": Case(
        _cleanup.reduce_of_transpose,
        lambda: reduce_(transpose(item(3, 8), (0, 2, 1)), "Sum", [2]),
        ["reduce"],
    ),
    "a sum of a transpose that moves what is left": Case(
        _cleanup.reduce_of_transpose,
        lambda: reduce_(transpose(item(3, 4, 5), (0, 3, 2, 1)), "Sum", [2]),
        None,
    ),
    "rows with a weight each": Case(
        _contract.weighted_rows,
        lambda: reduce_(mul(columns(item(3, 8), 0, 1), item(3, 8)), "Sum", [1]),
        ["slice", "reshape", "BatchMatMulV2", "reshape"],
    ),
    "columns with a weight each": Case(
        _contract.weighted_columns,
        lambda: matmul(
            concat([columns(item(5, 4), at, at + 1) for at in (0, 3)], 2),
            slice_(item(5, 4), (0, 0, 1), (6, 2, 1)),
        ),
        ["slice", "slice", "mul", "slice", "slice", "mul", "add"],
    ),
    "rows with a weight each, and their mean": Case(
        _contract.weighted_rows,
        lambda: reduce_(mul(columns(item(3, 8), 0, 1), item(3, 8)), "Mean", [1]),
        None,
    ),
    "a function of rows after a reshape": Case(
        _cleanup.late_reshape, lambda: dot(reshape(item(3, 8), (18, 8)), W), ["dot", "reshape"]
    ),
    "softmax of a transposed column": Case(
        _cleanup.late_reshape,
        lambda: unary("Softmax", transpose(item(5, 1), (0, 2, 1))),
        ["reshape", "Softmax", "reshape"],
    ),
    "a sum with a row after a reshape": Case(
        _cleanup.late_reshape, lambda: add(reshape(item(3, 8), (18, 8)), ROW), ["add", "reshape"]
    ),
    "a slice after a reshape": Case(
        _cleanup.late_reshape, lambda: columns(reshape(item(3, 8), (18, 8)), 2, 5), ["slice", "reshape"]
    ),
    "prelu after a reshape": Case(
        _cleanup.late_reshape, lambda: prelu(reshape(item(3, 8), (18, 8)), SLOPE), ["prelu", "reshape"]
    ),
    "a mean after a reshape": Case(
        _cleanup.late_reshape,
        lambda: reduce_(reshape(item(3, 8), (18, 8)), "Mean", [1]),
        ["reduce", "reshape"],
    ),
    "softmax over another axis": Case(
        _cleanup.late_reshape, lambda: unary("Softmax", reshape(item(3, 8), (6, 24))), None
    ),
    "where, of axes of size 1": Case(
        _cleanup.elementwise_without_ones,
        lambda: select(reshape(FLAGS, (1, 1, 1, 5)), reshape(item(5), (6, 1, 1, 5)), constant(0, np.float32)),
        ["reshape", "SelectV2", "reshape"],
    ),
    "where, of one axis of size 1 that is the last": Case(
        _cleanup.elementwise_without_ones,
        lambda: select(user(3, 1, dtype=tf.bool), item(3, 1), constant(0, np.float32)),
        None,
    ),
    "a sum of reshapes": Case(
        _cleanup.late_reshape_of_operands,
        lambda: add(reshape(item(3, 8), (18, 8)), reshape(unary("Tanh", item(3, 8)), (18, 8)), ROW),
        ["Tanh", "add", "reshape"],
    ),
    "a mask for each event": Case(
        _cleanup.late_reshape_of_operands,
        lambda: mul(reshape(item(5, 8), (6, 1, 5, 8)), reshape(EVENTS, (1, 1, 5, 8))),
        ["reshape", "mul", "reshape"],
    ),
    "parts with reshapes": Case(
        _cleanup.late_reshape_of_operands,
        lambda: concat([reshape(item(3, 8), (18, 8)), reshape(unary("Tanh", item(3, 8)), (18, 8))], -1),
        ["Tanh", "concat", "reshape"],
    ),
    "a function of a transpose": Case(
        _cleanup.late_transpose, lambda: relu(transpose(X, (1, 0))), ["Relu", "transpose"]
    ),
    "a slice of a function of parts": Case(
        _cleanup.slice_before_elementwise, lambda: columns(relu(concat([X, Y], -1)), 0, 8), ["Relu"]
    ),
    "a head of a split axis": Case(
        _cleanup.slice_of_split_axis,
        lambda: slice_(reshape(X, (6, 2, 4)), (0, 1, 0), (6, 1, 4)),
        ["slice", "reshape"],
    ),
    "heads side by side": Case(
        _cleanup.join_of_parts,
        lambda: reshape(concat([item(1, 4), unary("Tanh", item(1, 4))], 1), (6, 8)),
        ["reshape", "Tanh", "reshape", "concat"],
    ),
    "softmax of each head": Case(
        _cleanup.late_concat,
        lambda: unary("Softmax", concat([item(1, 4), unary("Tanh", item(1, 4))], 1)),
        ["Softmax", "Tanh", "Softmax", "concat"],
    ),
    "a mask of each head": Case(
        _cleanup.late_concat,
        lambda: add(concat([item(1, 4), unary("Tanh", item(1, 4))], 1), user(2, 4)),
        ["slice", "add", "Tanh", "slice", "add", "concat"],
    ),
    "softmax over the parts": Case(_cleanup.late_concat, lambda: unary("Softmax", concat([X, Y], -1)), None),
    # Activations.
    "relu(x) - a * relu(-x)": Case(
        _activations.piecewise_linear_sum,
        lambda: add(relu(X), negated(mul(relu(negated(X)), SLOPE))),
        ["prelu"],
    ),
    "of a scaled argument": Case(
        _activations.piecewise_linear_sum,
        lambda: add(relu(scaled(X, 3.0)), mul(negated(SLOPE), relu(negated(scaled(X, 3.0))))),
        ["mul", "prelu"],
    ),
    "relu(x) + a * (x - |x|) / 2": Case(
        _activations.piecewise_linear_sum,
        lambda: add(relu(X), mul(scaled(mul(relu(negated(X)), constant(np.float32(-2))), 0.5), SLOPE)),
        ["prelu"],
    ),
    "relu(x) + (-a) * relu(-x)": Case(
        _activations.piecewise_linear_sum,
        lambda: add(relu(X), mul(negated(SLOPE), relu(negated(X)))),
        ["prelu"],
    ),
    "a * x + (1 - a) * relu(x)": Case(
        _activations.piecewise_linear_sum,
        lambda: add(mul(X, constant(np.float32(0.25))), mul(relu(X), constant(np.float32(0.75)))),
        ["prelu"],
    ),
    "x - |x|": Case(
        _activations.piecewise_linear_sum, lambda: add(X, negated(unary("Abs", X))), ["mul", "Relu", "mul"]
    ),
    "x + |x|": Case(_activations.piecewise_linear_sum, lambda: add(X, unary("Abs", X)), ["Relu", "mul"]),
    "prelu and more": Case(
        _activations.piecewise_linear_sum, lambda: add(relu(X), scaled(X, 0.0), Y), ["Relu", "Tanh", "add"]
    ),
    "another argument": Case(_activations.piecewise_linear_sum, lambda: add(relu(X), Y), None),
    "where(x > 0, x, a * x)": Case(
        _activations.selected, lambda: select(_compared("Greater", X), X, mul(X, SLOPE)), ["prelu"]
    ),
    "where(x <= 0, a * x, x)": Case(
        _activations.selected, lambda: select(_compared("LessEqual", X), mul(SLOPE, X), X), ["prelu"]
    ),
    "where(x > 0, x, 0)": Case(
        _activations.selected,
        lambda: select(_compared("Greater", X), X, constant(np.zeros((6, 8), np.float32))),
        ["Relu"],
    ),
    "where(x > 0, y, x)": Case(_activations.selected, lambda: select(_compared("Greater", X), Y, X), None),
    "max(x, a * x)": Case(_activations.larger_of_two_slopes, lambda: _maximum(X, mul(X, SLOPE)), ["prelu"]),
    "max(x, 2 * x)": Case(_activations.larger_of_two_slopes, lambda: _maximum(X, scaled(X, 2.0)), None),
    "log1p(exp(-2 |x|))": Case(
        _activations.softplus,
        lambda: unary("Log1p", unary("Exp", scaled(unary("Abs", X), -2.0))),
        ["Abs", "mul", "Softplus"],
    ),
    "log1p(exp(-where(y > 0, 0, |x|)))": Case(
        _activations.softplus,
        lambda: unary(
            "Log1p",
            unary(
                "Exp",
                negated(select(_compared("Greater", Y), constant(np.float32(0)), unary("Abs", X))),
            ),
        ),
        ["Tanh", "Greater", "Abs", "SelectV2", "mul", "Softplus"],
    ),
    "log1p(exp(x))": Case(_activations.softplus, lambda: unary("Log1p", unary("Exp", X)), None),
    # Sums, factors and products.
    "a nested sum": Case(
        _algebra.flat_sum, lambda: add(add(X, ROW), add(Y, weights(8))), ["Tanh", "add", "add", "add"]
    ),
    "two products of one tensor": Case(
        _algebra.flat_sum, lambda: add(dot(X, KEYS), dot(X, user(8, 5, name="others"))), ["add", "dot"]
    ),
    "a nested product": Case(_algebra.flat_product, lambda: mul(mul(X, ROW), weights(8)), ["mul", "mul"]),
    "a bias before a product": Case(
        _algebra.summand_through_dot, lambda: dot(add(X, weights(8)), W), ["dot", "add"]
    ),
    "a number before a product": Case(
        _algebra.summand_through_dot, lambda: dot(add(X, constant(np.float32(2))), W), ["dot", "add"]
    ),
    "the user before a product": Case(
        _algebra.summand_through_dot, lambda: dot(add(X, ROW), W), ["dot", "dot", "add"]
    ),
    "events before a product": Case(
        _algebra.summand_through_dot,
        lambda: dot(add(item(1, 8), EVENTS), W),
        ["dot", "dot", "add"],
    ),
    "a factor before a product": Case(_algebra.factor_into_dot, lambda: dot(mul(X, weights(8)), W), ["dot"]),
    "a number times": Case(_algebra.factor_into_dot, lambda: dot(scaled(X, 3.0), W), ["dot"]),
    "the user's factor": Case(
        _algebra.factor_into_dot, lambda: dot(mul(X, ROW), W), ["reshape", "mul", "dot"]
    ),
    "a factor that is no row": Case(_algebra.factor_into_dot, lambda: dot(mul(X, user(6, 8)), W), None),
    "a factor after a product": Case(_algebra.factor_from_dot, lambda: mul(dot(X, W), weights(4)), ["dot"]),
    "batch norm of a sum": Case(
        _algebra.factor_into_sum,
        lambda: mul(add(dot(X, W), dot(Y, W), weights(4)), weights(4)),
        ["dot", "mul", "Tanh", "dot", "mul", "add"],
    ),
    "a factor of what takes none": Case(
        _algebra.factor_into_sum, lambda: mul(add(relu(Y), unary("Exp", Y)), ROW), None
    ),
    "parts before a product": Case(
        _algebra.dot_of_concat,
        lambda: dot(concat([X, broadcast(ROW, (6, 8)), mul(X, ROW), relu(mul(X, ROW))], -1), weights(32, 4)),
        ["dot", "broadcast", "dot", "mul", "dot", "Relu", "dot", "add"],
    ),
    "parts that gain nothing": Case(
        _algebra.dot_of_concat, lambda: dot(concat([relu(X), X], -1), weights(16, 4)), None
    ),
    "a mask before a softmax": Case(
        _algebra.select_into_dot,
        lambda: select(FLAGS, add(dot(X, KEYS), user(5, name="bias")), constant(np.float32(-1e9))),
        ["reshape", "SelectV2", "dot", "SelectV2", "add"],
    ),
    "a mask the other way": Case(
        _algebra.select_into_dot,
        lambda: select(FLAGS, constant(np.float32(-np.inf)), dot(X, KEYS)),
        ["reshape", "SelectV2", "dot", "SelectV2", "add"],
    ),
    "a mask of anything": Case(
        _algebra.select_into_dot,
        lambda: select(FLAGS, relu(dot(X, KEYS)), constant(np.float32(0))),
        None,
    ),
    "the sum of a product": Case(
        _algebra.sum_of_dot, lambda: reduce_(dot(X, W), "Sum", [1]), ["dot", "reshape"]
    ),
    "the mean of a product": Case(
        _algebra.sum_of_dot, lambda: reduce_(dot(X, W), "Mean", [-1]), ["dot", "reshape", "mul"]
    ),
    "a constant beside the item": Case(
        _algebra.constant_to_item, lambda: add(mul(X, ROW), Y, weights(8)), ["mul", "Tanh", "add", "add"]
    ),
    "a product of equals": Case(_algebra.square_of_product, lambda: mul(X, X), ["Square"]),
    "a distance": Case(
        _algebra.square_of_difference,
        lambda: unary("Square", add(X, negated(ROW))),
        ["SquaredDifference"],
    ),
    # Contractions.
    "a dot product by hand": Case(
        _contract.sum_of_product, lambda: reduce_(mul(X, ROW), "Sum", [1]), ["reshape", "dot", "reshape"]
    ),
    "logits by hand": Case(
        _contract.sum_of_product,
        lambda: reduce_(mul(item(1, 8), EVENTS), "Sum", [2]),
        ["reshape", "transpose", "dot"],
    ),
    "attention by hand": Case(
        _contract.sum_of_product,
        lambda: reduce_(mul(item(5, 1), EVENTS), "Sum", [1]),
        ["reshape", "dot"],
    ),
    "a mean by hand": Case(
        _contract.sum_of_product,
        lambda: reduce_(mul(X, ROW), "Mean", [1]),
        ["reshape", "dot", "reshape", "mul"],
    ),
    "a sum over equal elements": Case(
        _contract.sum_of_product, lambda: reduce_(mul(item(1, 8), user(1, 8), item(3, 1)), "Sum", [0]), None
    ),
    # Moves, which the search tries.
    "re-association": Case(plain(_algebra.reassociated), lambda: dot(dot(X, W), user(4, 5)), ["dot", "dot"]),
    "distribution": Case(
        plain(_algebra.distributed),
        lambda: dot(add(mul(X, ROW), Y), W),
        ["mul", "dot", "Tanh", "dot", "add"],
    ),
    "distribution that gains nothing": Case(plain(_algebra.distributed), lambda: dot(add(X, Y), W), None),
    "columns of a product": Case(
        plain(_algebra.sliced_columns), lambda: columns(dot(X, KEYS), 1, 3), ["slice", "dot"]
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    check(CASES[name])


@pytest.mark.parametrize("rule", [_algebra.factor_from_dot, _algebra.factor_into_sum, _algebra.sum_of_dot])
def test_what_is_read_elsewhere_is_not_computed_twice(rule: Rule) -> None:
    product = dot(X, W)
    befores: dict[Rule, Tensor] = {
        _algebra.factor_from_dot: mul(product, weights(4)),
        _algebra.factor_into_sum: mul(add(product, user(4)), weights(4)),
        _algebra.sum_of_dot: reduce_(product, "Sum", [1]),
    }
    before = befores[rule]
    uses = count_uses([before])
    assert rule(before, uses) is not None
    uses = count_uses([before, product, *before.inputs])
    assert rule(before, uses) is None


def _compared(op: str, x: Tensor) -> Tensor:
    from nann.export.scorer._ir import Spec, make

    attrs = {"T": tf.compat.v1.AttrValue(type=tf.float32.as_datatype_enum).SerializeToString()}
    zero = constant(np.float32(0))
    return Tensor(make(op, [x, zero], [Spec(tf.bool, x.shape)], attrs))


def _maximum(x: Tensor, y: Tensor) -> Tensor:
    from nann.export.scorer._ir import Spec, make

    attrs = {"T": tf.compat.v1.AttrValue(type=tf.float32.as_datatype_enum).SerializeToString()}
    return Tensor(make("Maximum", [x, y], [Spec(tf.float32, x.shape)], attrs))
