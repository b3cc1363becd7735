"""Pooling in our form: the mean and the largest number of each window."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np

from nann.export.scorer._contract import MAX_UNROLLED
from nann.export.scorer._import_ops import Found, Reading
from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._ops import add, dot_along, maximum, mul, reduce_, reshape
from nann.export.scorer._slices import part_of
from nann.export.scorer._windows import Windows, is_part, windows_of


def mean_pooling(r: Reading) -> Found:
    """Over what of a window is not padding."""
    x, windows = r.inputs[0], _pooled(r)
    if windows is None:
        return None
    if math.prod(windows.size) <= MAX_UNROLLED:
        places = windows.places(x, 0)
        return None if places is None else mul(add(*places), constant(1 / windows.covered(x.shape)))
    return _reduced(windows, x, "Mean") or mul(_summed(windows, x), constant(1 / windows.covered(x.shape)))


def max_pooling(r: Reading) -> Found:
    x, windows = r.inputs[0], _pooled(r)
    if windows is None:
        return None
    if math.prod(windows.size) <= MAX_UNROLLED:
        places = windows.places(x, -math.inf)
        return None if places is None else largest(places)
    return _reduced(windows, x, "Max") or _largest_of_runs(windows, x)


def largest(places: Sequence[Tensor]) -> Tensor:
    return functools.reduce(maximum, places)


def _reduced(windows: Windows, x: Tensor, function: str) -> Tensor | None:
    """Windows side by side, or one alone, such as over all rows: a reduction of what each of them holds."""
    if windows.covered(x.shape).min() < math.prod(windows.size):
        return None
    shape = [x.shape[0]]
    for at, (count, size) in enumerate(zip(windows.count, windows.size, strict=True)):
        if count > 1 and size != windows.strides[at]:
            return None
        x = part_of(x, at + 1, 0, count * size)
        shape += [count, size]
    return reduce_(reshape(x, (*shape, x.shape[3])), function, [2, 4])


def _summed(windows: Windows, x: Tensor) -> Tensor:
    """What windows hold, by a product with ones and zeros along each axis."""
    for at, size in enumerate(windows.size):
        if size > 1:
            holds = windows.matrix(at, x.shape[at + 1]).sum(axis=0, dtype=np.float32)
            x = dot_along(x, at + 1, constant(holds))
    return x


def _largest_of_runs(windows: Windows, x: Tensor) -> Tensor | None:
    """The largest of runs of two numbers, of four, and so on, along each axis."""
    x = windows.padded(x, -math.inf)
    for axis, size in enumerate(windows.size, start=1):
        run = 1
        while run < size:
            step = min(run, size - run)
            left = x.shape[axis] - step
            x = maximum(part_of(x, axis, 0, left), part_of(x, axis, step, left))
            run += step
    return windows.first_places(x)


def _pooled(r: Reading) -> Windows | None:
    sizes = r.attr("ksize")
    is_of_channels = sizes[0] == sizes[3] == 1 and r.attr("padding") in (b"SAME", b"VALID")
    is_of_channels = is_of_channels and not is_part(r.inputs[0])
    return windows_of(r, (sizes[1], sizes[2]), (1, 1)) if is_of_channels else None


POOLINGS: dict[str, Callable[[Reading], Found]] = {"AvgPool": mean_pooling, "MaxPool": max_pooling}
