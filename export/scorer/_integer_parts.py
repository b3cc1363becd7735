"""Integers of 32 and 64 bits as three floats each, which hold all of their bits, and as one that may round.

Item state has each as three floats (nann.export.item_rows), for one float holds no more than 24 bits. The
user's are taken apart alike, once per request.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from nann.export.item_rows import PART_BITS
from nann.export.scorer._ir import Tensor, constant, topological
from nann.export.scorer._ops import MOVED, arithmetic, cast, is_extreme, rebuilt, select, unary
from nann.export.scorer._whole_numbers import bounds_of, is_exact, is_exact_arithmetic

TYPES = (tf.int32, tf.int64, tf.uint32)
_MASK = 2**PART_BITS - 1

# The low bits first; each part as float32.
Parts = Sequence[Tensor]


def parts_of(x: Tensor) -> Parts | None:
    """None of what is computed of the user and the item."""
    if x.value is not None:
        whole = x.value.astype(np.int64)
        shifted = [whole & _MASK, whole >> PART_BITS & _MASK, whole >> 2 * PART_BITS]
        return [constant(each, np.float32) for each in shifted]
    if x.is_free:
        return _cut(x)
    if x.op in MOVED:
        moved = [parts_of(each) for each in x.inputs]
        known = [each for each in moved if each is not None]
        if len(known) < len(moved):
            return None
        results = [rebuilt(x, each) for each in zip(*known, strict=True)]
        return [each for each in results if each is not None]
    if x.op == "Cast" and x.inputs[0].dtype in TYPES:
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
    return all(node.op in (*MOVED, "Cast") or is_exact_arithmetic(Tensor(node)) for node in computed)


def _cut(x: Tensor) -> Parts:
    """By TensorFlow: of the user's, and of what is computed of an item's, which is stored."""
    wide = x if x.dtype == tf.int64 else cast(x, tf.int64)
    middle, high = (
        arithmetic("RightShift", wide, constant(by, np.int64)) for by in (PART_BITS, 2 * PART_BITS)
    )
    mask = constant(_MASK, np.int64)
    low, middle = (arithmetic("BitwiseAnd", each, mask) for each in (wide, middle))
    return [cast(each) for each in (low, middle, high)]


def _stored(x: Tensor) -> Parts | None:
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


def number_of(x: Tensor) -> Tensor | None:
    """An integer of user and item as a float: exact up to 2^24, rounded beyond. None where no way is known.

    Sums are added part by part, so that large terms may make a small sum. What keeps the order of integers is
    computed of their floats.
    """
    if was_float(x) or is_exact(x):
        return as_float(x)
    parts = _parts_of_sum(x)
    if parts is not None:
        return _put_together(parts)
    if x.op in ("AddV2", "Sub") and any(map(is_exact, x.inputs)):
        first, second = map(number_of, x.inputs)
        return None if first is None or second is None else arithmetic(x.op, first, second)
    if x.op not in ("Abs", "Maximum", "Minimum", "SelectV2", *MOVED) and not is_extreme(x):
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


def _put_together(parts: Parts) -> Tensor:
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


def _parts_of_sum(x: Tensor) -> Parts | None:
    parts = parts_of(x) if x.dtype in TYPES else None
    if parts is not None:
        return parts
    if x.op in ("AddV2", "Sub"):
        first, second = map(_parts_of_sum, x.inputs)
        if first is None or second is None:
            return None
        return _sum_of_parts(x, first, second)
    if x.op == "Mul" and any(each.value is not None and each.size == 1 for each in x.inputs):
        total, factor = x.inputs if x.inputs[1].value is not None else x.inputs[::-1]
        if total.op in ("AddV2", "Sub"):  # Each term of one side, whose bits are all kept.
            return _parts_of_sum(
                arithmetic(total.op, *(arithmetic("Mul", each, factor) for each in total.inputs))
            )
    if was_float(x) or is_exact(x):
        none = constant(0, np.float32)
        return [as_float(x), none, none]
    return None


def _sum_of_parts(x: Tensor, first: Parts, second: Parts) -> Parts:
    """Of the highest part that the type has, what is beyond it is taken away."""
    parts = [arithmetic(x.op, *pair) for pair in zip(first, second, strict=True)]
    if may_wrap(x):
        at, bits = _highest_part(x.dtype)
        times = arithmetic("Mul", times_wrapped(x, first, second), constant(2.0**bits, np.float32))
        parts[at] = arithmetic("Sub", parts[at], times)
    return parts


def may_wrap(x: Tensor) -> bool:
    """Whether a sum or a difference may be beyond its type: then it begins at the other end, as hashes do.

    A difference of numbers as they are, such as times, is not: they would have to be half of all apart.
    """
    least, most = bounds_of(x, {})
    if x.op not in ("AddV2", "Sub") or (x.dtype.min <= least and most <= x.dtype.max):
        return False
    is_scaled = any(term.op in ("LeftShift", "Mul", "Square") for term, _ in _terms(x))
    return x.op == "AddV2" or x.dtype == tf.uint32 or is_scaled


def times_wrapped(x: Tensor, first: Parts, second: Parts) -> Tensor:
    """How often 2^32 or 2^64 is taken from a sum of two numbers: once, not at all, or -1 times."""
    low, middle, high = (arithmetic(x.op, *pair) for pair in zip(first, second, strict=True))
    middle = arithmetic("AddV2", middle, _shares(low, 2.0**PART_BITS))
    at, bits = _highest_part(x.dtype)
    if at == 2:
        upper = arithmetic("AddV2", high, _shares(middle, 2.0**PART_BITS))
    else:
        upper = arithmetic("AddV2", middle, arithmetic("Mul", high, constant(2.0**PART_BITS, np.float32)))
    if not x.dtype.is_unsigned:
        upper = arithmetic("AddV2", upper, constant(2.0 ** (bits - 1), np.float32))
    return _shares(upper, 2.0**bits)


def _highest_part(dtype: tf.DType) -> tuple[int, int]:
    """Which part has the highest bits of a type, and how many they are."""
    at = (8 * dtype.size - 1) // PART_BITS
    return at, 8 * dtype.size - at * PART_BITS


def _shares(x: Tensor, of: float) -> Tensor:
    """The quotient by a power of two, rounded down."""
    return unary("Floor", arithmetic("Mul", x, constant(1 / of, np.float32)))


def in_two(x: Tensor) -> Tensor:
    """A sum of several integers as the item's plus the user's; as it is where a term is of both."""
    terms = _terms(x)
    item = [term for term in terms if term[0].is_item_only]
    user = [term for term in terms if term[0].is_free]
    if len(terms) == 2 or len(item) + len(user) < len(terms) or not item or not user:
        return x
    totals = [_total(side) for side in (item, user)]
    return arithmetic("AddV2", *totals)


def _terms(x: Tensor) -> list[tuple[Tensor, bool]]:
    """The terms of a sum, and whether each is subtracted."""
    if x.op not in ("AddV2", "Sub"):
        return [(x, False)]
    first, second = map(_terms, x.inputs)
    return [*first, *((each, is_taken != (x.op == "Sub")) for each, is_taken in second)]


def _total(terms: Sequence[tuple[Tensor, bool]]) -> Tensor:
    total, is_taken = terms[0]
    if is_taken:
        total = arithmetic("Sub", constant(0, total.dtype.as_numpy_dtype), total)
    for each, is_taken in terms[1:]:
        total = arithmetic("Sub" if is_taken else "AddV2", total, each)
    return total


def as_float(x: Tensor) -> Tensor:
    return cast(x) if x.value is None else constant(x.value, np.float32)
