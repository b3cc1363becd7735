"""Lowering of single operations: a rule for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from nann.export.scorer import _ops
from nann.export.scorer._ir import Spec, Tensor, constant, make
from nann.export.scorer._known import LOOPS, MOST_ROUNDS
from nann.export.scorer._lower_functions import FUNCTIONS, truncated
from nann.export.scorer._lower_products import slope_of
from nann.export.scorer._lowering import Lowering, Step, refuse
from nann.export.scorer._program import BinaryOp, Opcode, UnaryOp
from nann.export.scorer._whole_numbers import MOST_EXACT, fits, is_exact_arithmetic

_Rule = Callable[[Lowering, Tensor], Step]
_RULES: dict[str, _Rule] = {}

_UNARY = {
    "Abs": UnaryOp.ABS,
    "Acos": UnaryOp.ACOS,
    "Asin": UnaryOp.ASIN,
    "Atan": UnaryOp.ATAN,
    "Cos": UnaryOp.COS,
    "Elu": UnaryOp.ELU,
    "Erf": UnaryOp.ERF,
    "Exp": UnaryOp.EXP,
    "Expm1": UnaryOp.EXPM1,
    "Floor": UnaryOp.FLOOR,
    "Inv": UnaryOp.RECIPROCAL,
    "Log": UnaryOp.LOG,
    "Log1p": UnaryOp.LOG1P,
    "Neg": UnaryOp.NEG,
    "Reciprocal": UnaryOp.RECIPROCAL,
    "Relu": UnaryOp.RELU,
    "Relu6": UnaryOp.RELU6,
    "Rsqrt": UnaryOp.RSQRT,
    "Sigmoid": UnaryOp.SIGMOID,
    "Sin": UnaryOp.SIN,
    "Softplus": UnaryOp.SOFTPLUS,
    "Sqrt": UnaryOp.SQRT,
    "Square": UnaryOp.SQUARE,
    "Tan": UnaryOp.TAN,
    "Tanh": UnaryOp.TANH,
    # Of a gate and its argument, by `_gated`.
    "silu": UnaryOp.SILU,
    "twice_gelu": UnaryOp.TWICE_GELU,
}
# True is 1 and false 0.
_BINARY = {
    "AddV2": BinaryOp.ADD,
    "Atan2": BinaryOp.ATAN2,
    "Div": BinaryOp.DIV,
    "Equal": BinaryOp.EQUAL,
    "Greater": BinaryOp.GREATER,
    "GreaterEqual": BinaryOp.GREATER_EQUAL,
    "LogicalAnd": BinaryOp.MIN,
    "LogicalOr": BinaryOp.MAX,
    "Maximum": BinaryOp.MAX,
    "Minimum": BinaryOp.MIN,
    "Mul": BinaryOp.MUL,
    "NotEqual": BinaryOp.NOT_EQUAL,
    "RealDiv": BinaryOp.DIV,
    "SquaredDifference": BinaryOp.SQUARED_DIFFERENCE,
    "Sub": BinaryOp.SUB,
}
# Of integers of any size; what else is computed of them might not be a float.
_OF_INTEGERS = frozenset(
    ["Cast", "EnsureShape", "Identity", "broadcast", "concat", "const", "reshape", "slice"]
)
_ROOT_OF_HALF = 0.5**0.5
_OF_A_LOOP = f"a loop of more than {MOST_ROUNDS} rounds, or of rounds that only a request decides"
_BEYOND = "arithmetic of integers that may be beyond 2^24, or beyond their type"
_UNORDERED = "top_k with sorted=False, whose results have an order of TensorFlow's own"
_SWAPPED = {"Less": BinaryOp.GREATER, "LessEqual": BinaryOp.GREATER_EQUAL}


def operation(lowering: Lowering, tensor: Tensor) -> Step:
    """How one operation is computed."""
    if tensor.dtype.is_integer and tensor.op not in _OF_INTEGERS and not is_exact_arithmetic(tensor):
        refuse(tensor, _UNORDERED if _is_unordered(tensor) else _BEYOND)
    if tensor.op in _BINARY | _SWAPPED and not any(map(_is_exact, tensor.inputs)):
        refuse(tensor, "a comparison of two integers of the user, which may be beyond 2^24")
    if tensor.op in _UNARY:
        return _unary(lowering, tensor, _UNARY[tensor.op])
    if tensor.op in _BINARY:
        return _binary(lowering, tensor, _BINARY[tensor.op], tensor.inputs)
    if tensor.op in _SWAPPED:
        return _binary(lowering, tensor, _SWAPPED[tensor.op], tensor.inputs[::-1])
    rule = _RULES.get(tensor.op) or FUNCTIONS.get(tensor.op)
    if rule is None:
        first = _first_unknown(tensor)
        refuse(first, _why_unknown(first))
    return rule(lowering, tensor)


def is_known(tensor: Tensor) -> bool:
    """Whether there is a rule for it; its operands may be refused all the same."""
    if tensor.dtype.is_integer and tensor.op not in _OF_INTEGERS and not is_exact_arithmetic(tensor):
        return False
    return any(tensor.op in known for known in (_UNARY, _BINARY, _SWAPPED, _RULES, FUNCTIONS))


def _first_unknown(tensor: Tensor) -> Tensor:
    """The operation because of which one is not known: complex numbers, lists, open shapes come from it."""
    if tensor.op in LOOPS:
        return tensor
    for x in tensor.inputs:
        is_complex = x.dtype.is_complex and x.op not in ("Complex", "const")
        if is_complex or x.dtype == tf.variant or x.known_shape is None:
            return _first_unknown(x)
    return tensor


def _why_unknown(tensor: Tensor) -> str:
    if tensor.op in LOOPS:
        return _OF_A_LOOP
    return _UNORDERED if _is_unordered(tensor) else "an operation that the native executor does not know"


def _is_unordered(tensor: Tensor) -> bool:
    attrs = tensor.node.attrs
    return tensor.op == "TopKV2" and not tf.compat.v1.AttrValue.FromString(attrs["sorted"]).b


def _lowers(*ops: str) -> Callable[[_Rule], _Rule]:
    def register(rule: _Rule) -> _Rule:
        _RULES.update(dict.fromkeys(ops, rule))
        return rule

    return register


@_lowers("const")
def _constant(lowering: Lowering, tensor: Tensor) -> Step:
    shape, values = lowering.shape(tensor), tensor.value
    assert values is not None
    if tensor.dtype.is_integer and (np.abs(values) > MOST_EXACT).any():
        refuse(tensor, "an integer beyond 2^24")
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
    return _gated(lowering, tensor) or _binary(lowering, tensor, BinaryOp.MUL, tensor.inputs)


def _gated(lowering: Lowering, tensor: Tensor) -> Step | None:
    """x * sigmoid(x) and x * (1 + erf(x / sqrt(2))), perhaps times others: SiLU and GELU."""
    for gate in tensor.inputs:
        # Layers side by side are cut apart, the gate and what it is of alike.
        before = _ops.behind_reshape(gate)
        if (found := _gate(before)) is None or lowering.uses[gate] > 1:
            continue
        argument, function = found
        x = _ops.reshape(argument, gate.shape)
        others = [each for each in tensor.inputs if each != gate]
        rest = _without_factor(others, x, argument)
        if rest is None or x.shape != tensor.shape:
            continue
        # As the argument lies, and then in the shape of the product.
        spec = Spec(argument.dtype, argument.shape)
        both = _ops.reshape(Tensor(make(function, [argument], [spec])), x.shape)
        product = _ops.mul(both, *rest) if rest else both
        return Step([product], lambda values: values[0])
    return None


def _without_factor(factors: Sequence[Tensor], x: Tensor, argument: Tensor) -> list[Tensor] | None:
    """The other factors; None where `x`, which is `argument` in another shape, is none of them."""
    for factor in factors:
        rest = [each for each in factors if each is not factor]
        if factor == x:
            return rest
        scaled = _ops.behind_reshape(factor)
        if scaled.op == "mul" and argument in scaled.inputs:
            numbers = [each for each in scaled.inputs if each != argument]
            if all(each.value is not None and each.size == 1 for each in numbers):
                return [*rest, *numbers]
    return None


def _gate(x: Tensor) -> tuple[Tensor, str] | None:
    """A gate's argument, and the function that the two make."""
    if x.op == "Sigmoid":
        return x.inputs[0], "silu"
    if x.op == "Erfc":
        return _gelu_of(x.inputs[0], -_ROOT_OF_HALF)
    if x.op == "add" and len(x.inputs) == 2 and x.inputs[1].value is not None:
        erf, one = x.inputs
        if erf.op == "Erf" and one.size == 1 and one.value == 1:
            return _gelu_of(erf.inputs[0], _ROOT_OF_HALF)
    return None


