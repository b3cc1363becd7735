"""Rows that are taken more than once, as a field for each pair that it is part of: they are computed once."""

from __future__ import annotations

from nann.export.scorer._beside import elementwise_parts
from nann.export.scorer._cleanup import part_along
from nann.export.scorer._ir import Tensor, Uses
from nann.export.scorer._ops import broadcast, concat, dot
from nann.export.scorer._rewrite import Rule
from nann.export.scorer._rows import ELEMENTWISE


def product_of_taken(x: Tensor, _: Uses) -> Tensor | None:
    """dot(rows of a, W) -> rows of dot(a, W), where some rows are taken more than once."""
    if x.op != "dot" or x.inputs[0].op != "concat" or x.is_free:
        return None
    joined, matrix = x.inputs
    axis = joined.node.attrs["axis"]
    found = [_rows_of(part, axis) for part in joined.inputs]
    base = found[0][0]
    if axis == joined.rank - 1 or any(each[0] != base for each in found):
        return None
    if base.is_free or base.shape[axis] >= joined.shape[axis]:
        return None
    product = dot(base, matrix)
    parts = []
    for part, (_base, begin, count) in zip(joined.inputs, found, strict=True):
        rows = part_along(product, axis - product.rank, begin, count)
        parts.append(broadcast(rows, (*part.shape[:-1], product.shape[-1])))
    return concat(parts, axis)


def _rows_of(part: Tensor, axis: int) -> tuple[Tensor, int, int]:
    """Of which tensor a part is some rows, from where, and how many; of itself where it is no such part."""
    rows = part.inputs[0] if part.op == "broadcast" else part
    if rows.op == "slice" and rows.rank == part.rank:
        base = rows.inputs[0]
        if all(rows.shape[each] == base.shape[each] for each in range(base.rank) if each != axis):
            return base, rows.node.attrs["begin"][axis], rows.shape[axis]
    return part, 0, part.shape[axis]


def elementwise_of_parts(x: Tensor, _: Uses) -> Tensor | None:
    """f([a; b], [c; d]) -> [f(a, c); f(b, d)] of rows that were cut alike: none of them need be copied."""
    if x.op not in ELEMENTWISE - {"broadcast"} or x.is_free or len(x.inputs) < 2:
        return None
    first = x.inputs[0]
    if any(each.op != "concat" or each.shape != x.shape for each in x.inputs):
        return None
    axis = first.node.attrs["axis"]
    if axis == x.rank - 1 or any(each.node.attrs["axis"] != axis for each in x.inputs):
        return None
    parts = elementwise_parts(x, [part.shape[axis] for part in first.inputs], axis)
    return None if parts is None else concat(parts, axis)


TAKEN: tuple[Rule, ...] = (product_of_taken, elementwise_of_parts)
