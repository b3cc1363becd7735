"""Products along the rows of an item's matrices, such as fields that a layer mixes: without transposes.

The algebra knows products along the last axis. A layer over the rows is then a transpose, the product, what
follows it, and a transpose back. Here the matrix comes from the left, and all stays as wide as the rows are.
"""

from __future__ import annotations

from nann.export.scorer._beside import matrix_times_rows
from nann.export.scorer._cleanup import late_transpose
from nann.export.scorer._ir import Shape, Tensor, Uses
from nann.export.scorer._ops import add, matmul, mul, reshape, slice_, transpose, turned
from nann.export.scorer._rewrite import Rule

_SWAP = (0, 2, 1)


def matrix_from_left(x: Tensor, _: Uses) -> Tensor | None:
    """dot(transpose(a [n, k, d]), W) -> transpose(W' times a)."""
    if x.op != "dot" or x.rank != 3 or not _is_swapped(x.inputs[0]) or x.inputs[1].value is None:
        return None
    swapped, matrix = x.inputs
    return transpose(matmul(turned(matrix), swapped.inputs[0]), _SWAP)


def late_transpose_of_operands(x: Tensor, _: Uses) -> Tensor | None:
    """transpose(a) + transpose(b) + row -> transpose(a + b + column), and products alike."""
    if x.op not in ("add", "mul") or x.rank != 3:
        return None
    swapped = [each for each in x.inputs if _is_swapped(each) and each.shape == x.shape]
    if not swapped or any(not each.is_free for each in x.inputs if each not in swapped):
        return None
    operands = [each.inputs[0] if each in swapped else _swapped(each) for each in x.inputs]
    return transpose(add(*operands) if x.op == "add" else mul(*operands), _SWAP)


def late_transpose_of_slice(x: Tensor, _: Uses) -> Tensor | None:
    """A part of transpose(a) -> the transpose of that part of `a`."""
    if x.op != "slice" or not _is_swapped(x.inputs[0]):
        return None
    begin = x.node.attrs["begin"]
    items, columns, rows = x.shape
    part = slice_(x.inputs[0].inputs[0], (begin[0], begin[2], begin[1]), (items, rows, columns))
    return transpose(part, _SWAP)


def _is_swapped(x: Tensor) -> bool:
    return x.op == "transpose" and x.rank == 3 and x.node.attrs["perm"] == _SWAP and not x.is_free


def _swapped(x: Tensor) -> Tensor:
    """What is broadcast with matrices, for their transposes."""
    if x.size == 1:
        return reshape(x, ())
    shape: Shape = (1,) * (3 - x.rank) + x.shape
    return transpose(reshape(x, shape), _SWAP)


MIXED_ROWS: tuple[Rule, ...] = (
    matrix_from_left,
    matrix_times_rows,
    late_transpose_of_operands,
    late_transpose_of_slice,
    late_transpose,
)
