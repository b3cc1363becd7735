"""Slices whose bounds the user decides, and slices of what such axes are of, in our form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_moves import numpy_index
from nann.export.scorer._import_open import OpenReading, Rule
from nann.export.scorer._ir import Shape, Tensor, constant
from nann.export.scorer._open_axes import Opened, Places, order_of
from nann.export.scorer._ops import arithmetic, both, cast, compare, reduce_, reshape, select
from nann.export.scorer._slices import part_of

_Bound = int | Tensor


@dataclass(frozen=True)
class _Index:
    """One index of a strided slice, of an axis before it. to: the axis after it; None: it has none."""

    at: int
    axis: int
    to: int | None


def _between(x: Opened, axis: int, begin: _Bound | None, end: _Bound | None) -> Places | None:
    """Which places of an axis lie in Python's slice [begin:end]; None where it was made one with others."""
    places = x.axes.get(axis) or Places(constant(np.ones(x.full.shape[axis], bool)))
    if places.before * places.after > 1:
        return None
    found = places.present
    order = cast(order_of(found), tf.int64)
    if begin is not None:
        found = both(found, compare("GreaterEqual", order, _from_start(places, begin)))
    if end is not None:
        found = both(found, compare("Less", order, _from_start(places, end)))
    return Places(found)


def _from_start(places: Places, bound: _Bound) -> Tensor:
    """A negative one counts from the end."""
    if isinstance(bound, int):
        number = constant([bound], np.int64)
        return number if bound >= 0 else arithmetic("AddV2", number, places.count(tf.int64))
    number = reshape(bound if bound.dtype == tf.int64 else cast(bound, tf.int64), (1,))
    from_end = arithmetic("AddV2", number, places.count(tf.int64))
    return select(compare("Less", number, constant(0, np.int64)), from_end, number)


def _only(x: Opened, axis: int, at: _Bound) -> Opened | None:
    """x with a single place of an open axis, which stays."""
    places = x.axes[axis]
    if places.before * places.after > 1 or x.full.dtype not in (tf.float32, tf.int32, tf.int64):
        return None
    order = cast(order_of(places.present), tf.int64)
    is_there = both(places.present, compare("Equal", order, _from_start(places, at)))
    chosen = Opened(x.full, {**x.axes, axis: Places(is_there)}).where_present([axis], 0)
    shape = [1 if each == axis else n for each, n in enumerate(x.full.shape)]
    others = {own: each for own, each in x.axes.items() if own != axis}
    return Opened(reshape(reduce_(chosen, "Sum", [axis]), shape), others)


def _sliced(r: OpenReading) -> Opened | None:
    """tf.slice(x, begin, size)."""
    x, begins, counts = r.inputs[0], r.numbers(1), r.numbers(2)
    if begins is None or counts is None:
        return None
    for axis, (begin, count) in enumerate(zip(begins, counts, strict=True)):
        if axis in x.axes and (begin, count) == (0, -1):
            continue
        if axis not in x.axes and isinstance(begin, int) and isinstance(count, int):
            rest = x.full.shape[axis] - begin if count == -1 else count
            x = Opened(part_of(x.full, axis, begin, rest), x.axes)
        elif isinstance(count, int) and count != -1:
            return None  # As many as a constant says.
        else:
            end = None if isinstance(count, int) else _sum(begin, count)
            places = _between(x, axis, begin, end)
            if places is None:
                return None
            x = Opened(x.full, {**x.axes, axis: places})
    return x


def _sum(begin: _Bound, count: Tensor) -> Tensor:
    dtype = count.dtype.as_numpy_dtype
    return arithmetic("AddV2", constant(begin, dtype) if isinstance(begin, int) else begin, count)


def _strided(r: OpenReading) -> Opened | None:
    """x[begin:end, ...], where the user decides a bound or how long an axis is."""
    found: Opened | None = r.inputs[0]
    begins, ends, strides = r.numbers(1), r.numbers(2), r.constants(3)
    if begins is None or ends is None or strides is None:
        return None
    to: dict[int, int] = {}
    for index in _indices(r, len(begins), r.inputs[0].rank):
        at, axis = index.at, index.axis
        if index.to is not None:
            to[axis] = index.to
        if at < 0 or found is None:
            continue
        begin = None if _has(r, "begin_mask", at) else begins[at]
        end = None if _has(r, "end_mask", at) else ends[at]
        is_of_user = isinstance(begin, Tensor) or isinstance(end, Tensor)
        if index.to is None:
            if axis in found.axes:
                found = _only(found, axis, begins[at])
                begins[at], ends[at] = 0, 1
        elif axis in found.axes or is_of_user:
            places = _between(found, axis, begin, end) if strides[at] == 1 else None
            found = None if places is None else Opened(found.full, {**found.axes, axis: places})
            begins[at], ends[at] = 0, r.inputs[0].full.shape[axis]
    if found is None or any(isinstance(each, Tensor) for each in (*begins, *ends)):
        return None
    return _of_all(r, found, to, [begins, ends])


def _of_all(r: OpenReading, x: Opened, to: dict[int, int], bounds: list[list[_Bound]]) -> Opened | None:
    """The slice of all that there may be, by bounds that are constant now."""
    shape = _shape(r, x.full.shape, *bounds)
    if shape is None or any(axis not in to for axis in x.axes):
        return None
    values = [constant(np.asarray(each), np.int64) for each in bounds]
    return x.moved(r.of([x.full, *values, r.inputs[3].full], shape), to)


def _shape(r: OpenReading, shape: Shape, begins: list[_Bound], ends: list[_Bound]) -> Shape | None:
    """NumPy knows it, of an array that takes no memory."""
    array = np.broadcast_to(np.zeros((), bool), shape)
    index = numpy_index(r.attr, begins, ends, r.constants(3) or ())
    try:
        found: Shape = array[tuple(index)].shape
    except IndexError:
        return None
    return found


def _has(r: OpenReading, mask: str, at: int) -> bool:
    bits = r.attr(mask)
    assert isinstance(bits, int)
    return bool(bits >> at & 1)


def _indices(r: OpenReading, count: int, rank: int) -> Iterator[_Index]:
    """What each index is of; -1 for an axis that has none."""
    new = sum(_has(r, "new_axis_mask", at) for at in range(count))
    has_ellipsis = any(_has(r, "ellipsis_mask", at) for at in range(count))
    others = rank - (count - new - has_ellipsis)
    axis = to = 0
    for at in range(count + (not has_ellipsis)):
        if at == count or _has(r, "ellipsis_mask", at):
            for _ in range(others):
                yield _Index(-1, axis, to)
                axis, to = axis + 1, to + 1
        elif _has(r, "new_axis_mask", at):
            to += 1
        elif _has(r, "shrink_axis_mask", at):
            yield _Index(at, axis, None)
            axis += 1
        else:
            yield _Index(at, axis, to)
            axis, to = axis + 1, to + 1


SLICES: dict[str, Rule] = {"Slice": _sliced, "StridedSlice": _strided}
