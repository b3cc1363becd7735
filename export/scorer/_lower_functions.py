"""Lowering of elementwise functions that take a few instructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nann.export.scorer import _ops
from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._lowering import Lowering, Step, refuse
from nann.export.scorer._program import BinaryOp, Opcode, ReduceOp, Shape, UnaryOp

_Rule = Callable[[Lowering, Tensor], Step]
FUNCTIONS: dict[str, _Rule] = {}


def _computes(op: str) -> Callable[[_Rule], _Rule]:
    def register(rule: _Rule) -> _Rule:
        FUNCTIONS[op] = rule
        return rule

    return register


def truncated(lowering: Lowering, tensor: Tensor) -> Step:
    """The whole number towards 0."""
    shape = lowering.shape(tensor)
    return Step(tensor.inputs, lambda values: _cut(lowering, shape, values[0]))


def _cut(lowering: Lowering, shape: Shape, value: int) -> int:
    """Without its fraction."""

    def unary(function: UnaryOp, value: int) -> int:
        return lowering.program.add(Opcode.UNARY, shape, [value], function=function)

    above = unary(UnaryOp.FLOOR, unary(UnaryOp.RELU, value))
    below = unary(UnaryOp.FLOOR, unary(UnaryOp.RELU, unary(UnaryOp.NEG, value)))
    return lowering.elementwise(Opcode.BINARY, [above, below], BinaryOp.SUB)


@_computes("Sign")
def _sign(lowering: Lowering, tensor: Tensor) -> Step:
    """So large a multiple of a number, cut to at most 1, is its sign; that of a NaN is one."""

    def emit(values: Sequence[int]) -> int:
        x, huge, low, high = values
        value = lowering.elementwise(Opcode.BINARY, [x, huge], BinaryOp.MUL)
        value = lowering.elementwise(Opcode.BINARY, [value, low], BinaryOp.MAX)
        return lowering.elementwise(Opcode.BINARY, [value, high], BinaryOp.MIN)

    numbers = (np.finfo(np.float32).max, -1, 1)
    return Step([tensor.inputs[0], *(constant(np.float32(each)) for each in numbers)], emit)


@_computes("IsFinite")
def _is_finite(lowering: Lowering, tensor: Tensor) -> Step:
    """x - x is 0, and a NaN for anything else."""

    def emit(values: Sequence[int]) -> int:
        x, zero = values
        difference = lowering.elementwise(Opcode.BINARY, [x, x], BinaryOp.SUB)
        return lowering.elementwise(Opcode.BINARY, [difference, zero], BinaryOp.EQUAL)

    return Step([tensor.inputs[0], constant(np.float32(0))], emit)


@_computes("IsNan")
def _is_nan(lowering: Lowering, tensor: Tensor) -> Step:
    return Step(
        tensor.inputs,
        lambda values: lowering.elementwise(Opcode.BINARY, [values[0], values[0]], BinaryOp.NOT_EQUAL),
    )


@_computes("DivNoNan")
def _divided_where_not_zero(lowering: Lowering, tensor: Tensor) -> Step:
    zero = constant(np.float32(0))

    def emit(values: Sequence[int]) -> int:
        x, by, none = values
        known = lowering.elementwise(Opcode.BINARY, [by, none], BinaryOp.NOT_EQUAL)
        ratio = lowering.elementwise(Opcode.BINARY, [x, by], BinaryOp.DIV)
        return lowering.elementwise(Opcode.SELECT, [known, ratio, none])

    return Step([*(lowering.operand(each, tensor) for each in tensor.inputs), zero], emit)


@_computes("ClipByValue")
def _clip(lowering: Lowering, tensor: Tensor) -> Step:
    def emit(values: Sequence[int]) -> int:
        x, least, most = values
        bounded = lowering.elementwise(Opcode.BINARY, [x, most], BinaryOp.MIN)
        return lowering.elementwise(Opcode.BINARY, [bounded, least], BinaryOp.MAX)

    return Step([lowering.operand(each, tensor) for each in tensor.inputs], emit)


@_computes("LogSoftmax")
def _log_softmax(lowering: Lowering, tensor: Tensor) -> Step:
    """x - max - log(sum(exp(x - max)))."""
    (x,) = tensor.inputs
    shape = lowering.shape(tensor)
    column = Shape(shape.per_item, shape.rows, 1)
    if not tensor.is_free and tensor.rank == 1:
        refuse(tensor, "a softmax over the items of a tile")

    def emit(values: Sequence[int]) -> int:
        add = lowering.program.add
        largest = add(Opcode.REDUCE, column, values, function=ReduceOp.MAX)
        below = lowering.elementwise(Opcode.BINARY, [values[0], largest], BinaryOp.SUB)
        powers = add(Opcode.UNARY, shape, [below], function=UnaryOp.EXP)
        total = add(Opcode.REDUCE, column, [powers], function=ReduceOp.SUM)
        logarithm = add(Opcode.UNARY, column, [total], function=UnaryOp.LOG)
        return lowering.elementwise(Opcode.BINARY, [below, logarithm], BinaryOp.SUB)

    return Step([x], emit)


@_computes("Pow")
def _power(lowering: Lowering, tensor: Tensor) -> Step:
    """x^p is exp(p * log(x)), where one of them is a constant: a NaN for x < 0 as p is not whole."""
    base, exponent = tensor.inputs
    shape = lowering.shape(tensor)
    if exponent.value is not None and exponent.size == 1 and not _is_whole(exponent):
        logarithm, factor = _ops.unary("Log", base), exponent
    elif base.value is not None and (base.value > 0).all():
        logarithm, factor = exponent, constant(np.log(base.value))
    else:
        refuse(tensor, "a power of which neither a positive base nor a fractional exponent is constant")

    def emit(values: Sequence[int]) -> int:
        product = lowering.elementwise(Opcode.BINARY, values, BinaryOp.MUL)
        return lowering.program.add(Opcode.UNARY, shape, [product], function=UnaryOp.EXP)

    return Step([lowering.operand(logarithm, tensor), lowering.operand(factor, tensor)], emit)


def _is_whole(exponent: Tensor) -> bool:
    value = exponent.value
    return value is not None and bool((value == np.floor(value)).all())


@_computes("Ceil")
def _ceil(lowering: Lowering, tensor: Tensor) -> Step:
    """-floor(-x)."""
    shape = lowering.shape(tensor)

    def emit(values: Sequence[int]) -> int:
        value = values[0]
        for function in (UnaryOp.NEG, UnaryOp.FLOOR, UnaryOp.NEG):
            value = lowering.program.add(Opcode.UNARY, shape, [value], function=function)
        return value

    return Step(tensor.inputs, emit)


@_computes("FloorDiv")
@_computes("TruncateDiv")
def _whole_quotient(lowering: Lowering, tensor: Tensor) -> Step:
    """Of integers."""
    shape = lowering.shape(tensor)

    def emit(values: Sequence[int]) -> int:
        return _quotient(lowering, tensor.op, shape, values)

    return Step([lowering.operand(each, tensor) for each in tensor.inputs], emit)


@_computes("FloorMod")
@_computes("TruncateMod")
def _whole_remainder(lowering: Lowering, tensor: Tensor) -> Step:
    """Of integers."""
    shape = lowering.shape(tensor)

    def emit(values: Sequence[int]) -> int:
        whole = _quotient(lowering, tensor.op, shape, values)
        times = lowering.elementwise(Opcode.BINARY, [whole, values[1]], BinaryOp.MUL)
        return lowering.elementwise(Opcode.BINARY, [values[0], times], BinaryOp.SUB)

    return Step([lowering.operand(each, tensor) for each in tensor.inputs], emit)


def _quotient(lowering: Lowering, op: str, shape: Shape, values: Sequence[int]) -> int:
    """Rounded down, or towards 0 where `op` is a truncating one."""
    ratio = lowering.elementwise(Opcode.BINARY, values, BinaryOp.DIV)
    if op.startswith("Truncate"):
        return _cut(lowering, shape, ratio)
    return lowering.program.add(Opcode.UNARY, shape, [ratio], function=UnaryOp.FLOOR)
