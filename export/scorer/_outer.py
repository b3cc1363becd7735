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
    n, d, j = x.shape
    outer = flat.inputs[0]
    if outer.rank != 4 or outer.shape[:2] != (n, d) or min(outer.shape[2:]) == 1:
        return None
    h, m = outer.shape[2:]
    operands = _factors(outer, uses)
    if operands is None or any(each.is_free for each in operands):
        return None
    left, right = sorted(operands, key=lambda each: each.shape != (n, d, h, 1))
    if (left.shape, right.shape) != ((n, d, h, 1), (n, d, 1, m)):
        return None
    by_right = reshape(transpose(reshape(matrix, (h, m, j)), (1, 0, 2)), (m, h * j))
    summed = reshape(dot(reshape(right, (n, d, m)), by_right), (n, d, h, j))
    return reshape(matmul(reshape(left, (n, d, 1, h)), summed), x.shape)


def _factors(outer: Tensor, uses: Uses) -> list[Tensor] | None:
    """Of a product that nothing else reads, also where it was transposed: then they are."""
    product = outer.inputs[0] if outer.op == "transpose" else outer
    if product.op != "mul" or len(product.inputs) != 2 or max(uses[outer], uses[product]) > 1:
        return None
    if product == outer:
        return list(product.inputs)
    if any(each.rank != product.rank for each in product.inputs):
        return None
    return [transpose(each, outer.node.attrs["perm"]) for each in product.inputs]


OUTER: tuple[Rule, ...] = (outer_into_matrix,)
