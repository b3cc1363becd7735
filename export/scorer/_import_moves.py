"""Numbers in another order, in our form: slices, and concatenations of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nann.export.scorer._import_ops import Found, Reading, integers
from nann.export.scorer._ir import Array, Tensor, constant
from nann.export.scorer._ops import broadcast, concat, reshape, select, slice_
from nann.export.scorer._slices import diagonal_of, padded, part_of, resized, taken


def is_repeated_range(values: Array | None, count: int) -> bool:
    """Whether the values are 0, 0, 1, 1 ... up to `count`, as `tf.repeat(tf.range(n), k)` makes them."""
    if values is None or count == 0 or values.size == 0 or values.size % count:
        return False
    return bool((values.reshape(-1) == np.repeat(np.arange(count), values.size // count)).all())


def gathered(r: Reading) -> Found:
    """x[..., indices, ...] with constant indices."""
    at, axes = integers(r.inputs[1]), integers(r.inputs[2])
    x = r.inputs[0]
    if not at or axes is None or r.attr("batch_dims") or not 0 <= min(at) <= max(at) < x.shape[axes[0]]:
        return None
    found = _taken_of_each(x, at) if axes[0] == 0 else None
    if found is None:
        found = taken(x, axes[0] % x.rank, at)
    return None if found is None else reshape(found, r.shape)


def _taken_of_each(x: Tensor, at: Sequence[int]) -> Tensor | None:
    """Of a tensor whose first two axes were made one, where each of the first has the same of the second.

    `tf.boolean_mask` with a mask of the shape of all pairs does so.
    """
    if x.op != "reshape" or x.rank >= x.inputs[0].rank or x.is_free:
        return None
    count = x.inputs[0].shape[0]
    each, rest = divmod(x.shape[0], count)
    if rest or len(at) % count:
        return None
    places = np.reshape(at, (count, -1)) - each * np.arange(count)[:, np.newaxis]
    if (places != places[0]).any() or not 0 <= places[0].min() <= places[0].max() < each:
        return None
    return taken(reshape(x, (count, each, *x.shape[1:])), 1, places[0].tolist())


def strided(r: Reading) -> Found:
    """x[begin:end:stride, ...]."""
    x = r.inputs[0]
    ranges = ranges_of(r, x.shape, r.inputs[1:])
    if ranges is None:
        return None
    found: Tensor | None = _within(x, ranges)
    for axis, each in enumerate(ranges):
        if found is not None and each.step != 1 and len(each) > 1:
            found = taken(found, axis, [at - min(each) for at in each])
    return None if found is None else reshape(found, r.shape)


def ranges_of(r: Reading, shape: Sequence[int], bounds: Sequence[Tensor]) -> list[range] | None:
    """What a strided slice takes along each axis, by constant bounds."""
    begin, end, strides = (integers(each) for each in bounds)
    if begin is None or end is None or strides is None:
        return None
    index = numpy_index(r.attr, begin, end, strides)
    kept = [
        slice(each, each + 1 or None) if isinstance(each, int) else each
        for each in index
        if each is not np.newaxis
    ]
    if Ellipsis not in kept:
        kept.append(Ellipsis)
    middle = kept.index(Ellipsis)
    kept[middle : middle + 1] = [slice(None)] * (len(shape) - len(kept) + 1)
    return [range(n)[each] for each, n in zip(kept, shape, strict=True)]


def numpy_index(
    attr: Callable[[str], Any], begins: Sequence[Any], ends: Sequence[Any], strides: Sequence[int]
) -> list[Any]:
    """NumPy's index for a strided slice. attr: of the operation."""
    index: list[Any] = []
    for at, (begin, end, stride) in enumerate(zip(begins, ends, strides, strict=True)):
        bit = 1 << at
        if attr("ellipsis_mask") & bit:
            index.append(Ellipsis)
        elif attr("new_axis_mask") & bit:
            index.append(np.newaxis)
        elif attr("shrink_axis_mask") & bit:
            index.append(begin)
        else:
            first = None if attr("begin_mask") & bit else begin
            index.append(slice(first, None if attr("end_mask") & bit else end, stride))
    return index


def _within(x: Tensor, ranges: Sequence[range]) -> Tensor:
    """From the smallest to the largest index of each axis."""
    begin = [min(each, default=0) for each in ranges]
    shape = [max(each) - min(each) + 1 if each else 0 for each in ranges]
    return slice_(x, begin, shape)


def reversed_along(r: Reading) -> Found:
    axes = integers(r.inputs[1])
    found: Tensor | None = r.inputs[0]
    for axis in axes or ():
        if found is not None:
            found = taken(found, axis % found.rank, range(found.shape[axis])[::-1])
    return None if axes is None else found


def rolled(r: Reading) -> Found:
    x, shifts, axes = r.inputs[0], integers(r.inputs[1]), integers(r.inputs[2])
    if shifts is None or axes is None:
        return None
    for shift, each in zip(shifts, axes, strict=True):
        axis, n = each % x.rank, x.shape[each]
        cut = -shift % n
        x = concat([part_of(x, axis, cut, n - cut), part_of(x, axis, 0, cut)], axis)
    return x


