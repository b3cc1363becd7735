"""float64 between integers or float32 and float32 in our form: in float32.

Python's division of integers is float64. Sums of what was an integer are left as they are: they may cancel,
and what is left then has few digits of float32. Sums of what was float32, as embeddings, and of the user's
own vectors are as exact as those of a model without float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_integers import INTEGERS
from nann.export.scorer._import_ops import Found, Reading
from nann.export.scorer._integer_parts import number_of
from nann.export.scorer._ir import Tensor, constant, make
from nann.export.scorer._ops import (
    MOVED,
    arithmetic,
    broadcast,
    cast,
    is_matmul,
    matmul,
    mul,
    rebuilt,
    select,
    unary,
)

# A small relative error of what they read becomes a small one, or a small number. That of an exponential is
# as many times larger as its argument is, and exponentials that matter have small ones.
_OF_ONE = frozenset(["Abs", "Exp", "Log", "Log1p", "Neg", "Relu", "Reciprocal", "Rsqrt", "Sqrt", "Square"])
_OF_TWO = frozenset(["Maximum", "Minimum", "Mul", "RealDiv"])
# Functions that make a small error no larger.
_SMOOTH = frozenset(["Elu", "Erf", "Erfc", "Expm1", "LogSoftmax", "Sigmoid", "Softmax", "Softplus", "Tanh"])
_OF_TWO_MORE = frozenset(["DivNoNan", "SquaredDifference"])
_SUMS = frozenset(["SquaredDifference", "add"])
_PRODUCTS = frozenset(["DivNoNan", "RealDiv", "dot", "mul"])
_FLOAT = tf.compat.v1.AttrValue(type=tf.float32.as_datatype_enum).SerializeToString()
# Numbers of a user that are one feature each.
_FEW = 4


def narrowed(r: Reading) -> Found:
    """Cast of a float64 of user and item to float32."""
    (x,) = r.inputs
    is_narrowed = x.dtype == tf.float64 and r.specs[0].dtype == tf.float32
    found = (_as_float(x) or _of_floats(x, {})) if is_narrowed and x.is_of_both else None
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


def _of_floats(x: Tensor, known: dict[Tensor, Tensor | None]) -> Tensor | None:
    """What is computed of float32 and of vectors of the user's: sums too."""
    if x not in known:
        known[x] = _leaf(x) if _is_leaf(x) else _computed(x, known)
    return known[x]


def _is_leaf(x: Tensor) -> bool:
    return x.is_free or x.op == "Cast"


def _leaf(x: Tensor) -> Tensor | None:
    if x.value is not None:
        return constant(x.value, np.float32)
    if x.op == "Cast" and x.inputs[0].dtype in (tf.float32, tf.bool):
        return x.inputs[0] if x.inputs[0].dtype == tf.float32 else cast(x.inputs[0])
    # Single numbers may be times, of which float32 has few digits.
    return cast(x) if x.is_free and x.size > _FEW else None


def _computed(x: Tensor, known: dict[Tensor, Tensor | None]) -> Tensor | None:
    operands = x.inputs[1:] if x.op == "SelectV2" else x.inputs
    if any(each.dtype != tf.float64 for each in operands) or (x.op in _SUMS and _may_be_difference(x)):
        return None
    found = [_of_floats(each, known) or (_single(each) if x.op in _PRODUCTS else None) for each in operands]
    floats = [each for each in found if each is not None]
    if len(floats) < len(found):
        return None
    if x.op in _OF_ONE | _SMOOTH:
        return unary(x.op, floats[0])
    if x.op in _OF_TWO | _OF_TWO_MORE:
        return arithmetic(x.op, *floats)
    if x.op == "SelectV2":
        condition = _condition(x.inputs[0], known)
        return None if condition is None else select(condition, *floats)
    return matmul(*floats) if is_matmul(x) else rebuilt(x, floats)


def _single(x: Tensor) -> Tensor | None:
    """A number of the user's, such as a temperature, of which a product has as many digits."""
    return cast(x) if x.is_free else None


def _may_be_difference(x: Tensor) -> bool:
    """Whether single numbers of the item meet some of the user's: both may be times."""
    has_few = any(not each.is_free and each.size <= _FEW * x.shape[0] for each in x.inputs)
    return has_few and any(each.is_free and each.value is None for each in x.inputs)


def _condition(x: Tensor, known: dict[Tensor, Tensor | None]) -> Tensor | None:
    """What decides: whether a number is one. A comparison may come out otherwise in float32."""
    if x.op in ("broadcast", "reshape"):
        condition = _condition(x.inputs[0], known)
        return None if condition is None else rebuilt(x, [condition])
    if x.op in ("IsFinite", "IsNan") and x.inputs[0].dtype == tf.float64:
        number = _of_floats(x.inputs[0], known)
        return None if number is None else Tensor(make(x.op, [number], x.node.outputs, {"T": _FLOAT}))
    return None if any(each.dtype == tf.float64 for each in x.inputs) else x


DOUBLES: dict[str, Callable[[Reading], Found]] = {"Cast": narrowed}