def _gelu_of(scaled: Tensor, factor: float) -> tuple[Tensor, str] | None:
    if scaled.op != "mul" or len(scaled.inputs) != 2:
        return None
    x, by = scaled.inputs
    if by.value is None or by.size != 1 or x.shape != scaled.shape:
        return None
    return (x, "twice_gelu") if np.isclose(by.value, factor, rtol=1e-6).all() else None


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
    (x,) = tensor.inputs
    if tensor.dtype == tf.bool and x.dtype != tf.bool:
        return _binary(lowering, tensor, BinaryOp.NOT_EQUAL, [x, constant(np.float32(0))])
    if not tensor.dtype.is_integer and not _is_exact(x):
        refuse(tensor, "an integer of the user, which may be beyond 2^24, as a float")
    if tensor.dtype.is_integer and x.dtype.is_floating:
        return truncated(lowering, tensor)
    if tensor.dtype.is_integer and not fits(x, tensor.dtype):
        refuse(tensor, f"integers that may be beyond {tensor.dtype.name}")
    return _reshape(lowering, tensor)


def _is_exact(x: Tensor) -> bool:
    """Whether it is no integer that came from the user as it is: those beyond 2^24 are no floats."""
    if not x.dtype.is_integer or x.value is not None or (x.op == "Cast" and not x.inputs[0].dtype.is_integer):
        return True
    if x.op not in _OF_INTEGERS:
        return x.op != "source"  # What else there is is refused by itself.
    return all(map(_is_exact, x.inputs))


