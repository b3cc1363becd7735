"""Linear systems of a constant matrix in our form: products with its inverse, where that is as exact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_ops import Found, Reading
from nann.export.scorer._ir import Array, constant
from nann.export.scorer._ops import dot, turned

# A product with the inverse loses as many roundings as its condition says.
_WORST_CONDITION = 100.0


def triangular(r: Reading) -> Found:
    """The other triangle of the matrix does not count."""
    matrix = r.inputs[0].value
    if matrix is None:
        return None
    return _solved(np.tril(matrix) if r.attr("lower") else np.triu(matrix), r)


def _solved(matrix: Array, r: Reading) -> Found:
    """One matrix for all of the right sides [..., n, k]."""
    right, wide = r.inputs[1], matrix.reshape(matrix.shape[-2:]) if matrix[..., 0, 0].size == 1 else None
    if wide is None or right.is_free or right.dtype != tf.float32:
        return None
    wide = wide.astype(np.float64)
    if not np.linalg.cond(wide) <= _WORST_CONDITION:
        return None
    inverse = np.linalg.inv(wide.T if r.attr("adjoint") else wide)
    return turned(dot(turned(right), constant(inverse.T, np.float32)))


SOLVED: dict[str, Callable[[Reading], Found]] = {"MatrixTriangularSolve": triangular}
