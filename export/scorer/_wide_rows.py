"""What is computed in the rows that numbers had before a reshape cut them, where those fill vectors.

The executor computes whole strips of a row. Of [n, 16, 2], such as the two channels of a picture's 16
places, seven numbers of eight would be computed for nothing, and copied before the next layer reads a row.
"""

from __future__ import annotations

import numpy as np

from nann.export.scorer._ir import Shape, Tensor, Uses, constant
from nann.export.scorer._narrow import like
from nann.export.scorer._ops import reduce_, reshape
from nann.export.scorer._rewrite import Rule
from nann.export.scorer._rows import ELEMENTWISE

# Floats of a strip: kStrip of ops/core/scorer/tile_kernels.h.
_STRIP = 16
# Constants are repeated for all of an item's numbers, up to so many.
_MOST_REPEATED = 1 << 16


def in_wide_rows(x: Tensor, _: Uses) -> Tensor | None:
    """f(reshape(a), reshape(b)) -> reshape(f(a, b)) where that cuts rows into narrow ones."""
    if x.op not in ELEMENTWISE - {"broadcast"} or len(x.inputs) < 2 or x.rank < 3 or x.shape[-1] >= _STRIP:
        return None
    before = next((each.inputs[0].shape for each in x.inputs if _is_cut(each, x)), None)
    if before is None:
        return None
    operands = [_in_rows(each, x, before) for each in x.inputs]
    found = [each for each in operands if each is not None]
    return reshape(like(x.node, found, [before])[0], x.shape) if len(found) == len(operands) else None


def reduced_in_wide_rows(x: Tensor, _: Uses) -> Tensor | None:
    """A reduction over all axes that rows were cut into is one over the rows."""
    if x.op != "reduce" or x.inputs[0].op != "reshape" or len(x.node.attrs["axes"]) < 2:
        return None
    cut, before = x.inputs[0], x.inputs[0].inputs[0]
    kept = before.rank - 1
    if before.is_free or before.shape[:-1] != cut.shape[:kept] or cut.shape[-1] >= _STRIP:
        return None
    if x.node.attrs["axes"] != tuple(range(kept, cut.rank)):
        return None
    return reshape(reduce_(before, x.node.attrs["function"], [-1]), x.shape)


def _is_cut(operand: Tensor, x: Tensor) -> bool:
    if operand.op != "reshape" or operand.is_free or operand.shape != x.shape:
        return False
    before, narrow = operand.inputs[0].shape, x.shape[-1]
    return before[0] == x.shape[0] and before[-1] > narrow and before[-1] % narrow == 0


def _in_rows(operand: Tensor, x: Tensor, before: Shape) -> Tensor | None:
    if operand.size == 1:
        return reshape(operand, ())
    if _is_cut(operand, x):
        return operand.inputs[0] if operand.inputs[0].shape == before else None
    if operand.rank == x.rank and operand.size == operand.shape[0] == x.shape[0] and len(before) == 2:
        return reshape(operand, (operand.size, 1))  # One number for each item.
    is_same_for_all = operand.rank < x.rank or operand.shape[0] == 1
    if operand.value is None or not is_same_for_all or x.size // x.shape[0] > _MOST_REPEATED:
        return None
    value = np.broadcast_to(operand.value, (1, *x.shape[1:]))
    return constant(np.ascontiguousarray(value).reshape(before[1:]))


WIDE_ROWS: tuple[Rule, ...] = (in_wide_rows, reduced_in_wide_rows)