@_lowers("SelectV2")
def _select(lowering: Lowering, tensor: Tensor) -> Step:
    operands = [lowering.operand(each, tensor) for each in tensor.inputs]
    return Step(operands, lambda values: lowering.elementwise(Opcode.SELECT, values))


@_lowers("gather")
def _gather(lowering: Lowering, tensor: Tensor) -> Step:
    shape = lowering.shape(tensor)
    return Step(tensor.inputs, lambda values: lowering.program.add(Opcode.GATHER, shape, values))


@_lowers("prelu")
def _prelu(lowering: Lowering, tensor: Tensor) -> Step:
    shape, slope = lowering.shape(tensor), slope_of(lowering, tensor)
    if slope is None:
        x, slopes = tensor.inputs
        below = _ops.mul(slopes, _ops.negated(_ops.unary("Relu", _ops.negated(x))))
        return Step([_ops.add(_ops.unary("Relu", x), below)], lambda values: values[0])
    return Step(
        [tensor.inputs[0], slope],
        lambda values: lowering.program.add(Opcode.PRELU, shape, values),
    )


@_lowers("Softmax")
def _softmax(lowering: Lowering, tensor: Tensor) -> Step:
    shape = lowering.shape(tensor)
    if not tensor.is_free and tensor.rank == 1:
        refuse(tensor, "a softmax over the items of a tile")
    return Step(tensor.inputs, lambda values: lowering.program.add(Opcode.SOFTMAX, shape, values))


@_lowers("EnsureShape", "Identity")
def _reshape(lowering: Lowering, tensor: Tensor) -> Step:
    shape = lowering.shape(tensor)
    return Step(tensor.inputs[:1], lambda values: lowering.as_shape(values[0], shape))
