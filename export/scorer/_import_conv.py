"""Convolutions in our form: what each place of a window holds, for all windows at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from nann.export.scorer._contract import MAX_UNROLLED
from nann.export.scorer._import_ops import Found, Reading, integers
from nann.export.scorer._import_pooling import largest
from nann.export.scorer._ir import Array, Shape, Tensor, constant
from nann.export.scorer._ops import (
    add,
    behind_reshape,
    broadcast,
    concat,
    dot,
    mul,
    reshape,
    scaled,
    transpose,
)
from nann.export.scorer._slices import part_of
from nann.export.scorer._windows import MOST_PLACES, Sides, Windows, is_part, windows_of, windows_over

_OF_WINDOWS = frozenset(["AvgPool", "Conv2D", "DepthwiseConv2dNative", "MaxPool"])

# What the native executor takes on an Intel Xeon: to copy a run of floats, each float of it, and a product.
_NS_PER_RUN, _NS_PER_FLOAT, _NS_PER_PRODUCT = 3.0, 0.02, 0.018
_STRIP = 16  # Columns that are multiplied at a time.
# 1 MiB of a matrix: it is read for each tile, and the second-level cache holds the tile too.
_MOST_WEIGHTS = 2**18


def convolution(r: Reading) -> Found:
    """A matrix product of each window's channels, or of more at a time where that costs less."""
    x, kernel = r.inputs
    windows = windows_of(r, kernel.shape[:2], tuple(r.attr("dilations")[1:3]))
    if windows is None or not kernel.is_free or is_part(x):
        return None
    windows, kernel = _within(windows, x, kernel)
    return _convolved(windows, x, kernel)


def _within(windows: Windows, x: Tensor, kernel: Tensor) -> tuple[Windows, Tensor]:
    """Without places of windows where padding alone is: a kernel may be longer than what it goes over."""
    size, before = list(windows.size), list(windows.before)
    for at in range(2):
        there = np.flatnonzero(windows.matrix(at, x.shape[at + 1]).any(axis=(1, 2)))
        first = int(there[0]) if there.size else 0
        if there.size and (left := before[at] - first * windows.gaps[at]) >= 0:
            size[at], before[at] = int(there[-1]) + 1 - first, left
            kernel = part_of(kernel, at, first, size[at])
    sides = ((size[0], size[1]), (before[0], before[1]))
    return replace(windows, size=sides[0], before=sides[1]), kernel


def _convolved(windows: Windows, x: Tensor, kernel: Tensor) -> Tensor | None:
    channels = kernel.shape[2]
    if kernel.value is not None and channels == x.shape[3]:
        axes = _axes_at_once(windows, x.shape, kernel.shape)
        if axes < 2:
            return _at_once(windows, x, kernel.value, axes)
        if math.prod(windows.size) > MOST_PLACES and windows.size[0] > windows.size[1]:
            found = _convolved(windows.turned(), _turned(x), transpose(kernel, (1, 0, 2, 3)))
            return None if found is None else _turned(found)
    places = windows.places(x, 0)
    return None if places is None else _weighed(places, kernel)


def _turned(x: Tensor) -> Tensor:
    return transpose(x, (0, 2, 1, 3))


def _axes_at_once(windows: Windows, shape: Shape, kernel: Shape) -> int:
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


def _at_once(windows: Windows, x: Tensor, kernel: Array, axis: int) -> Tensor | None:
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
    windows = windows_over(r, kernel.shape[:2], (down, along), (rows, columns), gaps)
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
    if integers(spaced.inputs[1]) != blocks or paddings is None or x.is_free:
        return None
    if not is_image:  # Of rows, which TensorFlow makes images one row high.
        if len(blocks) != 1 or x.rank != 3 or size[0] != 1:
            return None
        x, blocks = reshape(x, (x.shape[0], 1, *x.shape[1:])), [1, *blocks]
        paddings, crops = [0, 0, *paddings], [0, 0, *crops]
    lengths = [x.shape[at + 1] + sum(paddings[2 * at : 2 * at + 2]) for at in range(2)]
    counts = [lengths[at] - (size[at] - 1) * blocks[at] for at in range(2)]
    gaps, before, count = (blocks[0], blocks[1]), (paddings[0], paddings[2]), (counts[0], counts[1])
    found = _of_places(Windows(size, (1, 1), gaps, before, count), x, inner)
    rows, columns = r.shape[1:3] if is_image else (1, r.shape[1])
    return (
        None
        if found is None
        else reshape(part_of(part_of(found, 1, crops[0], rows), 2, crops[2], columns), r.shape)
    )


def _of_places(windows: Windows, x: Tensor, inner: Tensor) -> Tensor | None:
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
    return largest(places) if inner.op == "MaxPool" else scaled(add(*places), 1 / len(places))


def _size_of(inner: Tensor) -> Sides:
    """Of the windows of an operation."""
    if inner.op in ("AvgPool", "MaxPool"):
        sizes = tf.compat.v1.AttrValue.FromString(inner.node.attrs["ksize"]).list.i
        return int(sizes[1]), int(sizes[2])
    return (inner.inputs[1].shape[0], inner.inputs[1].shape[1]) if inner.op in _OF_WINDOWS else (1, 1)


def _is_valid(x: Tensor) -> bool:
    return bool(tf.compat.v1.AttrValue.FromString(x.node.attrs["padding"]).s == b"VALID")


def depthwise(r: Reading) -> Found:
    """Each channel has weights of its own, or several of them."""
    x, kernel = r.inputs
    windows = windows_of(r, kernel.shape[:2], tuple(r.attr("dilations")[1:3]))
    if windows is None or not kernel.is_free or is_part(x):
        return None
    windows, kernel = _within(windows, x, kernel)
    # Of many places many windows are many products of single numbers, which TensorFlow computes sooner.
    if math.prod(windows.size) > MAX_UNROLLED and math.prod(windows.count) > 1:
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


def patches(r: Reading) -> Found:
    """ExtractImagePatches: what each window holds, side by side."""
    size, gaps = tuple(r.attr("ksizes")[1:3]), tuple(r.attr("rates")[1:3])
    windows = windows_of(r, size, gaps)
    places = None if windows is None else windows.places(r.inputs[0], 0)
    return None if places is None else concat(places, 3)


CONVOLUTIONS: dict[str, Callable[[Reading], Found]] = {
    "BatchToSpaceND": dilated,
    "Conv2D": convolution,
    "Conv2DBackpropInput": transposed,
    "DepthwiseConv2dNative": depthwise,
    "ExtractImagePatches": patches,
}
