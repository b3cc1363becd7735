"""What the user's integers choose along an axis of the item's tensors, in our form: places and segments.

Such are the last event that there is, the event at a place of the user's, and sums over the events of each
session. All items have the same places, so these are a matrix of ones and zeros in the user's part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_choices import CHOICES, is_chosen
from nann.export.scorer._import_moves import MOVES
from nann.export.scorer._import_ops import IMPORTS, Found, Reading, first_of, integers
from nann.export.scorer._import_scans import SCANS, SEGMENTS
from nann.export.scorer._infinities import may_be_infinite
from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._narrow import narrow_of
from nann.export.scorer._ops import (
    arithmetic,
    axis_last,
    behind_reshape,
    cast,
    compare,
    dot_along,
    reduce_,
    reshape,
    select,
    transpose,
    turned,
)
from nann.export.scorer._slices import part_of, taken

# Pairs of a row and a place or a segment. Each is a term of a product, or looked at where the largest is
# wanted; of more TensorFlow's own copy takes less time.
_MOST_PAIRS = 4096


def _at(x: Tensor, axis: int, index: Tensor) -> Tensor | None:
    """x[..., index, ...] at integers [k] of the user."""
    if (found := _at_one_of_two(x, axis, index)) is not None:
        return found
    is_users = index.is_free and index.value is None and index.dtype.is_integer
    if x.is_free or not is_users or x.dtype != tf.float32 or index.size * x.shape[axis] > _MOST_PAIRS:
        return None
    return _sums(x, axis, is_chosen(index, x.shape[axis]))


def _at_one_of_two(x: Tensor, axis: int, index: Tensor) -> Tensor | None:
    """The same at one of two constants: a branch that is not taken reads another place, which is there."""
    index = behind_reshape(index)
    if index.op != "SelectV2" or index.size != 1 or any(each.value is None for each in index.inputs[1:]):
        return None
    places = [int(each.value.item()) for each in index.inputs[1:] if each.value is not None]
    if not all(0 <= place < x.shape[axis] for place in places):
        return None
    return select(reshape(index.inputs[0], ()), *(part_of(x, axis, place, 1) for place in places))


def _sums(x: Tensor, axis: int, chosen: Tensor) -> Tensor:
    """Of what is chosen along an axis, by bool [k, n]: [..., n, ...] -> [..., k, ...]."""
    if not may_be_infinite(x):
        return dot_along(x, axis, turned(cast(chosen)))
    perm, back = axis_last(x.rank, axis)
    return transpose(reduce_(_where(x, perm, chosen, 0.0), "Sum", [-1]), back)


def _where(x: Tensor, perm: Sequence[int], chosen: Tensor, none: float) -> Tensor:
    """[..., k, n]: what is chosen of the last axis of `x` turned by `perm`, and `none` elsewhere."""
    rows = transpose(x, perm)
    return select(chosen, reshape(rows, (*rows.shape[:-1], 1, rows.shape[-1])), constant(none, np.float32))


def gathered(r: Reading) -> Found:
    """GatherV2 along any axis, at places that are the same for all items."""
    x, index, axes = r.inputs[0], r.inputs[1], integers(r.inputs[2])
    if axes is None or r.attr("batch_dims"):
        return None
    found = _at(x, axes[0] % x.rank, reshape(index, (index.size,)))
    return None if found is None else reshape(found, r.shape)


def gathered_in_rows(r: Reading) -> Found:
    """GatherV2 in a batch: of each row at constant places of its own, as a distance of positions has them."""
    x, index, axes = r.inputs[0], narrow_of(r.inputs[1]), integers(r.inputs[2])
    axis = r.attr("batch_dims") % (index.rank + 1)
    first = next((each for each in range(axis) if index.shape[each] > 1), axis)
    if axes is None or x.is_free or index.value is None or not 0 < first <= axis == axes[0] % x.rank:
        return None
    n, rows = x.shape[axis], x.shape[first:axis]
    shape = (*rows, math.prod(r.shape[axis : index.rank]))
    places = np.broadcast_to(index.value, r.inputs[1].shape)[(0,) * first].reshape(shape)
    if places.size == 0 or not 0 <= places.min() <= places.max() < n:
        return None
    merged = reshape(x, (*x.shape[:first], math.prod(rows) * n, *x.shape[axis + 1 :]))
    at = (places.reshape(-1, shape[-1]) + n * np.arange(math.prod(rows))[:, np.newaxis]).ravel()
    found = taken(merged, first, at.tolist())
    if found is None and at.size * merged.shape[first] <= _MOST_PAIRS:
        found = _sums(merged, first, constant(at[:, np.newaxis] == np.arange(merged.shape[first])))
    return None if found is None else reshape(found, r.shape)


def sliced(r: Reading) -> Found:
    """Slice from a place of the user's on, so many as a constant says."""
    x, begins = r.inputs[0], numbers(r.inputs[1])
    if begins is None:
        return None
    rest: list[int] = []
    for axis, (begin, count) in enumerate(zip(begins, r.shape, strict=True)):
        if isinstance(begin, int):
            rest.append(begin)
            continue
        places = constant(np.arange(count), begin.dtype.as_numpy_dtype)
        found = _at(x, axis, arithmetic("AddV2", reshape(begin, (1,)), places))
        if found is None:
            return None
        x = found
        rest.append(0)
    return IMPORTS["Slice"](replace(r, inputs=(x, constant(rest, np.int32), r.inputs[2])))


