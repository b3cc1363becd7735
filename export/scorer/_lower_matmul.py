"""Lowering of products of matrices that both depend on the item: within heads, of events with events."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from nann.export.scorer._ir import Tensor
from nann.export.scorer._lowering import Lowering, Step, refuse, refuse_moved_items
from nann.export.scorer._program import Opcode, Shape
from nann.export.scorer._views import Axis, Factor, View, count, joined, view_of

PRODUCTS = ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
# Bits of a side's layout (docs/scorer-program.md).
_BELOW, _TRANSPOSED = 1, 2
_RIGHT_SIDE = 4
_OUT_BELOW = 16


@dataclass(frozen=True)
class _Side:
    """One side of a product: where its groups, its rows and its columns are.

    layout: the bits that say so of a value's matrix as it is; None: it is copied first, group below group.
    """

    view: View
    groups: Axis
    rows: Axis
    columns: Axis
    layout: int | None

    def value(self, lowering: Lowering, value: int) -> int:
        """The value that the product reads."""
        own = lowering.program.shape(value)
        if self.layout is not None:
            width = math.prod(count(axis) for axis in self._across(self.layout))
            return value if width == own.columns else lowering.columns(value, self.view.column, width)
        rows, columns = joined(self.groups, self.rows), joined(self.columns)
        shape = Shape(own.per_item, count(rows), count(columns))
        steps = [number for f in (*rows, *columns) for number in (f.size, f.row, f.column)]
        parameters = (shape.rows, shape.columns, self.view.row, self.view.column, *steps)
        return lowering.program.add(Opcode.REARRANGE, shape, [value], parameters=parameters)

    @property
    def bits(self) -> int:
        return _BELOW if self.layout is None else self.layout

    def fits(self, lowering: Lowering, layout: int) -> bool:
        """Whether the groups' matrices lie so in the base's matrix."""
        own = lowering.shape(self.view.base)
        down = self._down(layout)
        return (
            self.view.row == 0
            and joined(*down) == joined((Factor(own.rows, row=1),))
            and joined(*self._across(layout))
            == joined((Factor(math.prod(count(axis) for axis in self._across(layout)), column=1),))
        )

    def _down(self, layout: int) -> list[Axis]:
        down = self.columns if layout & _TRANSPOSED else self.rows
        return [self.groups, down] if layout & _BELOW else [down]

    def _across(self, layout: int) -> list[Axis]:
        across = self.rows if layout & _TRANSPOSED else self.columns
        return [across] if layout & _BELOW else [self.groups, across]


def matmul(lowering: Lowering, tensor: Tensor) -> Step | None:
    """A product of matrices within leading axes, the items first; None of other operations."""
    return _product(lowering, tensor, out_below=True) if tensor.op in PRODUCTS else None


def beside(lowering: Lowering, view: View, rows: Axis, columns: Axis) -> Step | None:
    """A product that nothing else reads, where its groups are wanted side by side: it puts them there."""
    product = view.base
    if product.op not in PRODUCTS or lowering.uses[product] > 1 or view.row or view.column:
        return None
    down, across = product.shape[-2:]
    groups = math.prod(product.shape[(0 if product.is_free else 1) : -2])
    wanted = joined((Factor(down, row=1),)), joined((Factor(groups, row=down),), (Factor(across, column=1),))
    if (rows, columns) != wanted or groups == 1:
        return None
    return _product(lowering, product, out_below=False)


def _product(lowering: Lowering, tensor: Tensor, *, out_below: bool) -> Step:
    shape = lowering.shape(tensor)
    left, right = (
        _side(lowering, tensor, each, transposed=_flag(tensor, flag))
        for each, flag in zip(tensor.inputs, ("adj_x", "adj_y"), strict=True)
    )
    groups = count(left.groups)
    layout = left.bits + _RIGHT_SIDE * right.bits + (_OUT_BELOW if out_below else 0)
    if not out_below:
        shape = Shape(shape.per_item, shape.rows // groups, shape.columns * groups)

    def emit(values: Sequence[int]) -> int:
        operands = [side.value(lowering, value) for side, value in zip((left, right), values, strict=True)]
        return lowering.program.add(Opcode.PRODUCT, shape, operands, parameters=(groups, layout))

    return Step([left.view.base, right.view.base], emit)


def _side(lowering: Lowering, product: Tensor, x: Tensor, *, transposed: bool) -> _Side:
    view = view_of(lowering, x)
    axes = ((),) * (product.rank - x.rank) + view.axes
    rows, columns = axes[:-3:-1] if transposed else axes[-2:]
    batch = [
        axis if count(axis) == n else (Factor(n),)
        for axis, n in zip(axes[:-2], product.shape[:-2], strict=True)
    ]
    if not product.is_free:
        if not batch or any(factor.item for axis in (*batch[1:], rows, columns) for factor in axis):
            refuse_moved_items(product)
        items = joined(batch.pop(0))
        own = Factor(lowering.tile_rows, item=0 if x.is_free else 1)
        if items != joined((own,)):
            refuse(product, "a product whose first axis is not the items")
    side = _Side(view, joined(*batch), rows, columns, None)
    layouts = (layout for layout in range(4) if side.fits(lowering, layout))
    return _Side(view, side.groups, rows, columns, next(layouts, None))


def _flag(tensor: Tensor, name: str) -> bool:
    return name in tensor.node.attrs and bool(tf.compat.v1.AttrValue.FromString(tensor.node.attrs[name]).b)
