"""Integers of 32 and 64 bits in our form, where a user's meet an item's: compared or subtracted by parts.

Item state has each as three floats (nann.export.item_rows), for one float holds no more than 24 bits. The
user's are taken apart alike, once per request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from nann.export.item_rows import PART_BITS
from nann.export.scorer._import_functions import FUNCTIONS, sign_bit
from nann.export.scorer._import_ops import IMPORTS, Found, Reading, integers
from nann.export.scorer._import_scans import SCANS
from nann.export.scorer._ir import Spec, Tensor, constant, topological
from nann.export.scorer._ops import (
    add,
    arithmetic,
    both,
    cast,
    compare,
    either,
    rebuilt,
    reduce_,
    reshape,
    select,
    unary,
)
from nann.export.scorer._whole_numbers import MOST_EXACT, is_exact, is_exact_arithmetic

_TYPES = (tf.int32, tf.int64, tf.uint32)
_MOVED = ("broadcast", "concat", "reshape", "slice", "transpose")
_MASK = 2**PART_BITS - 1

# The low bits first; each part as float32.
_Parts = Sequence[Tensor]


def parts_of(x: Tensor) -> _Parts | None:
    """None of what is computed of the user and the item."""
    if x.value is not None:
        whole = x.value.astype(np.int64)
        shifted = [whole & _MASK, whole >> PART_BITS & _MASK, whole >> 2 * PART_BITS]
        return [constant(each, np.float32) for each in shifted]
    if x.is_free:
        return _cut(x)
    if x.op in _MOVED:
        moved = [parts_of(each) for each in x.inputs]
        known = [each for each in moved if each is not None]
        if len(known) < len(moved):
            return None
        results = [rebuilt(x, each) for each in zip(*known, strict=True)]
        return [each for each in results if each is not None]
    if x.op == "Cast" and x.inputs[0].dtype in _TYPES:
        inner = x.inputs[0]
        # The cast to the type that item state declares loses nothing; others may.
        found = _stored(inner) or (parts_of(inner) if inner.dtype.size <= x.dtype.size else None)
    else:
        found = _stored(x)
    return _cut(x) if found is None and x.is_item_only and not _is_of_floats(x) else found


def _is_of_floats(x: Tensor) -> bool:
    """Whether it is made of floats that were cut off, in which no bit is lost: it is compared as it is."""

    def is_known(each: Tensor) -> bool:
        return was_float(each) or each.value is not None or not each.dtype.is_integer

    computed = topological([x], stop=is_known)
    return all(node.op in (*_MOVED, "Cast") or is_exact_arithmetic(Tensor(node)) for node in computed)


def _cut(x: Tensor) -> _Parts:
    """By TensorFlow: of the user's, and of what is computed of an item's, which is stored."""
    wide = x if x.dtype == tf.int64 else cast(x, tf.int64)
    middle, high = (
        arithmetic("RightShift", wide, constant(by, np.int64)) for by in (PART_BITS, 2 * PART_BITS)
    )
    mask = constant(_MASK, np.int64)
    low, middle = (arithmetic("BitwiseAnd", each, mask) for each in (wide, middle))
    return [cast(each) for each in (low, middle, high)]


def _stored(x: Tensor) -> _Parts | None:
    """low + (middle + high * 2^22) * 2^22, as nann.export.item_state puts it together."""
    low, rest = _sum_of(x)
    middle, high = _sum_of(_factor_of(rest))
    parts = [low, middle, _factor_of(high)]
    found = [each.inputs[0] for each in parts if each is not None and _is_part(each)]
    return found if len(found) == len(parts) else None


def _sum_of(x: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    return (x.inputs[0], x.inputs[1]) if x is not None and x.op == "AddV2" else (None, None)


def _factor_of(x: Tensor | None) -> Tensor | None:
    """Of a multiple of 2^22."""
    if x is None or x.op != "Mul" or x.inputs[1].value is None:
        return None
    return x.inputs[0] if (x.inputs[1].value == 2**PART_BITS).all() else None


def _is_part(x: Tensor) -> bool:
    return x.op == "Cast" and x.inputs[0].op == "slice" and x.inputs[0].dtype == tf.float32


def _both_in_parts(x: Tensor, y: Tensor) -> tuple[_Parts, _Parts] | None:
    if x.dtype not in _TYPES or (x.is_free and y.is_free):
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
    """An integer of user and item beside a small constant, such as the most days apart: by their floats."""
    floats = []
    for each in r.inputs:
        is_small = each.value is not None and each.dtype in _TYPES and is_exact(each)
        is_apart = each.dtype in _TYPES and not (each.is_free or each.is_item_only or is_exact(each))
        floats.append(_as_float(each) if is_small else number_of(each) if is_apart else None)
    first, second = floats
    return None if first is None or second is None else compare(r.operation.type, first, second)


def number(r: Reading) -> Found:
    """A difference or a sum as a float, such as how old an item is: of the parts, which are exact.

    By operations of TensorFlow, which are left as they are: sums in our form are taken apart by user and
    item, and a float holds a time in seconds to some hundred of them.
    """
    count = _count_of_bits(r.inputs[0])
    if count is not None:
        return cast(count, r.specs[0].dtype)
    x = r.inputs[0]
    is_apart = x.dtype in _TYPES and not x.is_free and not x.is_item_only and not is_exact(x)
    total = number_of(x) if is_apart and r.specs[0].dtype == tf.float32 else None
    return IMPORTS["Cast"](r) if total is None else total


def _count_of_bits(x: Tensor) -> Tensor | None:
    """The sum that `bits_apart` casts to a byte, which it fits into: a program has no bytes, but floats."""
    if x.op != "Cast" or x.dtype != tf.uint8:
        return None
    count = x.inputs[0]
    if count.op != "reduce" or count.node.attrs["function"] != "Sum":
        return None
    (counted,) = count.inputs
    are_bits = counted.op == "Cast" and counted.inputs[0].dtype == tf.bool
    return count if are_bits and counted.size <= count.size * tf.uint8.max else None


def number_of(x: Tensor) -> Tensor | None:
    """An integer of user and item as a float: exact up to 2^24, rounded beyond. None where no way is known.

    Sums are added part by part, so that large terms may make a small sum. What keeps the order of integers is
    computed of their floats.
    """
    if was_float(x) or is_exact(x):
        return _as_float(x)
    parts = _parts_of_sum(x)
    if parts is not None:
        return _put_together(parts)
    if x.op not in ("Abs", "Maximum", "Minimum", "SelectV2", *_MOVED) and not _is_extreme(x):
        return None
    found = [number_of(each) for each in x.inputs[1 if x.op == "SelectV2" else 0 :]]
    numbers = [each for each in found if each is not None]
    if len(numbers) < len(found):
        return None
    if x.op == "Abs":
        return unary("Abs", numbers[0])
    if x.op == "SelectV2":
        return select(x.inputs[0], *numbers)
    return rebuilt(x, numbers) or arithmetic(x.op, *numbers)


def _put_together(parts: _Parts) -> Tensor:
    """low + (middle + high * 2^22) * 2^22."""
    total = parts[-1]
    for part in parts[-2::-1]:
        if total.value is None or total.value.any():
            higher = arithmetic("Mul", total, constant(2.0**PART_BITS, np.float32))
            part = arithmetic("AddV2", higher, part)
        total = part
    return total


def was_float(x: Tensor) -> bool:
    return x.op == "Cast" and x.inputs[0].dtype.is_floating


def _is_extreme(x: Tensor) -> bool:
    return x.op == "reduce" and x.node.attrs["function"] in ("Max", "Min")


def _parts_of_sum(x: Tensor) -> _Parts | None:
    parts = parts_of(x) if x.dtype in _TYPES else None
    if parts is not None:
        return parts
    if x.op in ("AddV2", "Sub"):
        first, second = map(_parts_of_sum, x.inputs)
        if first is None or second is None:
            return None
        return [arithmetic(x.op, *pair) for pair in zip(first, second, strict=True)]
    if x.op == "Mul" and any(each.value is not None and each.size == 1 for each in x.inputs):
        x, factor = x.inputs if x.inputs[1].value is not None else x.inputs[::-1]
        parts = _parts_of_sum(x)
        return parts and [arithmetic("Mul", part, constant(factor.value, np.float32)) for part in parts]
    if was_float(x) or is_exact(x):
        none = constant(0, np.float32)
        return [_as_float(x), none, none]
    return None


def quotient(r: Reading) -> Found:
    """FloorDiv by a constant of a difference or a sum, such as the days since an item was new.

    The two are divided each, and the quotient is one less (more) where their remainders say so.
    """
    found = _both_divided(r)
    if found is None:
        return None
    quotients, remainders, by = found
    op = r.inputs[0].op
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
    _, (first, second), by = found
    limit = constant(by, np.float32)
    if r.inputs[0].op == "Sub":
        total = arithmetic("Sub", first, second)
        total = select(compare("Less", total, constant(0, np.float32)), add(total, limit), total)
    else:
        total = add(first, second)
        total = select(compare("Less", total, limit), total, arithmetic("Sub", total, limit))
    return cast(total, r.specs[0].dtype)


_Pair = tuple[Tensor, Tensor]


def _both_divided(r: Reading) -> tuple[_Pair, _Pair, int] | None:
    """Quotients of an item's and a user's integers that are added or subtracted, and remainders as floats.

    None where a float holds all of them, which is computed as it stands.
    """
    x, by = r.inputs[0], integers(r.inputs[1])
    if x.dtype not in _TYPES or x.op not in ("AddV2", "Sub") or by is None or len(by) != 1 or is_exact(x):
        return None
    # Two remainders are added: the sum must be a float too.
    is_each_alone = all(each.is_free or each.is_item_only for each in x.inputs)
    if not is_each_alone or x.is_free or x.is_item_only or not 0 < by[0] <= MOST_EXACT // 2:
        return None
    divisor = constant(by[0], x.dtype.as_numpy_dtype)
    first, second = (arithmetic("FloorDiv", each, divisor) for each in x.inputs)
    one, other = (cast(arithmetic("FloorMod", each, divisor)) for each in x.inputs)
    return (first, second), (one, other), by[0]


def clipped(r: Reading) -> Found:
    """Maximum, Minimum with constants of what is a float, rounded where it is large and not within them."""
    limits = [each for each in r.inputs if each.value is not None]
    if len(limits) != len(r.inputs) - 1 or not r.inputs[0].dtype.is_integer or not all(map(is_exact, limits)):
        return None
    (x,) = (each for each in r.inputs if each.value is None)
    if x.is_free or x.is_item_only or is_exact(x):
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


def bits_apart(r: Reading) -> Found:
    """PopulationCount of BitwiseXor of the user's and the item's, as hashes are compared: by their bits."""
    (x,) = r.inputs
    sides = x.inputs if x.op == "BitwiseXor" else ()
    if len(sides) != 2 or {each.is_free for each in sides} != {True, False}:
        return None
    if not all(each.is_free or each.is_item_only for each in sides):
        return None
    shape = np.broadcast_shapes(*(each.shape for each in sides))
    one, other = (_bits(reshape(each, (1,) * (len(shape) - each.rank) + each.shape)) for each in sides)
    differ = compare("NotEqual", one, other)
    return cast(reduce_(cast(differ), "Sum", [-1]), r.specs[0].dtype)


def _bits(x: Tensor) -> Tensor:
    """Ones and zeros, float32 [..., bits]: by TensorFlow, once per request or in the item table."""
    places = np.arange(8 * x.dtype.size, dtype=x.dtype.as_numpy_dtype)
    shifted = arithmetic("RightShift", reshape(x, (*x.shape, 1)), constant(places))
    return cast(arithmetic("BitwiseAnd", shifted, constant(1, x.dtype.as_numpy_dtype)))


def _first_of(*forms: Callable[[Reading], Found]) -> Callable[[Reading], Found]:
    """The first form that there is."""

    def read(r: Reading) -> Found:
        return next((found for form in forms if (found := form(r)) is not None), None)

    return read


def _by_floats(form: Callable[[Reading], Found]) -> Callable[[Reading], Found]:
    """Of the item's integers, where no sum is beyond 2^24: the same of floats."""

    def read(r: Reading) -> Found:
        if not r.specs[0].dtype.is_integer or all(each.is_free for each in r.inputs):
            return form(r)
        floats = tuple(_as_float(each) for each in r.inputs)
        found = form(replace(r, inputs=floats, specs=(Spec(tf.float32, r.shape),)))
        if not isinstance(found, Tensor) or not is_exact(found):
            return None
        return cast(found, r.specs[0].dtype)

    return read


def _as_float(x: Tensor) -> Tensor:
    return cast(x) if x.value is None else constant(x.value, np.float32)


INTEGERS: dict[str, Callable[[Reading], Found]] = {
    **{op: _by_floats(IMPORTS[op]) for op in ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "MatMul")},
    "Cast": number,
    "ClipByValue": clipped,
    "Cumsum": _by_floats(SCANS["Cumsum"]),
    "Equal": equality,
    "FloorDiv": _first_of(quotient, FUNCTIONS["FloorDiv"]),
    "FloorMod": _first_of(remainder, FUNCTIONS["FloorMod"]),
    "Greater": order,
    "GreaterEqual": order,
    "Less": order,
    "LessEqual": order,
    "Maximum": _first_of(clipped, IMPORTS["Maximum"]),
    "Minimum": _first_of(clipped, IMPORTS["Minimum"]),
    "NotEqual": equality,
    "PopulationCount": bits_apart,
}
