"""Linear systems whose matrix is the user's or constant, and whose right sides are of items, in our form.

LinUCB and other linear bandits solve one for each candidate. A product with the inverse has the cost of a
layer, but loses as many roundings as its condition says; what is known to be well conditioned is solved so.
A user's matrix may be anything: rows are found one after the other, as TensorFlow finds them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_ops import Found, Reading
from nann.export.scorer._ir import Spec, Tensor, constant, make
from nann.export.scorer._ops import (
    add,
    cast,
    compare,
    concat,
    dot,
    matmul,
    mul,
    negated,
    reshape,
    turned,
    unary,
)
from nann.export.scorer._slices import part_of, taken

# A product with the inverse loses as many roundings as its condition says.
_WORST_CONDITION = 100.0
# Steps of a system that is solved row by row.
_MOST_ROWS = 32


def triangular(r: Reading) -> Found:
    """The other triangle of the matrix does not count."""
    if not _is_solvable(r):
        return None
    matrix, right = r.inputs
    is_lower = bool(r.attr("lower"))
    if matrix.value is not None:
        matrix = constant(np.tril(matrix.value) if is_lower else np.triu(matrix.value))
        if (found := _by_inverse(matrix, r)) is not None:
            return found
    if r.attr("adjoint"):
        matrix, is_lower = turned(matrix), not is_lower
    return turned(_row_by_row(matrix, turned(right), is_lower=is_lower))


def general(r: Reading) -> Found:
    """MatrixSolve: as TensorFlow does it, by two triangular systems behind a permutation of the rows."""
    if not _is_solvable(r):
        return None
    matrix, right = r.inputs
    if matrix.value is not None:
        return _by_inverse(matrix, r)
    both, order = _factors(turned(matrix) if r.attr("adjoint") else matrix)
    places = constant(np.arange(matrix.shape[-1]).reshape(-1, 1), np.int32)
    is_place = compare("Equal", places, reshape(order, (*order.shape[:-1], 1, order.shape[-1])))
    in_order = _product(turned(right), cast(is_place))
    below = _found(both, in_order, 0, is_lower=True)
    return turned(_row_by_row(both, below, is_lower=False))


def _is_solvable(r: Reading) -> bool:
    matrix, right = r.inputs
    is_known = matrix.is_free and not right.is_free and right.dtype == tf.float32
    # Right sides for each of several matrices, none of which is repeated.
    is_known = is_known and right.shape == r.shape
    return is_known and matrix.shape[-1] <= _MOST_ROWS and 0 not in r.shape


def _by_inverse(matrix: Tensor, r: Reading) -> Tensor | None:
    """One constant matrix for all of the right sides [..., n, k]; None where its inverse is not as exact."""
    value = matrix.value
    if value is None or value[..., 0, 0].size != 1:
        return None
    wide = value.reshape(value.shape[-2:]).astype(np.float64)
    if not np.linalg.cond(wide) <= _WORST_CONDITION:
        return None
    inverse = np.linalg.inv(wide.T if r.attr("adjoint") else wide)
    return turned(dot(turned(r.inputs[1]), constant(inverse.T, np.float32)))


def _factors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Two triangular factors in one matrix, the lower with ones on its diagonal, and the rows in order."""
    types = {
        "T": tf.compat.v1.AttrValue(type=matrix.dtype.as_datatype_enum).SerializeToString(),
        "output_idx_type": tf.compat.v1.AttrValue(type=tf.int32.as_datatype_enum).SerializeToString(),
    }
    specs = [Spec(matrix.dtype, matrix.shape), Spec(tf.int32, matrix.shape[:-1])]
    node = make("Lu", [matrix], specs, types)
    return Tensor(node, 0), Tensor(node, 1)


def _product(x: Tensor, matrix: Tensor) -> Tensor:
    return dot(x, matrix) if matrix.rank == 2 else matmul(x, matrix)


def _row_by_row(matrix: Tensor, right: Tensor, *, is_lower: bool) -> Tensor:
    """x [..., k, n] with x times the turned triangular matrix [..., n, n] being `right`.

    Each row of the system is divided by its number on the diagonal first: so the user's part does all that
    is not a product with what is already found.
    """
    n, lead = matrix.shape[-1], matrix.shape[:-2]
    diagonal = taken(reshape(matrix, (*lead, n * n)), len(lead), range(0, n * n, n + 1))
    assert diagonal is not None
    scales = unary("Reciprocal", diagonal)
    ones = mul(matrix, reshape(scales, (*lead, n, 1)))
    return _found(ones, mul(right, reshape(scales, (*lead, 1, n))), 0, is_lower=is_lower)


def _found(matrix: Tensor, right: Tensor, begin: int, *, is_lower: bool) -> Tensor:
    """The columns of x from `begin` on, as many as `right` has: half of them, and then the others.

    matrix: with ones on its diagonal; what is there is not read.
    """
    n, axis = right.shape[-1], right.rank - 1
    if n == 1:
        return right
    half = n // 2
    halves = [(0, half), (half, n - half)]
    parts = [part_of(right, axis, at, count) for at, count in halves]
    one, other = (0, 1) if is_lower else (1, 0)
    parts[one] = _found(matrix, parts[one], begin + halves[one][0], is_lower=is_lower)
    rows = part_of(matrix, matrix.rank - 2, begin + halves[other][0], halves[other][1])
    block = turned(part_of(rows, matrix.rank - 1, begin + halves[one][0], halves[one][1]))
    rest = add(parts[other], negated(_product(parts[one], block)))
    parts[other] = _found(matrix, rest, begin + halves[other][0], is_lower=is_lower)
    return concat(parts, axis)


SOLVED: dict[str, Callable[[Reading], Found]] = {
    "MatrixSolve": general,
    "MatrixTriangularSolve": triangular,
}
