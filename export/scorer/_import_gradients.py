"""Gradients of functions in our form: scorers that follow one (energies, fast weights, `tf.GradientTape`)."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from nann.export.scorer._import_moves import ranges_of
from nann.export.scorer._import_ops import Found, Reading, integers
from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._ops import add, both, compare, mul, negated, reshape, scaled, select, unary
from nann.export.scorer._slices import padded

_SELU_SCALE, _SELU_LEAST = 1.0507009873554805, 1.7580993408473766


def _number(like: Tensor, number: float) -> Tensor:
    return constant(number, like.dtype.as_numpy_dtype)


def _of_tanh(y: Tensor, dy: Tensor) -> Tensor:
    return mul(dy, add(_number(y, 1), negated(unary("Square", y))))


def _of_sigmoid(y: Tensor, dy: Tensor) -> Tensor:
    return mul(dy, y, add(_number(y, 1), negated(y)))


def _of_sqrt(y: Tensor, dy: Tensor) -> Tensor:
    return mul(scaled(dy, 0.5), unary("Reciprocal", y))


def _of_rsqrt(y: Tensor, dy: Tensor) -> Tensor:
    return mul(scaled(dy, -0.5), unary("Square", y), y)


def _of_reciprocal(y: Tensor, dy: Tensor) -> Tensor:
    return negated(mul(dy, unary("Square", y)))


def _where(condition: Tensor, dy: Tensor) -> Tensor:
    return select(condition, dy, _number(dy, 0))


def _of_relu(dy: Tensor, x: Tensor) -> Tensor:
    return _where(compare("Greater", x, _number(x, 0)), dy)


def _of_relu6(dy: Tensor, x: Tensor) -> Tensor:
    return _where(both(compare("Greater", x, _number(x, 0)), compare("Less", x, _number(x, 6))), dy)


def _of_elu(dy: Tensor, y: Tensor) -> Tensor:
    return select(compare("Less", y, _number(y, 0)), mul(dy, add(y, _number(y, 1))), dy)


def _of_selu(dy: Tensor, y: Tensor) -> Tensor:
    below = mul(dy, add(y, _number(y, _SELU_LEAST)))
    return select(compare("Less", y, _number(y, 0)), below, scaled(dy, _SELU_SCALE))


def _of_softplus(dy: Tensor, x: Tensor) -> Tensor:
    return mul(dy, unary("Sigmoid", x))


def _of_softsign(dy: Tensor, x: Tensor) -> Tensor:
    return mul(dy, unary("Reciprocal", unary("Square", add(_number(x, 1), unary("Abs", x)))))


def of_leaky_relu(r: Reading) -> Found:
    dy, x = r.inputs
    if not _is_read(r):
        return None
    return select(compare("Greater", x, _number(x, 0)), dy, scaled(dy, r.attr("alpha")))


def of_slice(r: Reading) -> Found:
    """StridedSliceGrad: zeros around what was cut out."""
    shape, dy = integers(r.inputs[0]), r.inputs[4]
    ranges = None if shape is None else ranges_of(r, shape, r.inputs[1:4])
    if shape is None or ranges is None or not _is_read(r) or any(each.step != 1 for each in ranges):
        return None
    rows = reshape(dy, [len(each) for each in ranges])
    around = [(each.start, n - each.start - len(each)) for each, n in zip(ranges, shape, strict=True)]
    return padded(rows, around, 0)


def _is_read(r: Reading) -> bool:
    """What is not of items is left to TensorFlow."""
    return r.specs[0].dtype == tf.float32 and not all(each.is_free for each in r.inputs)


def _reads(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Reading], Found]:
    return lambda r: function(*r.inputs) if _is_read(r) else None


_FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "EluGrad": _of_elu,
    "InvGrad": _of_reciprocal,
    "ReciprocalGrad": _of_reciprocal,
    "Relu6Grad": _of_relu6,
    "ReluGrad": _of_relu,
    "RsqrtGrad": _of_rsqrt,
    "SeluGrad": _of_selu,
    "SigmoidGrad": _of_sigmoid,
    "SoftplusGrad": _of_softplus,
    "SoftsignGrad": _of_softsign,
    "SqrtGrad": _of_sqrt,
    "TanhGrad": _of_tanh,
}
GRADIENTS: dict[str, Callable[[Reading], Found]] = {
    "LeakyReluGrad": of_leaky_relu,
    "StridedSliceGrad": of_slice,
    **{op: _reads(function) for op, function in _FUNCTIONS.items()},
}
