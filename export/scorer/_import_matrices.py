"""Small square matrices of user and item in our form: factors, determinants, inverses and systems.

Kernels of a few events and a candidate (determinantal point processes, Gaussian processes) and sums of two
covariances are such. Rows are eliminated one after the other, in the order in which TensorFlow does it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_ops import Found, Reading, first_of
from nann.export.scorer._import_solve import SOLVED
from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._ops import (
    add,
    broadcast,
    columns,
    compare,
    concat,
    divide,
    mul,
    negated,
    reduce_kept,
    reshape,
    select,
    turned,
    unary,
)
from nann.export.scorer._slices import padded, part_of

# Each row is a step of a dozen instructions on all that is left.
_MOST_ROWS = 8


@dataclass(frozen=True)
class _Row:
    """What one step of an elimination leaves: [..., 1, width], its pivot first.

    is_swapped: bool [..., 1, 1], whether it stood below others.
    """

    numbers: Tensor
    is_swapped: Tensor

    @property
    def pivot(self) -> Tensor:
        return columns(self.numbers, 0, 1)

    def rest(self, count: int) -> Tensor:
        """Behind the pivot and `count` others."""
        return columns(self.numbers, 1 + count, self.numbers.shape[-1])


def _is_small(matrix: Tensor) -> bool:
    n = matrix.shape[-1]
    return not matrix.is_free and matrix.dtype == tf.float32 and 0 < n <= _MOST_ROWS and 0 not in matrix.shape


def _rows(x: Tensor, begin: int, end: int) -> Tensor:
    return part_of(x, x.rank - 2, begin, end - begin)


def _less(x: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """Without the product of a column and a row."""
    return add(x, negated(mul(column, row)))


def factor(r: Reading) -> Found:
    """Cholesky, which reads the lower triangle only."""
    (x,) = r.inputs
    if not x.is_of_both or not _is_small(x):
        return None
    n, found = x.shape[-1], list[Tensor]()
    for step in range(n):
        first = columns(x, 0, 1)
        column = divide(first, unary("Sqrt", _rows(first, 0, 1)))
        above = [(0, 0)] * (x.rank - 2) + [(step, 0), (0, 0)]
        found.append(padded(column, above, 0))
        below = _rows(column, 1, n - step)
        x = _less(columns(_rows(x, 1, n - step), 1, n - step), below, turned(below))
    return concat(found, x.rank - 1)


def _eliminated(x: Tensor) -> list[_Row]:
    """[..., n, n or more]: the rows of a triangle, each with the largest pivot that is left."""
    found = []
    for n in range(x.shape[-2], 0, -1):
        sizes, each = unary("Abs", columns(x, 0, 1)), constant(np.arange(n)[:, np.newaxis], np.float32)
        is_largest = compare("Equal", sizes, reduce_kept(sizes, "Max", -2))
        place = reduce_kept(select(is_largest, each, constant(np.float32(n))), "Min", -2)
        is_here = compare("Equal", each, place)
        row = reduce_kept(select(is_here, x, constant(np.float32(0))), "Sum", -2)
        found.append(_Row(row, compare("Greater", place, constant(np.float32(0)))))
        others = _rows(select(is_here, _rows(x, 0, 1), x), 1, n)
        width = x.shape[-1]
        factors = divide(columns(others, 0, 1), columns(row, 0, 1))
        x = _less(columns(others, 1, width), factors, columns(row, 1, width))
    return found


def _solution(matrix: Tensor, right: Tensor) -> Tensor:
    """x [..., n, k] with matrix [..., n, n] times x being `right`."""
    rows = _eliminated(concat([matrix, right], matrix.rank - 1))
    found: Tensor | None = None
    for below, row in enumerate(reversed(rows)):
        number = row.rest(below)
        if found is not None:
            weights = reshape(columns(row.numbers, 1, 1 + below), (*row.numbers.shape[:-2], below, 1))
            number = add(number, negated(reduce_kept(mul(weights, found), "Sum", -2)))
        number = divide(number, row.pivot)
        found = number if found is None else concat([number, found], matrix.rank - 2)
    assert found is not None
    return found


def system(r: Reading) -> Found:
    """MatrixSolve; of a user's matrix elsewhere."""
    matrix, right = r.inputs
    if not _is_small(matrix) or right.shape[-1] > _MOST_ROWS or right.shape[:-2] != matrix.shape[:-2]:
        return None
    return _solution(turned(matrix) if r.attr("adjoint") else matrix, right)


def triangular(r: Reading) -> Found:
    """MatrixTriangularSolve of an item's matrix: a system whose other triangle does not count."""
    matrix, right = r.inputs
    if not _is_small(matrix) or right.shape[-1] > _MOST_ROWS or right.shape[:-2] != matrix.shape[:-2]:
        return None
    is_lower = r.attr("lower") != r.attr("adjoint")
    matrix, n = turned(matrix) if r.attr("adjoint") else matrix, matrix.shape[-1]
    found: list[Tensor] = []
    for at in range(n) if is_lower else reversed(range(n)):
        row, number = _rows(matrix, at, at + 1), _rows(right, at, at + 1)
        if found:
            begin, end = (0, at) if is_lower else (at + 1, n)
            weights = turned(columns(row, begin, end))
            terms = mul(weights, concat(found, matrix.rank - 2))
            number = add(number, negated(reduce_kept(terms, "Sum", -2)))
        number = divide(number, columns(row, at, at + 1))
        found = [*found, number] if is_lower else [number, *found]
    return concat(found, matrix.rank - 2)


def inverse(r: Reading) -> Found:
    (matrix,) = r.inputs
    if not matrix.is_of_both or not _is_small(matrix):
        return None
    ones = broadcast(constant(np.eye(matrix.shape[-1], dtype=np.float32)), matrix.shape)
    return _solution(turned(matrix) if r.attr("adjoint") else matrix, ones)


def determinant(r: Reading) -> Found:
    """MatrixDeterminant, and the sign and the logarithm of the size (LogMatrixDeterminant)."""
    (matrix,) = r.inputs
    if not matrix.is_of_both or not _is_small(matrix):
        return None
    rows = _eliminated(matrix)
    one, minus_one = constant(np.float32(1)), constant(np.float32(-1))
    turns = [select(row.is_swapped, minus_one, one) for row in rows]
    if r.operation.type == "MatrixDeterminant":
        return reshape(mul(*turns, *(row.pivot for row in rows)), r.shape)
    signs = mul(*turns, *(unary("Sign", row.pivot) for row in rows))
    sizes = add(*(unary("Log", unary("Abs", row.pivot)) for row in rows))
    return [reshape(signs, r.shape), reshape(sizes, r.shape)]


MATRICES: dict[str, Callable[[Reading], Found]] = {
    "Cholesky": factor,
    "LogMatrixDeterminant": determinant,
    "MatrixDeterminant": determinant,
    "MatrixInverse": inverse,
    "MatrixSolve": first_of(SOLVED["MatrixSolve"], system),
    "MatrixTriangularSolve": first_of(SOLVED["MatrixTriangularSolve"], triangular),
}
