"""float64 between integers and float32 in our form, as Python's division of integers makes it: in float32.

Sums are left as they are: they may cancel, and what is left then has few digits of float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_integers import INTEGERS
from nann.export.scorer._import_ops import Found, Reading
from nann.export.scorer._integer_parts import number_of
from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._ops import MOVED, arithmetic, broadcast, cast, mul, rebuilt, unary

# A small relative error of what they read becomes a small one, or a small number. That of an exponential is
# as many times larger as its argument is, and exponentials that matter have small ones.
_OF_ONE = frozenset(["Abs", "Exp", "Log", "Log1p", "Neg", "Relu", "Reciprocal", "Rsqrt", "Sqrt", "Square"])
_OF_TWO = frozenset(["Maximum", "Minimum", "Mul", "RealDiv"])


def narrowed(r: Reading) -> Found:
    """Cast of a float64 of user and item to float32."""
    (x,) = r.inputs
    is_narrowed = x.dtype == tf.float64 and r.specs[0].dtype == tf.float32
    found = _as_float(x) if is_narrowed and x.is_of_both else None
    return INTEGERS["Cast"](r) if found is None else broadcast(found, r.shape)


def _as_float(x: Tensor) -> Tensor | None:
    if x.value is not None:
        return constant(x.value, np.float32)
    if not x.is_of_both:
        return cast(x)
    if x.op == "Cast":
        (before,) = x.inputs
        if before.dtype.is_integer:
            return number_of(before)
        return before if before.dtype == tf.float32 else None
    if x.op not in _OF_ONE | _OF_TWO | {"mul", *MOVED}:
        return None
    found = [_as_float(each) for each in x.inputs]
    floats = [each for each in found if each is not None]
    if len(floats) < len(found):
        return None
    if x.op in _OF_ONE:
        return unary(x.op, floats[0])
    if x.op == "mul":
        return mul(*floats)
    return arithmetic(x.op, *floats) if x.op in _OF_TWO else rebuilt(x, floats)


DOUBLES: dict[str, Callable[[Reading], Found]] = {"Cast": narrowed}
