"""Windows that go over rows and columns of images, as those of convolutions and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nann.export.scorer._import_ops import Reading
from nann.export.scorer._ir import Array, Tensor
from nann.export.scorer._ops import behind_reshape, concat, reshape
from nann.export.scorer._slices import padded, part_of, taken

Sides = tuple[int, int]

# Places of a window that are written out, each with a copy of what is there.
MOST_PLACES = 64


@dataclass(frozen=True)
class Windows:
    """Windows that go over rows and columns of [n, height, width, channels]; all by rows and columns.

    size:    of a window.
    strides: from a window to the next.
    gaps:    from a place of a window to the next.
    before:  rows and columns that padding adds before.
    count:   how many windows there are.
    """

    size: Sides
    strides: Sides
    gaps: Sides
    before: Sides
    count: Sides

    def places(self, x: Tensor, outside: float) -> list[Tensor] | None:
        """For each place of a window what it holds, [n, rows, columns, channels]: `outside` beyond `x`."""
        if math.prod(self.size) > MOST_PLACES:
            return None
        x, found = self.padded(x, outside), []
        for top, left in np.ndindex(*self.size):
            place = self._at(x, top * self.gaps[0], left * self.gaps[1])
            if place is None:
                return None
            found.append(place)
        return found

    def padded(self, x: Tensor, outside: float) -> Tensor:
        sides = [self._padding(at, x.shape[at + 1]) for at in range(2)]
        return padded(x, [(0, 0), *sides, (0, 0)], outside)

    def first_places(self, x: Tensor) -> Tensor | None:
        """What is at the first place of each window of `x`, which is padded."""
        return self._at(x, 0, 0)

    def _at(self, x: Tensor, row: int, column: int) -> Tensor | None:
        across = self._every(x, 1, row)
        return None if across is None else self._every(across, 2, column)

    def _padding(self, at: int, own: int) -> Sides:
        """Before and after an axis of so many."""
        needed = _needed(self.count[at], self.strides[at], self.size[at], self.gaps[at])
        return self.before[at], max(0, needed - self.before[at] - own)

    def _every(self, x: Tensor, axis: int, first: int) -> Tensor | None:
        """What windows along an axis have at this place."""
        count, stride = self.count[axis - 1], self.strides[axis - 1]
        if stride == 1 or count == 1:
            return part_of(x, axis, first, count)
        return taken(x, axis, range(first, first + count * stride, stride))

    def rows(self, x: Tensor) -> Tensor | None:
        """[n, height, floats of a row] -> for each window along the height its rows, side by side."""
        count, size, stride, gap = (each[0] for each in (self.count, self.size, self.strides, self.gaps))
        x = padded(x, [(0, 0), self._padding(0, x.shape[1]), (0, 0)], 0)
        if size == stride and gap == 1 and x.shape[1] == count * size:
            return reshape(x, (x.shape[0], count, size * x.shape[2]))
        found = [self._every(x, 1, at * gap) for at in range(min(size, MOST_PLACES))]
        known = [each for each in found if each is not None]
        return concat(known, 2) if len(known) == size else None

    def matrix(self, at: int, size: int) -> Array:
        """1 where a place of a window is what an axis has: [places, size of the axis, windows]."""
        first = np.arange(self.count[at]) * self.strides[at] - self.before[at]
        places = first + np.arange(self.size[at])[:, None] * self.gaps[at]
        is_there: Array = (places[:, None, :] == np.arange(size)[:, None]).astype(np.float32)
        return is_there

    def covered(self, shape: Sequence[int]) -> Array:
        """How much of each window is not padding, float32 [1, rows, columns, 1]."""
        by_axis = [self.matrix(at, shape[at + 1]).sum(axis=(0, 1)) for at in range(2)]
        counts: Array = np.multiply.outer(*by_axis)
        return counts[None, :, :, None]

    def turned(self) -> Windows:
        """Those over columns and rows."""
        return Windows(
            self.size[::-1], self.strides[::-1], self.gaps[::-1], self.before[::-1], self.count[::-1]
        )


def _needed(count: int, stride: int, size: int, gap: int) -> int:
    """How long an axis is that so many windows go over."""
    return (count - 1) * stride + (size - 1) * gap + 1


def windows_of(r: Reading, size: Sequence[int], gaps: Sides) -> Windows | None:
    """Those of an operation of items; None where they lie otherwise."""
    x = r.inputs[0]
    if x.is_free:
        return None
    return windows_over(r, size, (x.shape[1], x.shape[2]), (r.shape[1], r.shape[2]), gaps)


def windows_over(
    r: Reading, size: Sequence[int], over: Sides, count: Sides, gaps: Sides = (1, 1)
) -> Windows | None:
    """`count` windows over so many rows and columns."""
    has_format = "data_format" in r.operation.node_def.attr  # Patches have none.
    if (has_format and r.attr("data_format") != b"NHWC") or not r.is_exact_enough:
        return None
    size, strides = (size[0], size[1]), tuple(r.attr("strides")[1:3])
    before = (0, 0)
    if r.attr("padding") == b"SAME":
        total = [max(0, _needed(count[at], strides[at], size[at], gaps[at]) - over[at]) for at in range(2)]
        before = (total[0] // 2, total[1] // 2)
    elif r.attr("padding") == b"EXPLICIT":
        paddings = r.attr("explicit_paddings")
        before = (paddings[2], paddings[4])
    return Windows(size, strides, gaps, before, count)


def is_part(x: Tensor) -> bool:
    """Whether an operation on it is a part of a dilated one, which is read where it ends."""
    return behind_reshape(x).op == "SpaceToBatchND"
