"""Elementwise functions in our form: those that are a few others."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_ops import Found, Reading
from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._ops import add, cast, compare, divide, either, mul, negated, scaled, select, unary


def _sinh(x: Tensor) -> Tensor:
    return scaled(add(unary("Expm1", x), negated(unary("Expm1", negated(x)))), 0.5)


def _cosh(x: Tensor) -> Tensor:
    return scaled(add(unary("Exp", x), unary("Exp", negated(x))), 0.5)


def _asinh(x: Tensor) -> Tensor:
    """log(a + sqrt(a^2 + 1)) of a = |x|, so that nothing cancels near 0 and no square is too large."""
    a, inverse = unary("Abs", x), unary("Abs", unary("Reciprocal", x))
    root = unary("Sqrt", _more(unary("Square", inverse), 1))
    return mul(unary("Sign", x), unary("Log1p", add(a, divide(a, add(inverse, root)))))


def _acosh(x: Tensor) -> Tensor:
    """log(x + sqrt(x^2 - 1)) by what x is more than 1."""
    more = _more(x, -1)
    root = mul(unary("Sqrt", more), unary("Sqrt", _more(more, 2)))
    return unary("Log1p", add(more, root))


def _atanh(x: Tensor) -> Tensor:
    return scaled(add(unary("Log1p", x), negated(unary("Log1p", negated(x)))), 0.5)


def _rounded(x: Tensor) -> Tensor:
    """To the nearest whole number; what is in the middle to the even one."""
    whole = unary("Floor", x)
    rest, half = add(x, negated(whole)), scaled(whole, 0.5)
    is_odd = cast(compare("NotEqual", unary("Floor", half), half), x.dtype)
    is_middle = cast(compare("Equal", rest, _number(x, 0.5)), x.dtype)
    is_more = cast(compare("Greater", rest, _number(x, 0.5)), x.dtype)
    return add(whole, is_more, mul(is_middle, is_odd))


def _floor_divided(x: Tensor, by: Tensor) -> Tensor:
    return unary("Floor", divide(x, by))


def _remainder(x: Tensor, by: Tensor) -> Tensor | None:
    """In 0 to `by`, which must be positive: a quotient that was rounded is one too small or too large."""
    if by.value is None or not (by.value > 0).all():
        return None
    rest = add(x, negated(mul(by, _floor_divided(x, by))))
    rest = select(compare("Less", rest, _number(x, 0)), add(rest, by), rest)
    return select(compare("GreaterEqual", rest, by), add(rest, negated(by)), rest)


def _is_infinite(x: Tensor) -> Tensor:
    return compare("Equal", unary("Abs", x), _number(x, math.inf))


def where_not_zero(decides: Tensor, found: Tensor) -> Tensor:
    """`found`, which may be a NaN where `decides` is 0: it is 0 there."""
    zero = _number(found, 0)
    return select(compare("Equal", decides, zero), zero, found)


def _more(x: Tensor, number: float) -> Tensor:
    return add(x, _number(x, number))


def _number(like: Tensor, number: float) -> Tensor:
    return constant(np.asarray(number, like.dtype.as_numpy_dtype))


_FUNCTIONS: dict[str, Callable[..., Tensor | None]] = {
    "Acosh": _acosh,
    "Asinh": _asinh,
    "Atanh": _atanh,
    "Cosh": _cosh,
    "FloorDiv": _floor_divided,
    "FloorMod": _remainder,
    "IsInf": _is_infinite,
    "MulNoNan": lambda x, y: where_not_zero(y, mul(x, y)),
    "Rint": _rounded,
    "Round": _rounded,
    "Sinh": _sinh,
    "Xdivy": lambda x, y: where_not_zero(x, divide(x, y)),
    "Xlog1py": lambda x, y: where_not_zero(x, mul(x, unary("Log1p", y))),
    "Xlogy": lambda x, y: where_not_zero(x, mul(x, unary("Log", y))),
}


def _reads(function: Callable[..., Tensor | None]) -> Callable[[Reading], Found]:
    """Of float32; of narrower types where these are read as such. Constants fold by themselves."""

    def read(r: Reading) -> Found:
        is_float = all(each.dtype == tf.float32 for each in r.inputs)
        return function(*r.inputs) if is_float and any(each.needs for each in r.inputs) else None

    return read


def sign_bit(r: Reading) -> Found:
    """Less(Bitcast(x) & the sign's bit, 0), as Keras asks for it: x is below 0, or the negative zero."""
    bits, zero = r.inputs
    if bits.op != "BitwiseAnd" or zero.value is None or zero.value.any():
        return None
    number, mask = bits.inputs
    if number.op != "Bitcast" or mask.value is None or not (mask.value == np.int32(-(2**31))).all():
        return None
    (x,) = number.inputs
    if x.dtype != tf.float32 or x.shape != r.shape:
        return None
    none = _number(x, 0)
    return either(compare("Less", x, none), compare("Less", unary("Reciprocal", x), none))


FUNCTIONS = {op: _reads(function) for op, function in _FUNCTIONS.items()}
