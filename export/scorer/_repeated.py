"""The user, repeated for each item, behind operations that are not known: one of its rows is read.

Such an operation may do anything with the rows. But where its result meets the items row by row, all rows
must say the same: else a score would depend on the place of its item in a tile, which an export refuses.
"""

from __future__ import annotations

from nann.export.scorer._ir import Tensor, Uses, same_op, topological
from nann.export.scorer._narrow import narrow_of
from nann.export.scorer._ops import broadcast, rebuilt, slice_
from nann.export.scorer._rewrite import rewrite
from nann.export.scorer._rows import ELEMENTWISE

# What has a row of each operand for each item.
_ROW_BY_ROW = (ELEMENTWISE | {"BatchMatMulV2", "concat"}) - {"broadcast"}


def user_once(output: Tensor, tile_rows: int) -> Tensor:
    """The same scores, for which the operations that meet the items read one row of the user."""

    def rule(x: Tensor, _: Uses) -> Tensor | None:
        if x.op not in _ROW_BY_ROW or x.shape[:1] != (tile_rows,):
            return None
        inputs = [_first_row(each) if _is_repeated(each, x, tile_rows) else each for each in x.inputs]
        return rebuilt(x, inputs) or Tensor(same_op(x.node, inputs))

    return rewrite(output, (rule,))


def _is_repeated(x: Tensor, reader: Tensor, tile_rows: int) -> bool:
    """Whether it has a row for each item and is computed of what was repeated for each item, of nothing else.

    An integer may be the place of a row, which differs from item to item.
    """
    has_rows = x.rank == reader.rank and x.shape[:1] == (tile_rows,) and tile_rows not in x.shape[1:]
    if not has_rows or not x.is_free or not x.dtype.is_floating or x.op in ("broadcast", "const"):
        return False

    def is_known(each: Tensor) -> bool:
        return each.value is not None or (each.op == "broadcast" and narrow_of(each).shape[:1] == (1,))

    return all(node.op != "source" for node in topological([x], stop=is_known))


def _first_row(x: Tensor) -> Tensor:
    return broadcast(slice_(x, (0,) * x.rank, (1, *x.shape[1:])), x.shape)
