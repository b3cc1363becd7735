"""Bits of integers, of which some are the user's and some the item's: products of ones and zeros.

So are masks of what an item may be shown for. The ones and zeros are TensorFlow's, computed once per request
or stored in the item table; what is left for each item is one product.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from nann.export.scorer._import_ops import Found, Reading
from nann.export.scorer._ir import Needs, Tensor, constant
from nann.export.scorer._ops import (
    add,
    arithmetic,
    broadcast,
    cast,
    compare,
    mul,
    negated,
    reduce_,
    reshape,
    scaled,
)
from nann.export.scorer._whole_numbers import MOST_EXACT, bounds_of

_Pair = tuple[Tensor, Tensor]
Weights = npt.NDArray[np.float32]


def bitwise(r: Reading) -> Found:
    """BitwiseAnd, BitwiseOr, BitwiseXor, where the result is a float's whole number."""
    if r.operation.type == "BitwiseAnd":
        found = _chosen_bit(r) or _lowest_bits(r)
        if found is not None:
            return found
    pair = _apart(*r.inputs)
    return None if pair is None else _number(r.operation.type, pair)


def _number(op: str, pair: _Pair) -> Tensor | None:
    """What a bitwise operation makes of integers; None of such as no float may hold."""
    bounds = [bounds_of(each, {}) for each in pair]
    limits = [most for least, most in bounds if least >= 0]
    if len(limits) < (1 if op == "BitwiseAnd" else 2):
        return None
    limit = min(limits) if op == "BitwiseAnd" else max(limits)
    if limit >= MOST_EXACT:
        return None
    common = _common(pair, 2.0 ** np.arange(max(int(limit).bit_length(), 1)))
    if op != "BitwiseAnd":
        counted_twice = scaled(common, 2.0 if op == "BitwiseXor" else 1.0)
        common = add(*map(cast, pair), negated(counted_twice))
    return cast(common, pair[0].dtype)


def common_bits(r: Reading) -> Found:
    """What is asked of BitwiseAnd, whatever its size: is it 0, above 0, or all of one side's bits?"""
    x, other = r.inputs
    pair = _apart(*x.inputs) if x.op == "BitwiseAnd" else None
    if pair is None:
        return None
    weights = np.ones(8 * x.dtype.size)
    if other.value is not None and not other.value.any():
        if r.operation.type == "Greater" and not x.dtype.is_unsigned:
            weights[-1] = -len(weights)  # The sign: what is common is negative, whatever its other bits.
        common = broadcast(_common(pair, weights), r.shape)
        return compare(r.operation.type, common, constant(0, np.float32))
    if other not in x.inputs or r.operation.type == "Greater":
        return None
    count = reduce_(_bits(other, len(weights)), "Sum", [-1])
    return compare(r.operation.type, _common(pair, weights), count)


def counted_bits(r: Reading) -> Found:
    """PopulationCount of what is common to both, or of where they differ, as hashes are compared."""
    (x,) = r.inputs
    pair = _apart(*x.inputs) if x.op in ("BitwiseAnd", "BitwiseXor") else None
    if pair is None:
        return None
    if x.op == "BitwiseAnd":
        return cast(_common(pair, np.ones(8 * x.dtype.size)), r.specs[0].dtype)
    differ = compare("NotEqual", *(_bits(each, 8 * x.dtype.size) for each in pair))
    return cast(reduce_(cast(differ), "Sum", [-1]), r.specs[0].dtype)


def shifted(r: Reading) -> Found:
    """RightShift by a constant: of each side of a bitwise operation, or a quotient by a power of two."""
    x, by = r.inputs
    if by.value is None or by.size != 1 or not x.is_of_both or r.shape != x.shape:
        return None
    place = int(by.value.item())
    if not 0 <= place < 8 * x.dtype.size - 1:
        return None
    pair = _apart(*x.inputs) if x.op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor") else None
    if pair is None:
        return arithmetic("FloorDiv", x, constant(2**place, x.dtype.as_numpy_dtype))
    one, other = (arithmetic("RightShift", each, reshape(by, ())) for each in pair)
    return _number(x.op, (one, other)) or arithmetic(x.op, one, other)


def _chosen_bit(r: Reading) -> Found:
    """RightShift & 1: the bit whose place the other side says. Places beyond are those at the ends."""
    shifted = next((each for each in r.inputs if each.op == "RightShift"), None)
    if shifted is None or not any(each.value is not None and (each.value == 1).all() for each in r.inputs):
        return None
    pair = _apart(*shifted.inputs)
    if pair is None:
        return None
    places = np.arange(8 * shifted.dtype.size, dtype=shifted.dtype.as_numpy_dtype)
    bits, place = _bits(pair[0], len(places)), pair[1]
    for limit, op in ((places[0], "Maximum"), (places[-1], "Minimum")):
        place = arithmetic(op, place, constant(limit))
    is_place = compare("Equal", reshape(place, (*place.shape, 1)), constant(places))
    found = reduce_(mul(bits, cast(is_place)), "Sum", [-1])
    return cast(broadcast(found, r.shape), r.specs[0].dtype)


def _lowest_bits(r: Reading) -> Found:
    """(x ^ y) & 255, as hashes are put into buckets: of each side only those bits count."""
    x, mask = r.inputs
    pair = _apart(*x.inputs) if x.op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor") else None
    if pair is None or mask.value is None or mask.size != 1:
        return None
    lowest = [arithmetic("BitwiseAnd", each, reshape(mask, ())) for each in pair]
    found = _number(x.op, (lowest[0], lowest[1]))
    return None if found is None else broadcast(found, r.shape)


def _apart(*sides: Tensor) -> _Pair | None:
    """An item's and a user's integers, in their order and of one rank; None of others."""
    if {each.needs for each in sides} != {Needs.ITEM, Needs.USER} or len(sides) != 2:
        return None
    rank = max(each.rank for each in sides)
    first, second = (reshape(each, (1,) * (rank - each.rank) + each.shape) for each in sides)
    return first, second


def _common(pair: _Pair, weights: Weights) -> Tensor:
    """The weights of the bits that both have, in all."""
    bits = [_bits(each, len(weights)) for each in pair]
    return reduce_(mul(*bits, constant(weights, np.float32)), "Sum", [-1])


def _bits(x: Tensor, count: int) -> Tensor:
    """Ones and zeros, float32 [..., count], the lowest bit first."""
    dtype = x.dtype.as_numpy_dtype
    shifted = arithmetic("RightShift", reshape(x, (*x.shape, 1)), constant(np.arange(count, dtype=dtype)))
    return cast(arithmetic("BitwiseAnd", shifted, constant(1, dtype)))


BITS: dict[str, Callable[[Reading], Found]] = {
    **dict.fromkeys(("BitwiseAnd", "BitwiseOr", "BitwiseXor"), bitwise),
    "PopulationCount": counted_bits,
    "RightShift": shifted,
}
