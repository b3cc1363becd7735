"""Images in another size in our form.

A matrix of weights along their rows and one along their columns makes them larger or smaller; blocks of
places may become channels, and channels blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_ops import Found, Reading, integers
from nann.export.scorer._infinities import may_be_infinite
from nann.export.scorer._ir import Array, constant
from nann.export.scorer._ops import dot_along, reshape, transpose

# Rows or columns before and after.
_MOST_PLACES = 256


def resized(r: Reading) -> Found:
    """[n, rows, columns, channels], as a profile of events by time is made longer or shorter."""
    x, sizes = r.inputs[0], integers(r.inputs[1])
    if sizes is None or x.is_free or x.dtype != tf.float32 or may_be_infinite(x):
        return None
    if max(*x.shape[1:3], *sizes) > _MOST_PLACES:
        return None
    for axis in (1, 2):
        x = dot_along(x, axis, constant(_weights(r, x.shape[axis], sizes[axis - 1]).T))
    return x


def _weights(r: Reading, before: int, after: int) -> Array:
    """[after, before]: the operation's own result of images of one column, each with a 1 in another row."""
    attributes = {name: r.attr(name) for name in ("align_corners", "half_pixel_centers")}
    resize = getattr(tf.raw_ops, r.operation.type)
    images = np.eye(before, dtype=np.float32).reshape(1, before, 1, before)
    with tf.init_scope():
        found: Array = resize(images=images, size=[after, 1], **attributes).numpy()
    return found.reshape(after, before)


def blocks(r: Reading) -> Found:
    """SpaceToDepth, which makes blocks of places channels, and DepthToSpace, which makes channels blocks."""
    (x,), size = r.inputs, r.attr("block_size")
    if r.attr("data_format") != b"NHWC":
        return None
    n, rows, columns, channels = x.shape
    if r.operation.type == "SpaceToDepth":
        parts = reshape(x, (n, rows // size, size, columns // size, size, channels))
    else:
        parts = reshape(x, (n, rows, columns, size, size, channels // size**2))
    return reshape(transpose(parts, [0, 1, 3, 2, 4, 5]), r.shape)


IMAGES: dict[str, Callable[[Reading], Found]] = {
    **dict.fromkeys(["DepthToSpace", "SpaceToDepth"], blocks),
    **dict.fromkeys(["ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor"], resized),
}
