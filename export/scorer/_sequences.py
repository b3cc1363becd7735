"""Rules for sequences: items stay an axis of their own, and what heads are scaled by goes into a product."""

from __future__ import annotations

import math

from nann.export.scorer._cleanup import function_of_rows
from nann.export.scorer._ir import Tensor, Uses
from nann.export.scorer._ops import add, matmul, mul, reshape, transpose
from nann.export.scorer._rewrite import Rule


def bias_of_heads(x: Tensor, _: Uses) -> Tensor | None:
    """reshape(a, [..., h, d]) + free [h, d] -> reshape(a + free [h * d]), and products alike."""
    if x.op not in ("add", "mul"):
        return None
    split = [each for each in x.inputs if not each.is_free]
    if len(split) != 1 or split[0].op != "reshape" or split[0].shape != x.shape:
        return None
    before = split[0].inputs[0]
    kept = before.rank - 1
    if before.shape[:-1] != x.shape[:kept] or before.rank >= x.rank:
        return None
    wide = [each for each in x.inputs if each.is_free and each.size > 1]
    if any(each.size != math.prod(x.shape[kept:]) or each.shape[-1] != x.shape[-1] for each in wide):
        return None
    if any(each.shape[kept - x.rank :] != x.shape[kept:] for each in wide):
        return None
    join = add if x.op == "add" else mul
    operands = (
        before if each == split[0] else reshape(each, (each.size,) if each.size > 1 else ())
        for each in x.inputs
    )
    return reshape(join(*operands), x.shape)


def scalar_before_transpose(x: Tensor, _: Uses) -> Tensor | None:
    """transpose(a) * scalar -> transpose(a * scalar), and sums alike."""
    if x.op not in ("add", "mul"):
        return None
    large = [each for each in x.inputs if each.size > 1]
    if len(large) != 1 or large[0].op != "transpose" or large[0].shape != x.shape:
        return None
    join = add if x.op == "add" else mul
    operands = (each.inputs[0] if each == large[0] else reshape(each, ()) for each in x.inputs)
    return transpose(join(*operands), large[0].node.attrs["perm"])


def scale_into_matmul(x: Tensor, uses: Uses) -> Tensor | None:
    """(a @ b) * constant -> (a * constant) @ b: the scale of an attention then goes on into a matrix."""
    if x.op != "mul" or len(x.inputs) != 2 or x.inputs[1].size != 1 or x.inputs[1].value is None:
        return None
    product, scale = x.inputs
    if product.op != "BatchMatMulV2" or uses[product] > 1 or product.shape != x.shape:
        return None
    left, right = product.inputs
    scaled = mul(left, reshape(scale, ()))
    return matmul(scaled, right) if scaled.shape == left.shape else None


def items_apart(x: Tensor, _: Uses) -> Tensor | None:
    """f(reshape(a, [n * rows, k])) -> reshape(f(reshape(a, [n, rows, k]))) for functions of each row."""
    found = function_of_rows(x)
    if found is None or found[0].op != "reshape":
        return None
    operand, function = found
    before = operand.inputs[0]
    if before.rank < 2 or operand.rank < 2 or before.shape[0] in (0, 1, operand.shape[0]):
        return None
    rows, rest = divmod(operand.shape[0], before.shape[0])
    if rest:
        return None
    return reshape(function(reshape(before, (before.shape[0], rows, *operand.shape[1:]))), x.shape)


SEQUENCES: tuple[Rule, ...] = (bias_of_heads, scalar_before_transpose, scale_into_matmul, items_apart)
