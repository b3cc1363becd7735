"""Convolutions and pooling in our form: what each place of a window holds, for all windows at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from nann.export.scorer._contract import MAX_UNROLLED
from nann.export.scorer._import_ops import Found, Reading, integers
from nann.export.scorer._ir import Array, Shape, Tensor, constant
from nann.export.scorer._ops import (
    add,
    behind_reshape,
    broadcast,
    concat,
    dot,
    maximum,
    mul,
    reshape,
    scaled,
)
from nann.export.scorer._slices import padded, part_of, taken

_Sides = tuple[int, int]

_OF_WINDOWS = frozenset(["AvgPool", "Conv2D", "DepthwiseConv2dNative", "MaxPool"])

# What the native executor takes on an Intel Xeon: to copy a run of floats, each float of it, and a product.
_NS_PER_RUN, _NS_PER_FLOAT, _NS_PER_PRODUCT = 3.0, 0.02, 0.018
_STRIP = 16  # Columns that are multiplied at a time.
# 1 MiB of a matrix: it is read for each tile, and the second-level cache holds the tile too.
_MOST_WEIGHTS = 2**18


@dataclass(frozen=True)
class _Windows:
    """Windows that go over rows and columns of [n, height, width, channels]; all by rows and columns.

    size:    of a window.
    strides: from a window to the next.
    gaps:    from a place of a window to the next.
    before:  rows and columns that padding adds before.
    count:   how many windows there are.
    """

    size: _Sides
    strides: _Sides
    gaps: _Sides
    before: _Sides
    count: _Sides

    def places(self, x: Tensor, outside: float) -> list[Tensor] | None:
        """For each place of a window what it holds, [n, rows, columns, channels]: `outside` beyond `x`."""
        x = padded(x, [(0, 0), *(self._padding(at, x.shape[at + 1]) for at in range(2)), (0, 0)], outside)
        found = []
        for top, left in np.ndindex(*self.size):
            place: Tensor | None = x
            for axis, first in ((1, top * self.gaps[0]), (2, left * self.gaps[1])):
                if place is not None:
                    place = self._every(place, axis, first)
            if place is None:
                return None
            found.append(place)
        return found

    def _padding(self, at: int, own: int) -> _Sides:
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
        found = [self._every(x, 1, at * gap) for at in range(size)]
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


def _needed(count: int, stride: int, size: int, gap: int) -> int:
    """How long an axis is that so many windows go over."""
    return (count - 1) * stride + (size - 1) * gap + 1


def _windows(r: Reading, size: Sequence[int], gaps: _Sides) -> _Windows | None:
    """Those of an operation of items; None where they are too many to write out, or lie otherwise."""
    x = r.inputs[0]
    if x.is_free or math.prod(size) > MAX_UNROLLED:
        return None
    return _windows_of(r, size, (x.shape[1], x.shape[2]), (r.shape[1], r.shape[2]), gaps)


def _windows_of(
    r: Reading, size: Sequence[int], over: _Sides, count: _Sides, gaps: _Sides = (1, 1)
) -> _Windows | None:
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
    return _Windows(size, strides, gaps, before, count)


def convolution(r: Reading) -> Found:
    """A matrix product of each window's channels, or of more at a time where that costs less."""
    x, kernel = r.inputs
    windows = _windows(r, kernel.shape[:2], tuple(r.attr("dilations")[1:3]))
    if windows is None or not kernel.is_free or _is_part(x):
        return None
    return _convolved(windows, x, kernel)


def _convolved(windows: _Windows, x: Tensor, kernel: Tensor) -> Tensor | None:
    channels = kernel.shape[2]
    if kernel.value is not None and channels == x.shape[3]:
        axes = _axes_at_once(windows, x.shape, kernel.shape)
        if axes < 2:
            return _at_once(windows, x, kernel.value, axes)
    places = windows.places(x, 0)
    return None if places is None else _weighed(places, kernel)


