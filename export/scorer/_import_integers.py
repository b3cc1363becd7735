"""Integers of 32 and 64 bits in our form, where a user's meet an item's: compared or subtracted by parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_bits import BITS, bitwise, common_bits
from nann.export.scorer._import_functions import FUNCTIONS, sign_bit
from nann.export.scorer._import_ops import IMPORTS, Found, Reading, bias_of, first_of, integers
from nann.export.scorer._import_scans import SCANS
from nann.export.scorer._integer_parts import (
    TYPES,
    Parts,
    as_float,
    in_two,
    may_wrap,
    number_of,
    parts_of,
    times_wrapped,
    was_float,
)
from nann.export.scorer._ir import Spec, Tensor, constant
from nann.export.scorer._ops import (
    add,
    arithmetic,
    both,
    cast,
    compare,
    either,
    select,
    unary,
)
from nann.export.scorer._whole_numbers import BYTES, MOST_EXACT, fits, is_exact, is_whole


def _both_in_parts(x: Tensor, y: Tensor) -> tuple[Parts, Parts] | None:
    if x.dtype not in TYPES or (x.is_free and y.is_free):
        return None
    mine, theirs = parts_of(x), parts_of(y)
    return None if mine is None or theirs is None else (mine, theirs)


def equality(r: Reading) -> Found:
    """Equal, NotEqual: by all parts, or by any."""
    found = _both_in_parts(*r.inputs)
    if found is None:
        return _beside_small(r)
    first, *others = [compare(r.operation.type, *pair) for pair in zip(*found, strict=True)]
    for each in others:
        first = both(first, each) if r.operation.type == "Equal" else either(first, each)
    return first


def order(r: Reading) -> Found:
    """Less, LessEqual, Greater, GreaterEqual: by the first part from above that differs."""
    is_negative = sign_bit(r) if r.operation.type == "Less" else None
    found = _both_in_parts(*r.inputs) if is_negative is None else None
    if found is None:
        return is_negative or _beside_small(r)
    strictly = r.operation.type.removesuffix("Equal")
    result = compare(r.operation.type, found[0][0], found[1][0])
    for mine, theirs in zip(found[0][1:], found[1][1:], strict=True):
        result = either(compare(strictly, mine, theirs), both(compare("Equal", mine, theirs), result))
    return result


def _beside_small(r: Reading) -> Found:
    """Integers of which one at least is small, such as the most days apart: by their floats."""
    are_integers = all(each.dtype in TYPES for each in r.inputs)
    if not are_integers or not any(map(is_exact, r.inputs)) or all(each.is_free for each in r.inputs):
        return None
    first, second = map(number_of, r.inputs)
    return None if first is None or second is None else compare(r.operation.type, first, second)


def number(r: Reading) -> Found:
    """A difference or a sum as a float, such as how old an item is: of the parts, which are exact.

    By operations of TensorFlow, which are left as they are: sums in our form are taken apart by user and
    item, and a float holds a time in seconds to some hundred of them.
    """
    whole = _as_it_was(r.inputs[0])
    if whole is not None:
        return cast(whole, r.specs[0].dtype)
    x = r.inputs[0]
    is_apart = x.dtype in TYPES and x.is_of_both and not is_exact(x)
    total = number_of(x) if is_apart and r.specs[0].dtype == tf.float32 else None
    return IMPORTS["Cast"](r) if total is None else total


def _as_it_was(x: Tensor) -> Tensor | None:
    """The whole number that is cast to a byte, which it fits into: a program has no bytes, but floats."""
    if x.op != "Cast" or x.dtype not in BYTES or x.inputs[0].dtype != tf.float32:
        return None
    (number,) = x.inputs
    return number if is_whole(number) and fits(number, x.dtype) else None


def quotient(r: Reading) -> Found:
    """FloorDiv by a constant of a difference or a sum, such as the days since an item was new.

    The two are divided each, and the quotient is one less (more) where their remainders say so.
    """
    found = _both_divided(r)
    if found is None or (r.inputs[0].dtype == tf.uint32 and may_wrap(r.inputs[0])):
        return None
    op, quotients, remainders, by = found
    total = number_of(arithmetic(op, *quotients))
    if total is None:
        return None
    if op == "Sub":
        carried = compare("Less", *remainders)
    else:
        carried = compare("GreaterEqual", add(*remainders), constant(by, np.float32))
    return cast(arithmetic(op, total, cast(carried)), r.specs[0].dtype)


def remainder(r: Reading) -> Found:
    """FloorMod by a constant of a difference or a sum, such as a cross of two features as a bucket."""
    found = _both_divided(r)
    if found is None:
        return None
    op, _, (first, second), by = found
    total, x = arithmetic(op, first, second), in_two(r.inputs[0])
    wraps = may_wrap(x)
    if wraps:
        parts = [parts_of(each) for each in x.inputs]
        if parts[0] is None or parts[1] is None or by > MOST_EXACT // 4:
            return None
        beyond = constant(2 ** (8 * x.dtype.size) % by, np.float32)
        total = arithmetic("Sub", total, arithmetic("Mul", times_wrapped(x, parts[0], parts[1]), beyond))
    limit, none = constant(by, np.float32), constant(0, np.float32)
    for _ in range(2 if wraps else 1):
        if wraps or op == "Sub":
            total = select(compare("Less", total, none), add(total, limit), total)
        if wraps or op == "AddV2":
            total = select(compare("Less", total, limit), total, arithmetic("Sub", total, limit))
    return cast(total, r.specs[0].dtype)


def _of_lowest_bits(form: Callable[[Reading], Found]) -> Callable[[Reading], Found]:
    """x & 255, as hashes are put into buckets: the remainder by 256, in a form of FloorMod."""

    def read(r: Reading) -> Found:
        x, mask = r.inputs[0], integers(r.inputs[1])
        if mask is None or len(mask) != 1 or not 0 < mask[0] < MOST_EXACT or r.shape != x.shape:
            return None
        if mask[0] & (mask[0] + 1) or mask[0] >= x.dtype.max:  # Not all of the lowest, or all that it has.
            return None
        return form(replace(r, inputs=(x, constant(mask[0] + 1, x.dtype.as_numpy_dtype))))

    return read


def _remainder_as_it_stands(r: Reading) -> Found:
    return arithmetic("FloorMod", *r.inputs) if r.inputs[0].is_of_both else None


_Pair = tuple[Tensor, Tensor]


def _both_divided(r: Reading) -> tuple[str, _Pair, _Pair, int] | None:
    """Of an item's and a user's integers what joins them, their quotients, and remainders as floats.

    None where a float holds all of them, which is computed as it stands.
    """
    x, by = r.inputs[0], integers(r.inputs[1])
    if x.dtype not in TYPES or x.op not in ("AddV2", "Sub") or by is None or len(by) != 1 or is_exact(x):
        return None
    # Two remainders are added: the sum must be a float too.
    if not x.is_of_both or not 0 < by[0] <= MOST_EXACT // 2:
        return None
    x = in_two(x)
    if not all(each.is_free or each.is_item_only for each in x.inputs):
        return None
    divisor = constant(by[0], x.dtype.as_numpy_dtype)
    first, second = (arithmetic("FloorDiv", each, divisor) for each in x.inputs)
    one, other = (cast(arithmetic("FloorMod", each, divisor)) for each in x.inputs)
    return x.op, (first, second), (one, other), by[0]


def clipped(r: Reading) -> Found:
    """Maximum, Minimum with constants of what is a float, rounded where it is large and not within them."""
    limits = [each for each in r.inputs if each.value is not None]
    if len(limits) != len(r.inputs) - 1 or not r.inputs[0].dtype.is_integer or not all(map(is_exact, limits)):
        return None
    (x,) = (each for each in r.inputs if each.value is None)
    if not x.is_of_both or is_exact(x):
        return None
    is_cut = was_float(x) and x.inputs[0].dtype == tf.float32
    number = x.inputs[0] if is_cut else number_of(x)
    if number is None:
        return None
    floats = [constant(each.value, np.float32) for each in limits]
    if r.operation.type == "ClipByValue":
        number = arithmetic("Maximum", arithmetic("Minimum", number, floats[1]), floats[0])
    else:
        number = arithmetic(r.operation.type, number, floats[0])
    return cast(number, x.dtype)


def _by_floats(form: Callable[[Reading], Found]) -> Callable[[Reading], Found]:
    """Of the item's integers, where no sum is beyond 2^24: the same of floats."""

    def read(r: Reading) -> Found:
        if not r.specs[0].dtype.is_integer or all(each.is_free for each in r.inputs):
            return form(r)
        floats = tuple(as_float(each) for each in r.inputs)
        found = form(replace(r, inputs=floats, specs=(Spec(tf.float32, r.shape),)))
        if not isinstance(found, Tensor) or not is_exact(found) or not fits(found, r.specs[0].dtype):
            return None
        return cast(found, r.specs[0].dtype)

    return read


