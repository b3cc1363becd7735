"""Rules for outer products of rows of the item, as compressed interaction networks have them."""

from __future__ import annotations

from nann.export.scorer._ir import Tensor, Uses
from nann.export.scorer._ops import dot, matmul, reshape, transpose
from nann.export.scorer._rewrite import Rule


def outer_into_matrix(x: Tensor, uses: Uses) -> Tensor | None:
    """dot(a [n, d, h, 1] * b [n, d, 1, m] as [n, d, h * m], W) -> a [n, d, 1, h] times (b . W) [n, d, h, j].

    The sums over m come first: what of `b` is the user's is then summed once.
    """
    if x.op != "dot" or x.rank != 3 or x.inputs[0].op != "reshape" or x.inputs[1].value is None:
        return None
    flat, matrix = x.inputs
    outer = flat.inputs[0]
    n, d, j = x.shape
    if outer.op != "mul" or len(outer.inputs) != 2 or uses[outer] > 1 or outer.rank != 4:
        return None
    h, m = outer.shape[2:]
    if outer.shape[:2] != (n, d) or min(h, m) == 1 or any(each.is_free for each in outer.inputs):
        return None
    left, right = sorted(outer.inputs, key=lambda each: each.shape != (n, d, h, 1))
    if (left.shape, right.shape) != ((n, d, h, 1), (n, d, 1, m)):
        return None
    by_right = reshape(transpose(reshape(matrix, (h, m, j)), (1, 0, 2)), (m, h * j))
    summed = reshape(dot(reshape(right, (n, d, m)), by_right), (n, d, h, j))
    return reshape(matmul(reshape(left, (n, d, 1, h)), summed), x.shape)


OUTER: tuple[Rule, ...] = (outer_into_matrix,)
