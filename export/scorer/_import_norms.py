"""FusedBatchNorm: at inference a factor and a summand for each channel, otherwise the norm of rows."""

from __future__ import annotations

import math

import numpy as np

from nann.export.scorer._import_ops import Found, Reading
from nann.export.scorer._ir import Array, Tensor, constant
from nann.export.scorer._ops import (
    add,
    behind_reshape,
    mul,
    negated,
    reduce_kept,
    reshape,
    scaled,
    squared_difference,
    unary,
)


def _fused_batch_norm(r: Reading) -> Found:
    return _norm_of_rows(r) if r.attr("is_training") else _by_moving_averages(r)


def _by_moving_averages(r: Reading) -> Found:
    """One factor and one summand for each channel."""
    x, scale, offset, mean, variance = r.inputs
    values = [each.value for each in (scale, offset, mean, variance)]
    if r.attr("data_format") != b"NHWC" or not r.is_exact_enough:
        return None
    if any(value is None for value in values):
        return None
    gamma, beta, center, spread = (np.asarray(value, np.float64) for value in values)
    factor: Array = gamma / np.sqrt(spread + r.attr("epsilon"))
    summand = (beta - center * factor).astype(np.float32)
    normalised = add(mul(x, constant(factor.astype(np.float32))), constant(summand))
    # The other outputs are for training; at inference they are the moving mean and variance.
    return [normalised, mean, variance, mean, variance, *([scaled(mean, 0.0)] * (len(r.specs) - 5))]


def _norm_of_rows(r: Reading) -> Found:
    """A layer norm of Keras 2: each row is a channel [1, rows, width, 1] with moments of its own."""
    x, scale, offset = r.inputs[:3]
    if r.attr("data_format") != b"NCHW" or x.shape[0] != 1 or not r.is_exact_enough:
        return None
    rows, width = x.shape[1], math.prod(x.shape[2:])
    at = _in_rows(x, rows, width)
    mean = reduce_kept(at, "Mean", at.rank - 1)
    variance = reduce_kept(squared_difference(at, mean), "Mean", at.rank - 1)
    factor = unary("Rsqrt", add(variance, constant(np.float32(r.attr("epsilon")))))
    found = reshape(mul(add(at, negated(mean)), factor), x.shape)
    for each, neutral, join in ((scale, 1, mul), (offset, 0, add)):
        if each.value is None or not np.all(each.value == neutral):
            found = join(found, reshape(each, (1, rows, 1, 1)))
    mean, variance = reshape(mean, (rows,)), reshape(variance, (rows,))
    unbiased = scaled(variance, width / max(width - 1, 1))
    return [found, mean, unbiased, mean, variance, *([scaled(mean, 0.0)] * (len(r.specs) - 5))]


def _in_rows(x: Tensor, rows: int, width: int) -> Tensor:
    """The same numbers as [..., width]: as they were before a reshape, where that had such rows."""
    before = behind_reshape(x)
    return before if before.rank > 1 and before.shape[-1] == width else reshape(x, (rows, width))


NORMS = {f"FusedBatchNorm{version}": _fused_batch_norm for version in ("", "V2", "V3")}