def sign(r: Reading) -> Found:
    """Of a difference: that of its float, which is 0 for none but 0."""
    (x,) = r.inputs
    number = number_of(x) if x.dtype in TYPES and x.is_of_both else None
    return None if number is None else cast(unary("Sign", number), x.dtype)


def _sum_with_bias(r: Reading) -> Found:
    """Keras adds a vector of integers, such as where each field's ids begin, as a bias."""
    if not r.specs[0].dtype.is_integer:
        return IMPORTS["BiasAdd"](r)
    terms = (r.inputs[0], bias_of(r))
    return INTEGERS["AddV2"](replace(r, inputs=terms)) or arithmetic("AddV2", *terms)


INTEGERS: dict[str, Callable[[Reading], Found]] = {
    **BITS,
    **{op: _by_floats(IMPORTS[op]) for op in ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "MatMul")},
    "BiasAdd": _sum_with_bias,
    "BitwiseAnd": first_of(_of_lowest_bits(remainder), bitwise, _of_lowest_bits(_remainder_as_it_stands)),
    "Cast": number,
    "ClipByValue": clipped,
    **{op: _by_floats(IMPORTS[op]) for op in ("AddV2", "Mul", "Sub")},
    **{op: _by_floats(SCANS[op]) for op in ("Cumprod", "Cumsum")},
    "Equal": first_of(common_bits, equality),
    "FloorDiv": first_of(quotient, FUNCTIONS["FloorDiv"]),
    "FloorMod": first_of(remainder, FUNCTIONS["FloorMod"]),
    "Greater": first_of(common_bits, order),
    "GreaterEqual": order,
    "Less": order,
    "LessEqual": order,
    "Maximum": first_of(clipped, IMPORTS["Maximum"]),
    "Minimum": first_of(clipped, IMPORTS["Minimum"]),
    "NotEqual": first_of(common_bits, equality),
    "Sign": sign,
}