def _axes_at_once(windows: _Windows, shape: Shape, kernel: Shape) -> int:
    """From which axis on (0: rows, 1: columns, 2: none) a product of all windows along it costs least.

    Windows of few channels are few floats to copy and to multiply at a time. A matrix from all columns to all
    results of a row is mostly zeros, but multiplies at full speed; one of the whole even more so.
    """
    (_, rows, columns, channels), (height, width, _, outputs) = shape, kernel
    down, along = windows.count

    # So many rows, each of so many runs of floats, times a matrix [depth, results].
    products = [
        (1, 1, rows * columns * channels, down * along * outputs),
        (down, height, height * columns * channels, along * outputs),
        (down * along, height * width, height * width * channels, outputs),
    ]

    def cost(axis: int) -> float:
        """Nanoseconds."""
        count, copies, depth, results = products[axis]
        copied = copies * _NS_PER_RUN + depth * _NS_PER_FLOAT
        return count * (copied * (copies > 1) + depth * -(-results // _STRIP) * _STRIP * _NS_PER_PRODUCT)

    return min((at for at in range(3) if at == 2 or math.prod(products[at][2:]) <= _MOST_WEIGHTS), key=cost)


def _at_once(windows: _Windows, x: Tensor, kernel: Array, axis: int) -> Tensor | None:
    """All rows and columns, or for each row of windows all columns, by one matrix."""
    (rows, columns), (down, along) = x.shape[1:3], windows.count
    channels, outputs = kernel.shape[2:]
    across = windows.matrix(1, columns)  # [width, columns, windows along]
    if axis == 0:
        matrix = np.einsum("hyd,wxa,hwco->yxcdao", windows.matrix(0, rows), across, kernel)
        flat = reshape(x, (x.shape[0], rows * columns * channels))
    else:
        matrix = np.einsum("wxa,hwco->hxcao", across, kernel)
        together = windows.rows(reshape(x, (*x.shape[:2], columns * channels)))
        if together is None:
            return None
        flat = together
    return _times(flat, matrix, (x.shape[0], down, along, outputs))


def _times(rows: Tensor, matrix: Array, shape: Shape) -> Tensor:
    """Rows times a matrix that has several axes for its sides."""
    return reshape(dot(rows, constant(matrix.reshape(rows.shape[-1], -1), np.float32)), shape)


def _weighed(places: Sequence[Tensor], kernel: Tensor) -> Tensor | None:
    """What windows hold at each of their places times the kernel: each group of outputs sees its channels."""
    height, width, channels, outputs = kernel.shape
    last = places[0].rank - 1
    groups = places[0].shape[last] // channels
    if groups > MAX_UNROLLED:
        return None
    found = []
    for group in range(groups):
        own = [part_of(each, last, group * channels, channels) for each in places]
        weights = part_of(kernel, 3, group * outputs // groups, outputs // groups)
        found.append(dot(concat(own, last), reshape(weights, (height * width * channels, outputs // groups))))
    return concat(found, last)


def transposed(r: Reading) -> Found:
    """Conv2DBackpropInput, a transposed convolution: each place adds its channels times the kernel."""
    kernel, x = r.inputs[1:]
    (rows, columns), (_, down, along, outputs), channels = x.shape[1:3], r.shape, x.shape[3]
    gaps = tuple(r.attr("dilations")[1:3])
    windows = _windows_of(r, kernel.shape[:2], (down, along), (rows, columns), gaps)
    weights = rows * columns * channels * down * along * outputs
    if windows is None or x.is_free or kernel.value is None or weights > _MOST_WEIGHTS:
        return None
    matrix = np.einsum(
        "hdy,wax,hwoc->yxcdao", windows.matrix(0, down), windows.matrix(1, along), kernel.value
    )
    flat = reshape(x, (x.shape[0], rows * columns * channels))
    return _times(flat, matrix, r.shape)


def dilated(r: Reading) -> Found:
    """BatchToSpaceND of a convolution or pooling of SpaceToBatchND: one whose windows have gaps."""
    inner, blocks, crops = behind_reshape(r.inputs[0]), integers(r.inputs[1]), integers(r.inputs[2])
    spaced = behind_reshape(inner.inputs[0]) if inner.op in _OF_WINDOWS else inner
    if spaced.op != "SpaceToBatchND" or blocks is None or crops is None or not _is_valid(inner):
        return None
    x, paddings, size = spaced.inputs[0], integers(spaced.inputs[2]), _size_of(inner)
    is_image = len(blocks) == 2 and x.rank == 4
    if (
        integers(spaced.inputs[1]) != blocks
        or paddings is None
        or x.is_free
        or math.prod(size) > MAX_UNROLLED
    ):
        return None
    if not is_image:  # Of rows, which TensorFlow makes images one row high.
        if len(blocks) != 1 or x.rank != 3 or size[0] != 1:
            return None
        x, blocks = reshape(x, (x.shape[0], 1, *x.shape[1:])), [1, *blocks]
        paddings, crops = [0, 0, *paddings], [0, 0, *crops]
    lengths = [x.shape[at + 1] + sum(paddings[2 * at : 2 * at + 2]) for at in range(2)]
    counts = [lengths[at] - (size[at] - 1) * blocks[at] for at in range(2)]
    gaps, before, count = (blocks[0], blocks[1]), (paddings[0], paddings[2]), (counts[0], counts[1])
    found = _of_places(_Windows(size, (1, 1), gaps, before, count), x, inner)
    rows, columns = r.shape[1:3] if is_image else (1, r.shape[1])
    return (
        None
        if found is None
        else reshape(part_of(part_of(found, 1, crops[0], rows), 2, crops[2], columns), r.shape)
    )


def _of_places(windows: _Windows, x: Tensor, inner: Tensor) -> Tensor | None:
    """What an operation makes of each window."""
    if inner.op not in ("AvgPool", "MaxPool") and not inner.inputs[1].is_free:
        return None
    if inner.op == "Conv2D":
        return _convolved(windows, x, inner.inputs[1])
    places = windows.places(x, 0)
    if places is None:
        return None
    if inner.op == "DepthwiseConv2dNative":
        return _weighed_apart(places, inner.inputs[1])
    return _largest(places) if inner.op == "MaxPool" else scaled(add(*places), 1 / len(places))


def _size_of(inner: Tensor) -> _Sides:
    """Of the windows of an operation."""
    if inner.op in ("AvgPool", "MaxPool"):
        sizes = tf.compat.v1.AttrValue.FromString(inner.node.attrs["ksize"]).list.i
        return int(sizes[1]), int(sizes[2])
    return (inner.inputs[1].shape[0], inner.inputs[1].shape[1]) if inner.op in _OF_WINDOWS else (1, 1)


def _is_valid(x: Tensor) -> bool:
    return bool(tf.compat.v1.AttrValue.FromString(x.node.attrs["padding"]).s == b"VALID")


def _is_part(x: Tensor) -> bool:
    """Whether an operation on it is a part of a dilated one, which is read where it ends."""
    return behind_reshape(x).op == "SpaceToBatchND"


def depthwise(r: Reading) -> Found:
    """Each channel has weights of its own, or several of them."""
    x, kernel = r.inputs
    windows = _windows(r, kernel.shape[:2], tuple(r.attr("dilations")[1:3]))
    if windows is None or not kernel.is_free or _is_part(x):
        return None
    places = windows.places(x, 0)
    return None if places is None else reshape(_weighed_apart(places, kernel), r.shape)


def _weighed_apart(places: Sequence[Tensor], kernel: Tensor) -> Tensor:
    """What windows hold at each of their places times each channel's weights."""
    height, width, channels, times = kernel.shape
    if times > 1:  # A channel is there as often as it has weights.
        each = [broadcast(reshape(place, (*place.shape, 1)), (*place.shape, times)) for place in places]
        places = [reshape(place, (*place.shape[:-2], channels * times)) for place in each]
    weights = reshape(kernel, (height * width, channels * times))
    rows = [reshape(part_of(weights, 0, at, 1), (channels * times,)) for at in range(len(places))]
    return add(*(mul(place, row) for place, row in zip(places, rows, strict=True)))


def mean_pooling(r: Reading) -> Found:
    """Over what of a window is not padding."""
    windows = _pooled(r)
    places = None if windows is None else windows.places(r.inputs[0], 0)
    if windows is None or places is None:
        return None
    return mul(add(*places), constant(1 / windows.covered(r.inputs[0].shape)))


def max_pooling(r: Reading) -> Found:
    windows = _pooled(r)
    places = None if windows is None else windows.places(r.inputs[0], -math.inf)
    return None if places is None else _largest(places)


def _largest(places: Sequence[Tensor]) -> Tensor:
    return functools.reduce(maximum, places)


def patches(r: Reading) -> Found:
    """ExtractImagePatches: what each window holds, side by side."""
    size, gaps = tuple(r.attr("ksizes")[1:3]), tuple(r.attr("rates")[1:3])
    windows = _windows(r, size, gaps)
    places = None if windows is None else windows.places(r.inputs[0], 0)
    return None if places is None else concat(places, 3)


def _pooled(r: Reading) -> _Windows | None:
    sizes = r.attr("ksize")
    is_of_channels = sizes[0] == sizes[3] == 1 and r.attr("padding") in (b"SAME", b"VALID")
    is_of_channels = is_of_channels and not _is_part(r.inputs[0])
    return _windows(r, (sizes[1], sizes[2]), (1, 1)) if is_of_channels else None


CONVOLUTIONS: dict[str, Callable[[Reading], Found]] = {
    "BatchToSpaceND": dilated,
    "AvgPool": mean_pooling,
    "Conv2D": convolution,
    "Conv2DBackpropInput": transposed,
    "DepthwiseConv2dNative": depthwise,
    "ExtractImagePatches": patches,
    "MaxPool": max_pooling,
}
