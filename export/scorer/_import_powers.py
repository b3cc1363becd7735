"""Powers in our form: roots, products of squares, and exponentials of logarithms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nann.export.scorer._import_ops import Found, Reading
from nann.export.scorer._ir import Array, Tensor, constant
from nann.export.scorer._ops import (
    arithmetic,
    both,
    broadcast,
    compare,
    either,
    is_negation,
    mul,
    negated,
    scaled,
    select,
    unary,
)
from nann.export.scorer._whole_numbers import bounds_of

_ROOTS = {0.5: "Sqrt", -0.5: "Rsqrt", -1.0: "Reciprocal"}
_MOST_POWER = 64
# Different ones of a constant, each of which is computed of all numbers.
_MOST_EXPONENTS = 8


def power(r: Reading) -> Found:
    x, exponent = r.inputs
    if not r.is_exact_enough:
        return None
    if exponent.value is None:
        if r.specs[0].dtype.size > 4:
            return None
        is_chosen = not x.is_free and 0 < len(_choices(exponent)) <= _MOST_EXPONENTS
        found = _chosen_power(x, exponent) if is_chosen else None
        return found if found is not None and found.shape == r.shape else _computed_power(x, exponent)
    if exponent.size > 1:
        return _powers(x, exponent.value)
    if exponent.rank or x.shape != r.shape:
        return None
    return _constant_power(x, float(exponent.value))


def _powers(x: Tensor, exponents: Array) -> Tensor | None:
    """By a constant that has an exponent for each number, as polynomials and learned curves have."""
    different = np.unique(exponents)
    if x.is_free or len(different) > _MOST_EXPONENTS:
        return None
    found: Tensor | None = None
    for each in different:
        one = _constant_power(x, float(each)) or arithmetic("Pow", x, constant(each))
        found = one if found is None else select(constant(exponents == each), one, found)
    assert found is not None
    return broadcast(found, np.broadcast_shapes(x.shape, exponents.shape))


def _choices(exponent: Tensor) -> list[Tensor]:
    """The constants of which `tf.where` chooses; none where it chooses others too."""
    if is_negation(exponent):
        return _choices(negated(exponent))
    if exponent.op == "SelectV2":
        found = [_choices(each) for each in exponent.inputs[1:]]
        return [*found[0], *found[1]] if all(found) else []
    return [exponent] if exponent.value is not None and exponent.size == 1 else []


def _chosen_power(x: Tensor, exponent: Tensor, sign: int = 1) -> Tensor:
    """By one of several constants: of a base of any sign."""
    if is_negation(exponent):
        return _chosen_power(x, negated(exponent), -sign)
    if exponent.op == "SelectV2":
        condition, *choices = exponent.inputs
        return select(condition, *(_chosen_power(x, each, sign) for each in choices))
    assert exponent.value is not None
    power = sign * float(exponent.value.item())
    return _constant_power(x, power) or arithmetic("Pow", x, constant(np.float32(power)))


def _constant_power(x: Tensor, power: float) -> Tensor | None:
    if power == 0:  # Of any number, NaN too.
        return broadcast(constant(1, x.dtype.as_numpy_dtype), x.shape)
    if power in _ROOTS:
        return unary(_ROOTS[power], x)
    if abs(power) in range(1, _MOST_POWER + 1):
        whole = _whole_power(x, int(abs(power)))
        return whole if power > 0 else unary("Reciprocal", whole)
    return None


def _computed_power(x: Tensor, power: Tensor) -> Tensor | None:
    """exp(power * log(x)), of a base of any sign. Read here, for a split hides what of the item is."""
    if (x.is_free and power.is_free) or x.value is not None:
        return None
    none = constant(0, x.dtype.as_numpy_dtype)
    is_positive = bounds_of(x, {})[0] >= 0
    # A difference that is 0 may be a little less in another order.
    found = mul(power, unary("Log", unary("Relu" if is_positive else "Abs", x)))
    if bounds_of(power, {})[0] <= 0:  # x^0 is 1, and 0 times the logarithm of 0 a NaN.
        found = select(compare("Equal", power, none), none, found)
    found = unary("Exp", found)
    return found if is_positive else _signed(found, x, power)


def _signed(size: Tensor, x: Tensor, power: Tensor) -> Tensor:
    """A power, where the base may be below 0 or the negative zero: a NaN of a fraction below 0."""
    none, nothing = (constant(each, x.dtype.as_numpy_dtype) for each in (0, np.nan))
    half, is_below = scaled(power, 0.5), compare("Less", x, none)
    is_whole = compare("Equal", unary("Floor", power), power)
    is_odd = both(is_whole, compare("NotEqual", unary("Floor", half), half))
    is_negative = both(is_odd, either(is_below, compare("Less", unary("Reciprocal", x), none)))
    found = select(is_negative, negated(size), size)
    return select(both(is_below, compare("NotEqual", unary("Floor", power), power)), nothing, found)


def _whole_power(x: Tensor, power: int) -> Tensor:
    """By squares of squares: exp(power * log(x)) has no sign and is not as exact."""
    if power == 1:
        return x
    squared = _whole_power(unary("Square", x), power // 2)
    return mul(squared, x) if power % 2 else squared


POWERS: dict[str, Callable[[Reading], Found]] = {"Pow": power}