def pads(r: Reading) -> Found:
    """Pad, and PadV2 with a constant."""
    counts = integers(r.inputs[1])
    value = r.inputs[2].value if len(r.inputs) == 3 else np.float32(0)
    if counts is None or value is None:
        return None
    return padded(r.inputs[0], zip(counts[::2], counts[1::2], strict=True), value.item())


def mirrored(r: Reading) -> Found:
    found: Tensor | None = r.inputs[0]
    counts = integers(r.inputs[1])
    if counts is None:
        return None
    mode = {b"REFLECT": "reflect", b"SYMMETRIC": "symmetric"}[r.attr("mode")]
    for axis, around in enumerate(zip(counts[::2], counts[1::2], strict=True)):
        if found is not None and any(around):
            indices = np.pad(np.arange(found.shape[axis]), around, mode=mode)  # type: ignore[call-overload]
            found = taken(found, axis, indices.tolist())
    return found


def tiled(r: Reading) -> Found:
    """Repetitions of what has more than one index are an axis of their own at first."""
    x, counts = r.inputs[0], integers(r.inputs[1])
    if counts is None:
        return None
    x = broadcast(x, [count if n == 1 else n for n, count in zip(x.shape, counts, strict=True)])
    for axis, count in enumerate(counts):
        if count != 1 and r.inputs[0].shape[axis] != 1:
            rows = reshape(x, [*x.shape[:axis], 1, *x.shape[axis:]])
            rows = broadcast(rows, [*x.shape[:axis], count, *x.shape[axis:]])
            x = reshape(rows, resized(x, axis, count * x.shape[axis]))
    return x


def banded(r: Reading) -> Found:
    """The triangles of matrices, and what lies between."""
    x, below, above = r.inputs[0], r.inputs[1].value, r.inputs[2].value
    if below is None or above is None:
        return None
    distance = np.subtract.outer(np.arange(x.shape[-2]), np.arange(x.shape[-1]))
    kept = ((below < 0) | (distance <= below)) & ((above < 0) | (-distance <= above))
    return select(constant(kept), x, constant(0, x.dtype.as_numpy_dtype))


def diagonal(r: Reading) -> Found:
    """One diagonal of matrices."""
    offsets = integers(r.inputs[1])
    return None if offsets is None or len(offsets) != 1 else diagonal_of(r.inputs[0], offsets[0])


def of_diagonal(r: Reading) -> Found:
    """Square matrices of a main diagonal, zeros elsewhere."""
    x, offset, padding = r.inputs[0], integers(r.inputs[1]), r.inputs[4].value
    if offset is None or any(offset) or padding is None or r.shape != (*x.shape, x.shape[-1]):
        return None
    return _with_main(x, constant(padding))


def with_diagonal(r: Reading) -> Found:
    """Square matrices with another main diagonal."""
    x, diagonals, offset = r.inputs[0], r.inputs[1], integers(r.inputs[2])
    n = x.shape[-1]
    if offset is None or any(offset) or x.shape[-2] != n:
        return None
    return _with_main(diagonals, x)


def _with_main(diagonals: Tensor, others: Tensor) -> Tensor:
    on_diagonal = constant(np.eye(diagonals.shape[-1], dtype=bool))
    return select(on_diagonal, reshape(diagonals, [*diagonals.shape, 1]), others)


def updated(r: Reading) -> Found:
    """Another part from a constant place on, such as the candidate in its place of a sequence."""
    begins = integers(r.inputs[2])
    return None if begins is None else _with_part(r.inputs[0], r.inputs[1], begins)


def _with_part(x: Tensor, part: Tensor, begins: Sequence[int]) -> Tensor:
    axis = next((axis for axis, n in enumerate(part.shape) if n != x.shape[axis]), None)
    if axis is None:
        return part
    count, n = part.shape[axis], x.shape[axis]
    begin = min(max(begins[axis], 0), n - count)  # XLA moves what would reach beyond the end.
    middle = _with_part(part_of(x, axis, begin, count), part, begins)
    parts = [part_of(x, axis, 0, begin), middle, part_of(x, axis, begin + count, n - begin - count)]
    return concat([each for each in parts if each.shape[axis]], axis)


MOVES: dict[str, Callable[[Reading], Found]] = {
    "GatherV2": gathered,
    "MatrixBandPart": banded,
    "MatrixDiagPartV3": diagonal,
    "MatrixDiagV3": of_diagonal,
    "MatrixSetDiagV3": with_diagonal,
    "MirrorPad": mirrored,
    "Pad": pads,
    "PadV2": pads,
    "ReverseV2": reversed_along,
    "Roll": rolled,
    "StridedSlice": strided,
    "Tile": tiled,
    "XlaDynamicUpdateSlice": updated,
}
