"""Sums and products along an axis, step by step or by segments, in our form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nann.export.scorer._import_moves import is_repeated_range
from nann.export.scorer._import_ops import Found, Reading, integers
from nann.export.scorer._infinities import may_be_infinite
from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._ops import (
    add,
    broadcast,
    compare,
    concat,
    dot_along,
    maximum,
    mul,
    negated,
    reduce_,
    reshape,
    select,
    transpose,
    unary,
)
from nann.export.scorer._slices import part_of, resized, taken

# Along the axis; what is the user's alone is left to TensorFlow, as histories of any length are.
_MOST_SUMS, _MOST_FACTORS = 256, 64
_OF_NOTHING = {"Prod": 1, "Sum": 0}
SEGMENTS = {
    "SegmentMax": "Max", "SegmentMaxV2": "Max", "SegmentMean": "Mean", "SegmentMin": "Min",
    "SegmentMinV2": "Min", "SegmentSum": "Sum", "SegmentSumV2": "Sum", "UnsortedSegmentMax": "Max",
    "UnsortedSegmentMin": "Min", "UnsortedSegmentProd": "Prod", "UnsortedSegmentSum": "Sum",
}  # fmt: skip


def cumulative_sum(r: Reading) -> Found:
    """A product with a triangle of ones."""
    x, axis = r.inputs[0], _axis(r)
    if axis is None or x.shape[axis] > _MOST_SUMS or may_be_infinite(x):
        return None
    before, after = np.indices((x.shape[axis],) * 2)
    if r.attr("reverse"):
        before, after = after, before
    summed = before < after if r.attr("exclusive") else before <= after
    return dot_along(x, axis, constant(summed, x.dtype.as_numpy_dtype))


def cumulative_product(r: Reading) -> Found:
    return _accumulated(r, mul, 1)


def cumulative_log_sum(r: Reading) -> Found:
    """Of exponentials, none of which is computed alone."""
    return _accumulated(r, _log_sum, np.finfo(np.float32).min)


def _log_sum(x: Tensor, y: Tensor) -> Tensor:
    """max(x, y) + log(1 + exp(-|x - y|)); two infinities are equal."""
    apart = unary("Abs", add(x, negated(y)))
    apart = select(compare("Equal", x, y), constant(0, np.float32), apart)
    return add(maximum(x, y), unary("Log1p", unary("Exp", negated(apart))))


def _accumulated(r: Reading, of_two: Callable[[Tensor, Tensor], Tensor], none: float) -> Found:
    """Of the last 2, 4, 8 ... numbers, until these are all. none: what changes no number."""
    x, axis = r.inputs[0], _axis(r)
    if axis is None or x.shape[axis] > _MOST_FACTORS:
        return None
    is_reversed, n = r.attr("reverse"), x.shape[axis]
    if r.attr("exclusive"):
        x = _shifted(x, axis, 1, none, is_reversed=is_reversed)
    distance = 1
    while distance < n:
        x = of_two(x, _shifted(x, axis, distance, none, is_reversed=is_reversed))
        distance *= 2
    return x


def _axis(r: Reading) -> int | None:
    x, axes = r.inputs[0], integers(r.inputs[1])
    return None if axes is None or x.is_free or not r.is_exact_enough else axes[0] % x.rank


def _shifted(x: Tensor, axis: int, by: int, none: float, *, is_reversed: bool) -> Tensor:
    """What stands so far before each, and `none` where nothing does."""
    nothing = broadcast(constant(none, x.dtype.as_numpy_dtype), resized(x, axis, by))
    kept = part_of(x, axis, by if is_reversed else 0, x.shape[axis] - by)
    return concat([kept, nothing] if is_reversed else [nothing, kept], axis)


def product(r: Reading) -> Found:
    x, axes = r.inputs[0], integers(r.inputs[1])
    if axes is None:
        return None
    if x.is_free or not r.is_exact_enough or 0 in x.shape:
        return reshape(reduce_(x, "Prod", axes), r.shape)
    for axis in (each % x.rank for each in axes):
        x = _product_along(x, axis)
    return reshape(x, r.shape)


def _product_along(x: Tensor, axis: int) -> Tensor:
    """Of halves with each other, until one number is left."""
    odd = []
    while (n := x.shape[axis]) > 1:
        if n % 2:
            odd.append(part_of(x, axis, n - 1, 1))
        x = mul(part_of(x, axis, 0, n // 2), part_of(x, axis, n // 2, n // 2))
    return mul(x, *odd) if odd else x


def _reduced(x: Tensor, function: str, axis: int) -> Tensor:
    if function != "Prod":
        return reduce_(x, function, [axis])
    return reshape(_product_along(x, axis), [n for each, n in enumerate(x.shape) if each != axis])


def segments(r: Reading) -> Found:
    """Reductions of rows whose segments are constant; of a segment without rows a sum or a product."""
    x, where, function = r.inputs[0], r.inputs[1].value, SEGMENTS[r.operation.type]
    if where is None or where.ndim != 1 or where.size == 0 or x.is_free or not r.is_exact_enough:
        return None
    counts = integers(r.inputs[2]) if len(r.inputs) == 3 else [int(where.max()) + 1]
    if counts is None:
        return None
    if is_repeated_range(where, counts[0]):  # Rows of equally many events, as of items.
        rows = reshape(x, (counts[0], where.size // counts[0], *x.shape[1:]))
        return _reduced(rows, function, 1)
    if counts[0] > _MOST_FACTORS:
        return None
    # Rows are mostly events that were brought to the front: they are taken from where they were.
    perm = x.node.attrs["perm"] if x.op == "transpose" else range(x.rank)
    x, axis = (x.inputs[0] if x.op == "transpose" else x), perm[0]
    one = resized(x, axis, 1)
    parts = []
    for segment in range(counts[0]):
        rows = np.flatnonzero(where == segment).tolist()
        if not rows and function not in _OF_NOTHING:
            return None
        part = taken(x, axis, rows) if rows else constant(np.full(one, _OF_NOTHING[function], np.float32))
        if part is None:
            return None
        parts.append(reshape(_reduced(part, function, axis), one))
    return transpose(concat(parts, axis), perm)


SCANS: dict[str, Callable[[Reading], Found]] = {
    "Cumprod": cumulative_product,
    "Cumsum": cumulative_sum,
    "CumulativeLogsumexp": cumulative_log_sum,
    "Prod": product,
    **dict.fromkeys(SEGMENTS, segments),
}
