"""Convolutions in our form: a matrix product of each window's channels."""

from __future__ import annotations

import math

from nann.export.scorer._contract import MAX_UNROLLED
from nann.export.scorer._import_ops import Found, Reading
from nann.export.scorer._ops import concat, dot, reshape, slice_


def convolution(r: Reading) -> Found:
    """Of items, over few windows: without strides, dilations and padding."""
    x, kernel = r.inputs
    height, width, _, channels = kernel.shape
    rows, columns = r.shape[1:3]
    is_plain = r.attr("data_format") == b"NHWC" and {*r.attr("strides"), *r.attr("dilations")} == {1}
    fits = (rows, columns) == (x.shape[1] - height + 1, x.shape[2] - width + 1)
    if x.is_free or not kernel.is_free or not is_plain or not fits or not r.is_exact_enough:
        return None
    if kernel.shape[2] != x.shape[3] or height * width > MAX_UNROLLED:
        return None
    window = (x.shape[0], rows, columns, x.shape[3])
    windows = [slice_(x, (0, top, left, 0), window) for top in range(height) for left in range(width)]
    return dot(concat(windows, 3), reshape(kernel, (math.prod(kernel.shape[:3]), channels)))


CONVOLUTIONS = {"Conv2D": convolution}
