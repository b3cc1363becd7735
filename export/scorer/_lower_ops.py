"""Lowering of single operations: a rule for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from nann.export.scorer import _ops
from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._lower_products import slope_of
from nann.export.scorer._lowering import Lowering, Step, refuse, refuse_moved_items
from nann.export.scorer._program import BinaryOp, Opcode, ReduceOp, Shape, UnaryOp

_Rule = Callable[[Lowering, Tensor], Step]
_RULES: dict[str, _Rule] = {}

_UNARY = {
    "Abs": UnaryOp.ABS,
    "Erf": UnaryOp.ERF,
    "Exp": UnaryOp.EXP,
    "Inv": UnaryOp.RECIPROCAL,
    "Neg": UnaryOp.NEG,
    "Reciprocal": UnaryOp.RECIPROCAL,
    "Relu": UnaryOp.RELU,
    "Relu6": UnaryOp.RELU6,
    "Rsqrt": UnaryOp.RSQRT,
    "Sigmoid": UnaryOp.SIGMOID,
    "Sqrt": UnaryOp.SQRT,
    "Square": UnaryOp.SQUARE,
    "Tanh": UnaryOp.TANH,
}
# True is 1 and false 0.
_BINARY = {
    "Div": BinaryOp.DIV,
    "Equal": BinaryOp.EQUAL,
    "Greater": BinaryOp.GREATER,
    "GreaterEqual": BinaryOp.GREATER_EQUAL,
    "LogicalAnd": BinaryOp.MIN,
    "LogicalOr": BinaryOp.MAX,
    "Maximum": BinaryOp.MAX,
    "Minimum": BinaryOp.MIN,
    "NotEqual": BinaryOp.NOT_EQUAL,
    "RealDiv": BinaryOp.DIV,
    "SquaredDifference": BinaryOp.SQUARED_DIFFERENCE,
}
_SWAPPED = {"Less": BinaryOp.GREATER, "LessEqual": BinaryOp.GREATER_EQUAL}
_REDUCE = {
    "All": ReduceOp.MIN,
    "Any": ReduceOp.MAX,
    "Max": ReduceOp.MAX,
    "Mean": ReduceOp.MEAN,
    "Min": ReduceOp.MIN,
    "Sum": ReduceOp.SUM,
}


def operation(lowering: Lowering, tensor: Tensor) -> Step:
    """How one operation is computed."""
    if tensor.op in _UNARY:
        return _unary(lowering, tensor, _UNARY[tensor.op])
    if tensor.op in _BINARY:
        return _binary(lowering, tensor, _BINARY[tensor.op], tensor.inputs)
    if tensor.op in _SWAPPED:
        return _binary(lowering, tensor, _SWAPPED[tensor.op], tensor.inputs[::-1])
    if tensor.op not in _RULES:
        refuse(tensor, "an operation that the native executor does not know")
    return _RULES[tensor.op](lowering, tensor)


def _lowers(*ops: str) -> Callable[[_Rule], _Rule]:
    def register(rule: _Rule) -> _Rule:
        _RULES.update(dict.fromkeys(ops, rule))
        return rule

    return register


@_lowers("const")
def _constant(lowering: Lowering, tensor: Tensor) -> Step:
    shape, values = lowering.shape(tensor), tensor.value
    assert values is not None
    return Step((), lambda _: lowering.program.constant(values.reshape(shape.rows, shape.columns)))


@_lowers("add")
def _add(lowering: Lowering, tensor: Tensor) -> Step:
    terms = [(each.inputs[0], BinaryOp.SUB) if _ops.is_negation(each) else (each, BinaryOp.ADD)
             for each in tensor.inputs[1:]]  # fmt: skip
    operands = [lowering.operand(each, tensor) for each in (tensor.inputs[0], *(x for x, _ in terms))]

    def emit(values: Sequence[int]) -> int:
        total = values[0]
        for (_, function), value in zip(terms, values[1:], strict=True):
            total = lowering.elementwise(Opcode.BINARY, [total, value], function)
        return total

    return Step(operands, emit)


@_lowers("mul")
def _mul(lowering: Lowering, tensor: Tensor) -> Step:
    if _ops.is_negation(tensor):
        return _unary(lowering, tensor, UnaryOp.NEG, tensor.inputs[:1])
    return _binary(lowering, tensor, BinaryOp.MUL, tensor.inputs)


def _unary(lowering: Lowering, tensor: Tensor, function: UnaryOp, inputs: Sequence[Tensor] = ()) -> Step:
    shape = lowering.shape(tensor)
    return Step(
        list(inputs) or tensor.inputs[:1],
        lambda values: lowering.program.add(Opcode.UNARY, shape, values, function=function),
    )


def _binary(lowering: Lowering, tensor: Tensor, function: BinaryOp, inputs: Sequence[Tensor]) -> Step:
    """Two operands, or more of a function that may be taken two at a time."""
    lowering.shape(tensor)

    def emit(values: Sequence[int]) -> int:
        total = values[0]
        for value in values[1:]:
            total = lowering.elementwise(Opcode.BINARY, [total, value], function)
        return total

    return Step([lowering.operand(each, tensor) for each in inputs], emit)


@_lowers("LogicalNot")
def _not(lowering: Lowering, tensor: Tensor) -> Step:
    return _binary(lowering, tensor, BinaryOp.SUB, [constant(np.float32(1)), tensor.inputs[0]])


@_lowers("Erfc")
def _erfc(lowering: Lowering, tensor: Tensor) -> Step:
    return _binary(
        lowering, tensor, BinaryOp.SUB, [constant(np.float32(1)), _ops.unary("Erf", tensor.inputs[0])]
    )


@_lowers("Cast")
def _cast(lowering: Lowering, tensor: Tensor) -> Step:
    if tensor.dtype == tf.bool and tensor.inputs[0].dtype != tf.bool:
        return _binary(lowering, tensor, BinaryOp.NOT_EQUAL, [tensor.inputs[0], constant(np.float32(0))])
    return _reshape(lowering, tensor)


@_lowers("SelectV2")
def _select(lowering: Lowering, tensor: Tensor) -> Step:
    operands = [lowering.operand(each, tensor) for each in tensor.inputs]
    return Step(operands, lambda values: lowering.elementwise(Opcode.SELECT, values))


@_lowers("prelu")
def _prelu(lowering: Lowering, tensor: Tensor) -> Step:
    shape = lowering.shape(tensor)
    return Step(
        [tensor.inputs[0], slope_of(lowering, tensor)],
        lambda values: lowering.program.add(Opcode.PRELU, shape, values),
    )


@_lowers("Softmax")
def _softmax(lowering: Lowering, tensor: Tensor) -> Step:
    shape = lowering.shape(tensor)
    if not tensor.is_free and tensor.rank == 1:
        refuse(tensor, "a softmax over the items of a tile")
    return Step(tensor.inputs, lambda values: lowering.program.add(Opcode.SOFTMAX, shape, values))


@_lowers("broadcast")
def _broadcast(lowering: Lowering, tensor: Tensor) -> Step:
    x, shape = tensor.inputs[0], lowering.shape(tensor)
    own = lowering.shape(lowering.operand(x, tensor))
    zeros = np.zeros([n if n != m else 1 for n, m in ((shape.rows, own.rows), (shape.columns, own.columns))])
    if own == shape:
        return Step([x], lambda values: values[0])
    return _binary(lowering, tensor, BinaryOp.ADD, [x, constant(zeros, np.float32)])


@_lowers("transpose")
def _transpose(lowering: Lowering, tensor: Tensor) -> Step:
    perm = tensor.node.attrs["perm"]
    if not tensor.is_free and perm[0] != 0:
        refuse_moved_items(tensor)
    moved = [axis for axis in perm if tensor.inputs[0].shape[axis] != 1]
    own, shape = lowering.shape(tensor.inputs[0]), lowering.shape(tensor)

    def emit(values: Sequence[int]) -> int:
        if moved == sorted(moved):
            return lowering.as_shape(values[0], shape)
        turned = Shape(own.per_item, own.columns, own.rows)
        return lowering.as_shape(lowering.program.add(Opcode.TRANSPOSE, turned, values), shape)

    return Step(tensor.inputs, emit)


@_lowers("concat")
def _concat(lowering: Lowering, tensor: Tensor) -> Step:
    shape, axis = lowering.shape(tensor), tensor.node.attrs["axis"] - tensor.rank
    if axis not in (-1, -2) or (not tensor.is_free and axis == -tensor.rank):
        refuse_moved_items(tensor)
    whole = shape if axis == -1 else Shape(shape.per_item, 1, shape.rows * shape.columns)

    def emit(values: Sequence[int]) -> int:
        if axis == -2:  # Rows one after the other are columns of one row.
            values = [lowering.flat(value) for value in values]
        return lowering.as_shape(lowering.program.add(Opcode.CONCAT, whole, values), shape)

    parts = [each if not each.is_free or tensor.is_free else lowering.without_items(each, tensor)
             for each in tensor.inputs]  # fmt: skip
    return Step(parts, emit)


@_lowers("slice")
def _slice(lowering: Lowering, tensor: Tensor) -> Step:
    x, begin = tensor.inputs[0], tensor.node.attrs["begin"]
    own, shape = lowering.shape(x), lowering.shape(tensor)
    cut = [axis - x.rank for axis in range(x.rank) if tensor.shape[axis] != x.shape[axis]]
    if any(axis < -2 for axis in cut) or (not x.is_free and -x.rank in cut):
        refuse_moved_items(tensor)

    def emit(values: Sequence[int]) -> int:
        value = values[0]
        if -2 in cut:
            first, width = begin[-2] * own.columns, shape.rows * own.columns
            value = lowering.columns(lowering.flat(value), first, width)
            value = lowering.as_shape(value, Shape(own.per_item, shape.rows, own.columns))
        return lowering.columns(value, begin[-1], shape.columns) if -1 in cut else value

    return Step([x], emit)


@_lowers("reduce")
def _reduce(lowering: Lowering, tensor: Tensor) -> Step:
    return _reduced(lowering, tensor, _REDUCE.get(tensor.node.attrs["function"]), tensor.node.attrs["axes"])


@_lowers("Any", "All")
def _logical(lowering: Lowering, tensor: Tensor) -> Step:
    axes = tensor.inputs[1].value
    if axes is None:
        refuse(tensor, "axes that are not constant")
    rank = tensor.inputs[0].rank
    return _reduced(lowering, tensor, _REDUCE[tensor.op], [int(axis) % rank for axis in axes.flat])


def _reduced(lowering: Lowering, tensor: Tensor, function: ReduceOp | None, axes: Sequence[int]) -> Step:
    x = tensor.inputs[0]
    if function is None or (0 in axes and not x.is_free):
        refuse_moved_items(tensor)
    own, shape = lowering.shape(x), lowering.shape(tensor)
    over = {axis - x.rank for axis in axes}

    def emit(values: Sequence[int]) -> int:
        value, rows = values[0], own.rows
        if over >= {-1, -2}:
            value, rows = lowering.flat(value), 1
        elif -2 in over:
            rows = own.columns
            value = lowering.program.add(
                Opcode.TRANSPOSE, Shape(own.per_item, own.columns, own.rows), [value]
            )
        if over & {-1, -2}:
            column = Shape(own.per_item, rows, 1)
            value = lowering.program.add(Opcode.REDUCE, column, [value], function=function)
        return lowering.as_shape(value, shape)

    return Step([x], emit)


@_lowers("EnsureShape", "Identity", "reshape")
def _reshape(lowering: Lowering, tensor: Tensor) -> Step:
    shape = lowering.shape(tensor)
    return Step(tensor.inputs[:1], lambda values: lowering.as_shape(values[0], shape))
