"""Parts of a tensor along one axis, in any order: slices, and concatenations of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._ops import broadcast, concat, reshape, slice_

# Slices that one operation becomes; a layer's window, a history or a row of an embedding has no more.
_MOST_PARTS = 64


def taken(x: Tensor, axis: int, indices: Sequence[int]) -> Tensor | None:
    """x[..., indices, ...]; None where that is more than a few slices."""
    stride = _stride(indices)
    if stride > 1:
        return _every(x, axis, indices[0], stride, len(indices))
    runs = _runs(indices)
    if len(runs) > _MOST_PARTS:
        return None
    parts = []
    for first, step, count in runs:
        part = part_of(x, axis, first, count if step else 1)
        parts.append(broadcast(part, resized(x, axis, count)))
    return concat(parts, axis)


def part_of(x: Tensor, axis: int, begin: int, count: int) -> Tensor:
    """x[..., begin:begin + count, ...]."""
    begins = [0] * x.rank
    begins[axis] = begin
    return slice_(x, begins, resized(x, axis, count))


def diagonal_of(x: Tensor, offset: int = 0) -> Tensor | None:
    """One diagonal of matrices of `n` columns: each (n + 1)-th number."""
    rows, n = x.shape[-2:]
    first = offset if offset >= 0 else -offset * n
    count = min(rows, n - offset) if offset >= 0 else min(rows + offset, n)
    flat = reshape(x, [*x.shape[:-2], rows * n])
    return taken(flat, flat.rank - 1, range(first, first + count * (n + 1), n + 1)[:count])


def padded(x: Tensor, paddings: Iterable[tuple[int, int]], value: float) -> Tensor:
    """`x` with so many more before and after it, along each axis."""
    for axis, counts in enumerate(paddings):
        filler = constant(value, x.dtype.as_numpy_dtype)
        before, after = (broadcast(filler, resized(x, axis, count)) for count in counts)
        x = concat([before, x, after], axis)
    return x


def resized(x: Tensor, axis: int, count: int) -> list[int]:
    """The shape of `x` with so many along one axis."""
    return [*x.shape[:axis], count, *x.shape[axis + 1 :]]


def _stride(indices: Sequence[int]) -> int:
    """The step between all neighbours; 0 where it is not the same."""
    steps = {later - before for before, later in pairwise(indices)}
    return steps.pop() if len(steps) == 1 else 0


def _every(x: Tensor, axis: int, first: int, stride: int, count: int) -> Tensor | None:
    """Each `stride`-th: a column of rows that are so long. The last row may not be whole."""
    whole = min(count, (x.shape[axis] - first) // stride)
    if count - whole > 1 or whole == 0:
        return None
    rows = part_of(x, axis, first, whole * stride)
    rows = reshape(rows, [*x.shape[:axis], whole, stride, *x.shape[axis + 1 :]])
    found = reshape(part_of(rows, axis + 1, 0, 1), resized(x, axis, whole))
    rest = [part_of(x, axis, first + whole * stride, 1)] if whole < count else []
    return concat([found, *rest], axis)


def _runs(indices: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first, 0 or 1 for the step, count) of each, from the left as long as can be."""
    runs: list[tuple[int, int, int]] = []
    for index in indices:
        first, step, count = runs[-1] if runs else (-2, 0, 1)
        steps = [step] if count > 1 else [0, 1]
        if index - first in [each * count for each in steps]:
            runs[-1] = (first, (index - first) // count, count + 1)
        else:
            runs.append((index, 0, 1))
    return runs