def strided(r: Reading) -> Found:
    """StridedSlice with single places of the user's, `x[:, n]`: that place is taken, and then the rest."""
    x, begins, ends = r.inputs[0], numbers(r.inputs[1]), numbers(r.inputs[2])
    if begins is None or ends is None:
        return None
    for at, begin in enumerate(begins):
        axis = _axis(r, at, len(begins), x.rank)
        if isinstance(begin, int) and isinstance(ends[at], int):
            continue
        if isinstance(begin, int) or axis is None:
            return None
        found = _at_one_of_two(x, axis, begin)
        if found is None:
            found = _at(x, axis, _from_the_start(begin, x.shape[axis]))
        if found is None:
            return None
        x, begins[at], ends[at] = found, 0, 1
    bounds = (constant(np.asarray(each), np.int64) for each in (begins, ends))
    return MOVES["StridedSlice"](replace(r, inputs=(x, *bounds, r.inputs[3])))


def _from_the_start(place: Tensor, n: int) -> Tensor:
    """[1]: a place of n, which counts from the end where it is negative."""
    index, none = reshape(place, (1,)), constant(0, place.dtype.as_numpy_dtype)
    from_end = arithmetic("AddV2", index, constant(n, place.dtype.as_numpy_dtype))
    return select(compare("Less", index, none), from_end, index)


def _axis(r: Reading, at: int, count: int, rank: int) -> int | None:
    """The axis that an index of StridedSlice is of; None where it is more than a single place."""
    if not r.attr("shrink_axis_mask") >> at & 1:
        return None
    ellipsis, new = r.attr("ellipsis_mask"), r.attr("new_axis_mask")
    if ellipsis and ellipsis < 1 << at:
        return rank - sum(not new >> later & 1 for later in range(at, count))
    return sum(not new >> earlier & 1 for earlier in range(at))


def numbers(x: Tensor) -> list[int | Tensor] | None:
    """The entries of a vector that was put together: constants, and numbers of the user."""
    if x.value is not None:
        return [int(each) for each in x.value.flat]
    if x.op == "concat":
        parts = [numbers(each) for each in x.inputs]
        return None if None in parts else [each for part in parts for each in part or ()]
    if x.op == "slice" and x.inputs[0].op == "concat" and (whole := numbers(x.inputs[0])) is not None:
        (begin,) = x.node.attrs["begin"]
        return whole[begin : begin + x.size]
    return [reshape(x, ())] if x.size == 1 and x.is_free else None


def segments(r: Reading) -> Found:
    """UnsortedSegmentSum, Max, Min of rows whose segments the user has; negative ones do not count."""
    x, where, counts = r.inputs[0], r.inputs[1], integers(r.inputs[2])
    is_of_rows = where.is_free and where.value is None and where.rank == 1
    if not is_of_rows or counts is None or x.is_free or x.dtype != tf.float32:
        return None
    is_of, function = turned(is_chosen(where, counts[0])), SEGMENTS[r.operation.type]
    if not 0 < is_of.size <= _MOST_PAIRS:
        return None
    if function == "Sum":
        return _sums(x, 0, is_of)
    perm, back = axis_last(x.rank, 0)
    limits = np.finfo(np.float32)
    none = float(limits.min if function == "Max" else limits.max)
    return transpose(reduce_(_where(x, perm, is_of, none), function, [-1]), back)


USER_PLACES: dict[str, Callable[[Reading], Found]] = {
    "GatherV2": first_of(CHOICES["GatherV2"], gathered, gathered_in_rows),
    "Slice": first_of(IMPORTS["Slice"], sliced),
    "StridedSlice": first_of(MOVES["StridedSlice"], strided),
    **{
        op: first_of(SCANS[op], segments)
        for op in ("UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentSum")
    },
}
