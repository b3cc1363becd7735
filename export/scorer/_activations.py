"""Rules that find PReLU, softplus and softmax, in whatever way they are written, and leave one form."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nann.export.scorer._ir import Array, Shape, Tensor, Uses, constant
from nann.export.scorer._ops import add, behind_reshape, divide, mul, negated, prelu, reshape, unary
from nann.export.scorer._rewrite import Rule


def piecewise_linear_sum(x: Tensor, _: Uses) -> Tensor | None:
    """A sum of a*x, b*relu(x), c*relu(-x) and d*|x| with constant factors -> one function of x.

    It has one slope where x > 0 and another where x < 0: a PReLU, or a multiple of relu(x) or relu(-x).
    """
    if x.op != "add":
        return None
    arguments = [bent[0] for term in x.inputs if (bent := _bent(term)) is not None]
    for argument in arguments:
        parts, rest = [], []
        for term in x.inputs:
            slopes = _slopes(term, argument)
            if slopes is None:
                rest.append(term)
            else:
                parts.append(slopes)
        whole = _with_slopes(argument, parts) if len(parts) > 1 else None
        if whole is not None:
            return add(whole, *rest)
    return None


def selected(x: Tensor, _: Uses) -> Tensor | None:
    """where(x > 0, x, a * x), also with >=, < and <=, -> prelu(x, a)."""
    if x.op != "SelectV2" or any(each.known_shape != x.shape for each in x.inputs):
        return None
    condition, positive, negative = x.inputs
    if condition.op in ("Less", "LessEqual"):
        positive, negative = negative, positive
    elif condition.op not in ("Greater", "GreaterEqual"):
        return None
    argument, zero = condition.inputs
    if positive != argument or zero.value is None or zero.value.any():
        return None
    if negative.value is not None and not negative.value.any():
        return unary("Relu", argument)
    for base, factor in _readings(negative):
        if base == argument:
            return prelu(argument, constant(factor))
    return None


def larger_of_two_slopes(x: Tensor, _: Uses) -> Tensor | None:
    """max(x, a * x) with 0 <= a <= 1 -> prelu(x, a)."""
    if x.op != "Maximum":
        return None
    for argument, other in (x.inputs, x.inputs[::-1]):
        for base, factor in _readings(other):
            if base == argument and (factor >= 0).all() and (factor <= 1).all():
                return prelu(argument, constant(factor))
    return None


def softplus(x: Tensor, _: Uses) -> Tensor | None:
    """log(1 + exp(x)) -> softplus(x) where x is never positive, as in the stable form of a cross entropy.

    Where x may be large the exponential is infinite, and a softplus is not.
    """
    if x.op != "Log1p" or x.inputs[0].op != "Exp":
        return None
    argument = x.inputs[0].inputs[0]
    never_positive = any(
        (factor <= 0).all() and _never_negative(base) for base, factor in _readings(argument)
    )
    return unary("Softplus", argument) if never_positive else None


def normalised_exponential(x: Tensor, _: Uses) -> Tensor | None:
    """exp(a - (log(sum(e)) + m)) -> e / sum(e) for e = exp(a - m), as exp(a - logsumexp(a)) has it."""
    if x.op != "Exp" or (difference := _difference(x.inputs[0])) is None:
        return None
    argument, whole, shape = difference
    for logarithm, largest in (whole.inputs, whole.inputs[::-1]) if len(whole.inputs) == 2 else ():
        before = behind_reshape(logarithm)
        if whole.op != "add" or before.op != "Log":
            continue
        total, m = behind_reshape(before.inputs[0]), behind_reshape(largest)
        if not _is_reduced(total, "Sum") or not _is_largest(m, argument):
            continue
        e = total.inputs[0]
        if e.op != "Exp" or not total.size == whole.size == m.size:
            continue
        if _difference(e.inputs[0]) == (argument, m, shape):
            return divide(e, reshape(total, shape))
    return None


def _is_largest(x: Tensor, of: Tensor) -> bool:
    """Whether it is a maximum, or another number where that is infinite: exp(of - x) does not overflow."""
    x = behind_reshape(x.inputs[1]) if x.op == "SelectV2" else x
    return _is_reduced(x, "Max") and x.inputs[0] == of


def _is_reduced(x: Tensor, function: str) -> bool:
    return x.op == "reduce" and x.node.attrs["function"] == function


def _difference(x: Tensor) -> tuple[Tensor, Tensor, Shape] | None:
    """(a, b, shape) of x = a - reshape(b, shape)."""
    for a, other in (x.inputs, x.inputs[::-1]) if x.op == "add" and len(x.inputs) == 2 else ():
        b, factor = _without_factor(behind_reshape(other))
        if factor is not None and factor.ndim == 0 and factor == -1:
            return a, behind_reshape(b), other.shape
    return None


def _never_negative(x: Tensor) -> bool:
    if x.value is not None:
        return bool((x.value >= 0).all())
    if x.op == "SelectV2":
        return all(_never_negative(branch) for branch in x.inputs[1:])
    return x.op in ("Abs", "Relu", "Square")


def _slopes(term: Tensor, argument: Tensor) -> tuple[Array, Array] | None:
    """The slopes of `term` where `argument` is positive and negative; None if it is no such function."""
    bent = _bent(term)
    if bent is not None:
        return bent[1:] if bent[0] == argument else None
    for base, factor in _readings(term):
        if base == argument:
            return factor, factor
    return None


def _bent(term: Tensor) -> tuple[Tensor, Array, Array] | None:
    """(x, slope above, slope below zero) of a multiple of relu(x), relu(-x) or |x|."""
    for base, factor in _readings(term):
        if base.op == "Abs":
            return base.inputs[0], factor, -factor
        if base.op == "Relu":
            argument, none = base.inputs[0], np.zeros_like(factor)
            inner, sign = _without_factor(argument)
            if sign is not None and sign.ndim == 0 and sign == -1:
                return inner, none, -factor
            return argument, factor, none
    return None


def _readings(x: Tensor) -> Iterator[tuple[Tensor, Array]]:
    """(y, constant a) of x = a * y: x itself, and without one factor after the other."""
    factor = np.ones((), x.dtype.as_numpy_dtype)
    while True:
        yield x, factor
        x, outer = _without_factor(x)
        if outer is None:
            return
        factor = factor * outer


def _without_factor(x: Tensor) -> tuple[Tensor, Array | None]:
    """(y, constant a) of x = a * y with y of the same shape; a is None where there is none."""
    if x.op == "mul" and len(x.inputs) == 2:
        for y, factor in (x.inputs, x.inputs[::-1]):
            if factor.value is not None and y.known_shape == x.known_shape:
                return y, factor.value
    return x, None


def _with_slopes(argument: Tensor, parts: list[tuple[Array, Array]]) -> Tensor | None:
    above, below = (np.asarray(sum(slopes)) for slopes in zip(*parts, strict=True))
    if np.broadcast_shapes(argument.shape, above.shape, below.shape) != argument.shape:
        return None
    if (above == 1).all():
        return prelu(argument, constant(below))
    if not below.any():
        return mul(unary("Relu", argument), constant(above))
    if not above.any():
        return mul(unary("Relu", negated(argument)), constant(-below))
    return None


ACTIVATIONS: tuple[Rule, ...] = (
    piecewise_linear_sum,
    selected,
    larger_of_two_slopes,
    softplus,
    normalised_exponential,
)
