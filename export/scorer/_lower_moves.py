"""Lowering of what moves numbers, puts tensors together, or goes along an axis of theirs."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from nann.export.scorer import _ops
from nann.export.scorer._cleanup import part_along
from nann.export.scorer._contract import MAX_UNROLLED
from nann.export.scorer._ir import Tensor, make
from nann.export.scorer._lower_matmul import beside
from nann.export.scorer._lowering import Lowering, Step, refuse, refuse_moved_items
from nann.export.scorer._narrow import narrowed
from nann.export.scorer._program import Opcode, ReduceOp, Shape
from nann.export.scorer._views import MOVES, Axis, Factor, View, joined, view_of
from nann.export.scorer._whole_numbers import is_exact_arithmetic

# The axis of the rows, as the parameter of a reduction or a concatenation.
_ROWS = 1
# Between a reduction and where it is read.
_ELEMENTWISE = frozenset(["Reciprocal", "Rsqrt", "Sqrt", "Square", "add", "mul"])
_MOST_STEPS = 6
_REDUCE = {
    "All": ReduceOp.MIN,
    "Any": ReduceOp.MAX,
    "Max": ReduceOp.MAX,
    "Mean": ReduceOp.MEAN,
    "Min": ReduceOp.MIN,
    "Sum": ReduceOp.SUM,
}


def move(lowering: Lowering, tensor: Tensor) -> Step | None:
    """How numbers get from where they are to where they are wanted; None of other operations."""
    if tensor.op in MOVES:
        return _moved(lowering, tensor)
    rule = _RULES.get(tensor.op)
    return rule(lowering, tensor) if rule is not None else None


def _moved(lowering: Lowering, tensor: Tensor) -> Step:
    column = _standing(lowering, tensor)
    if column is not None:
        return column
    view, shape = view_of(lowering, tensor), lowering.shape(tensor)
    if view.base == tensor:  # A reshape that no steps describe.
        return Step(tensor.inputs[:1], lambda values: lowering.as_shape(values[0], shape))
    rows, columns = matrix_of(lowering, tensor, view)
    product = beside(lowering, view, rows, columns)
    if product is not None:
        return product
    return Step([view.base], lambda values: copied(lowering, values[0], view, rows, columns))


def _standing(lowering: Lowering, tensor: Tensor) -> Step | None:
    """One number per row, put beside its row again, as the mean of a layer norm: columns all the way."""
    if tensor.op != "reshape" or tensor.shape != (*tensor.inputs[0].shape, 1):
        return None
    x = tensor.inputs[0]
    if not _is_of_rows(x, _MOST_STEPS):
        return None
    if x.op == "reduce":
        return _reduced(lowering, x, lowering.shape(tensor))
    inputs = [each if each.size == 1 else _ops.reshape(each, tensor.shape) for each in x.inputs]
    spec = replace(x.node.outputs[0], shape=tensor.shape)
    column = _ops.rebuilt(x, inputs) or Tensor(make(x.op, inputs, [spec], x.node.attrs))
    return _same(column)


def _is_of_rows(x: Tensor, steps: int) -> bool:
    """Whether it is computed from reductions over the last axis and single numbers only."""
    if x.op == "reduce":
        return bool(x.node.attrs["axes"] == (x.inputs[0].rank - 1,))
    if x.op not in _ELEMENTWISE or steps == 0:
        return False
    large = [each for each in x.inputs if each.size != 1]
    return bool(large) and all(each.shape == x.shape and _is_of_rows(each, steps - 1) for each in large)


def matrix_of(lowering: Lowering, tensor: Tensor, view: View) -> tuple[Axis, Axis]:
    """The rows and the columns of the tensor's matrix. Refuses where the items are not its first axis."""
    axes = view.axes
    if not tensor.is_free:
        if joined(axes[0]) != joined((Factor(lowering.tile_rows, item=1),)):
            refuse_moved_items(tensor)
        axes = axes[1:]
    return joined(*axes[:-1]), joined(*axes[-1:])


def copied(lowering: Lowering, value: int, view: View, rows: Axis, columns: Axis) -> int:
    """The value with these rows and columns; a view of the same memory where these lie there so."""
    own = lowering.program.shape(value)
    shape = Shape(own.per_item, math.prod(f.size for f in rows), math.prod(f.size for f in columns))
    in_place = rows == joined((Factor(own.rows, row=1),)) and columns == joined(
        (Factor(shape.columns, column=1),)
    )
    if in_place and view.row == 0:
        return value if shape == own else lowering.columns(value, view.column, shape.columns)
    steps = [number for f in (*rows, *columns) for number in (f.size, f.row, f.column)]
    parameters = (shape.rows, shape.columns, view.row, view.column, *steps)
    return lowering.program.add(Opcode.REARRANGE, shape, [value], parameters=parameters)


def _concat(lowering: Lowering, tensor: Tensor) -> Step:
    shape, axis = lowering.shape(tensor), tensor.node.attrs["axis"]
    first = 0 if tensor.is_free else 1
    if axis < first:
        refuse_moved_items(tensor)
    if first < axis < tensor.rank - 1:
        return _same(_first_axis_first(tensor, axis, first))
    parts = [each if not each.is_free or tensor.is_free else lowering.without_items(each, tensor)
             for each in tensor.inputs]  # fmt: skip
    over_rows = axis != tensor.rank - 1
    parameters = (_ROWS,) if over_rows else ()
    return Step(
        parts, lambda values: lowering.program.add(Opcode.CONCAT, shape, values, parameters=parameters)
    )


def _first_axis_first(tensor: Tensor, axis: int, first: int) -> Tensor:
    """A concatenation along an axis in the middle, as one along the axis `first`."""
    perm = [*range(first), axis, *(each for each in range(first, tensor.rank) if each != axis)]
    parts = [_ops.transpose(each, perm) for each in tensor.inputs]
    # What was repeated is seen to be, once it is turned.
    turned = _ops.concat([narrowed(each) or each for each in parts], first)
    return _ops.transpose(turned, [perm.index(each) for each in range(tensor.rank)])


def is_move(tensor: Tensor) -> bool:
    """Whether a rule here may compute it."""
    return tensor.op in MOVES or tensor.op in _RULES


def _same(tensor: Tensor) -> Step:
    return Step([tensor], lambda values: values[0])


def _reduce(lowering: Lowering, tensor: Tensor) -> Step:
    return _reduced(lowering, tensor, lowering.shape(tensor))


def _reduced(lowering: Lowering, tensor: Tensor, shape: Shape) -> Step:
    """`shape`: of as many numbers as the tensor."""
    x, axes = tensor.inputs[0], tensor.node.attrs["axes"]
    function = _REDUCE.get(tensor.node.attrs["function"])
    first = 0 if x.is_free else 1
    if function is None or any(axis < first for axis in axes):
        refuse_moved_items(tensor)
    if tensor.dtype.is_integer and not is_exact_arithmetic(tensor):
        refuse(tensor, "arithmetic of integers that may be beyond 2^24")
    over_rows = [axis for axis in axes if axis < x.rank - 1]
    kept = [axis for axis in range(first, x.rank - 1) if axis not in axes]
    if over_rows and math.prod(x.shape[axis] for axis in kept) > 1:
        if (side_by_side := _of_parts(tensor)) is not None:
            return Step([side_by_side], lambda values: lowering.as_shape(values[0], shape))
        perm = [*range(first), *(a for a in range(first, x.rank) if a not in axes), *axes]
        sizes = math.prod(x.shape[a] for a in perm[first : -len(axes)]), math.prod(x.shape[a] for a in axes)
        x, over_rows, axes = _ops.reshape(_ops.transpose(x, perm), (*x.shape[:first], *sizes)), [], (-1,)
    over_columns = len(axes) > len(over_rows)

    def emit(values: Sequence[int]) -> int:
        value = values[0]
        own = lowering.program.shape(value)
        if over_rows and own.rows > 1:
            row = Shape(own.per_item, 1, own.columns)
            value = lowering.program.add(Opcode.REDUCE, row, [value], function=function, parameters=(_ROWS,))
        if over_columns:
            column = Shape(own.per_item, lowering.program.shape(value).rows, 1)
            value = lowering.program.add(Opcode.REDUCE, column, [value], function=function)
        return lowering.as_shape(value, shape)

    return Step([x], emit)


def _of_parts(tensor: Tensor) -> Tensor | None:
    """A reduction over one axis before the last, of few parts: these are added or compared as they lie."""
    (x,), axes, function = tensor.inputs, tensor.node.attrs["axes"], tensor.node.attrs["function"]
    if len(axes) != 1 or x.shape[axes[0]] > MAX_UNROLLED or function not in _OF_TWO:
        return None
    if not x.dtype.is_floating:
        return None
    parts = [part_along(x, axes[0] - x.rank, at, 1) for at in range(x.shape[axes[0]])]
    total = functools.reduce(_OF_TWO[function], parts)
    return _ops.scaled(total, 1 / len(parts)) if function == "Mean" else total


def _logical(_: Lowering, tensor: Tensor) -> Step:
    axes = tensor.inputs[1].value
    if axes is None:
        refuse(tensor, "axes that are not constant")
    reduced = _ops.reduce_(tensor.inputs[0], tensor.op, [int(axis) for axis in axes.flat])
    return _same(_ops.reshape(reduced, tensor.shape))


_OF_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Max": _ops.maximum,
    "Mean": _ops.add,
    "Sum": _ops.add,
}
_RULES: dict[str, Callable[[Lowering, Tensor], Step]] = {
    "All": _logical, "Any": _logical, "concat": _concat, "reduce": _reduce,
}  # fmt: skip
