"""Computing once what is the same along an axis: f(broadcast(a)) -> broadcast(f(a)).

Ranking code repeats its user for each candidate, by `tf.repeat`, RepeatVector, `tf.tile` or a product with
ones. What is then computed of the user is computed of one row here, whatever the operation, and broadcast
where items meet it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf

from nann.export.scorer import _ops
from nann.export.scorer._ir import Node, Shape, Spec, Tensor, Uses, constant, make
from nann.export.scorer._rows import ELEMENTWISE, ON_ROWS

# Elementwise operations whose operands TensorFlow does not broadcast.
OF_EQUAL_SHAPES = frozenset(["AddN", "ClipByValue", "Select"])
# Operations that work on each row of their last axis.
_ON_ROWS = ON_ROWS | {"TopKV2"}
# Operations that work along the axes that their second input names.
_ALONG_AXES = frozenset(["ArgMax", "ArgMin", "Cumprod", "Cumsum", "CumulativeLogsumexp", "ReverseV2"])
# Operations whose first axis is a batch.
ON_BATCHES = frozenset(["AvgPool", "Conv2D", "DepthwiseConv2dNative", "MaxPool"])
# Operations that work on each matrix of their last two axes.
_ON_MATRICES = frozenset(
    [
        "Cholesky",
        "LogMatrixDeterminant",
        "Lu",
        "MatrixDeterminant",
        "MatrixInverse",
        "Qr",
        "SelfAdjointEigV2",
        "Svd",
    ]
)
# Of equal elements these are that element.
_OF_EQUAL_ELEMENTS = frozenset(["All", "Any", "Max", "Mean", "Min"])


def narrowed(x: Tensor, _: Uses | None = None) -> Tensor | None:
    """The same values as a broadcast of something smaller; None where nothing is found."""
    if x.op == "broadcast" or len(x.node.outputs) > 1:
        return None
    found = _narrow(x.node)
    if found is None:
        return None
    better = _ops.broadcast(found[0], x.shape)
    return better if better != x else None


def narrowed_outputs(node: Node) -> list[Tensor] | None:
    """The same for all outputs of an operation."""
    found = _narrow(node)
    if found is None:
        return None
    return [_ops.broadcast(each, spec.shape or ()) for each, spec in zip(found, node.outputs, strict=True)]


def _narrow(node: Node) -> list[Tensor] | None:
    """For each output what may be broadcast to it."""
    if not node.inputs or any(each.known_shape is None for each in node.inputs):
        return None
    if any(spec.shape is None for spec in node.outputs):
        return None
    if node.op in ELEMENTWISE:
        return _elementwise(node)
    if node.op == "BatchToSpaceND":
        return _with_gaps(node)
    is_product = node.op == "BatchMatMulV2"  # Its constants may repeat a matrix for each item.
    if not any(each.op == "broadcast" or (is_product and each.op == "const") for each in node.inputs):
        return _dot_of_merged(node) if node.op == "dot" else None
    if node.op in _ON_ROWS:
        return _without(node, [node.inputs[0].rank - 1])
    if node.op in _ON_MATRICES:
        rank = node.inputs[0].rank
        return _without(node, [rank - 2, rank - 1])
    if node.op in ON_BATCHES:
        return _without(node, range(1, node.inputs[0].rank))
    if node.op in _ALONG_AXES:
        return _along_axes(node)
    rule = _RULES.get(node.op)
    return rule(node) if rule is not None else None


def narrow_of(x: Tensor, kept: Iterable[int] = ()) -> Tensor:
    """`x` of as many axes, with size 1 along every axis but `kept` that it does not change along."""
    narrow = shrunk(x)
    if narrow == x:
        return x
    narrow = _ops.reshape(narrow, (1,) * (x.rank - narrow.rank) + narrow.shape)
    shape = list(narrow.shape)
    for axis in kept:
        shape[axis] = x.shape[axis]
    return _ops.broadcast(narrow, shape)


def shrunk(x: Tensor) -> Tensor:
    """A constant without the axes along which it does not change; what was broadcast, as it was before."""
    value = x.value
    if value is None:
        return x.inputs[0] if x.op == "broadcast" else x
    for axis, n in enumerate(value.shape):
        first = value.take([0], axis) if n > 1 else value
        if n > 1 and ((value == first) | ((value != value) & (first != first))).all():  # NaNs are alike.
            value = first
    while value.ndim and value.shape[0] == 1:
        value = value[0]
    return x if value.shape == x.shape else constant(value)


def like(node: Node, inputs: Sequence[Tensor], shapes: Sequence[Shape]) -> list[Tensor]:
    """The operation on other inputs, with results of other shapes."""
    if node.op in ("add", "mul"):
        return [_ops.add(*inputs) if node.op == "add" else _ops.mul(*inputs)]
    specs = [Spec(spec.dtype, tuple(shape)) for spec, shape in zip(node.outputs, shapes, strict=True)]
    again = make(node.op, inputs, specs, node.attrs)
    return [Tensor(again, index) for index in range(len(specs))]


def _elementwise(node: Node) -> list[Tensor] | None:
    """Operands are aligned at their last axes, and broadcast again by the operation itself."""
    inputs = [shrunk(each) for each in node.inputs]
    if tuple(inputs) == node.inputs:
        return None
    shape = np.broadcast_shapes(*(each.shape for each in inputs))
    unequal = any(each.shape != shape for each in inputs)
    if unequal and (node.op in OF_EQUAL_SHAPES or (node.op == "prelu" and inputs[0].shape != shape)):
        return None
    return like(node, inputs, [shape])


def _without(node: Node, kept: Iterable[int]) -> list[Tensor] | None:
    """Of operations that only look along the axes `kept` of their first input."""
    wide = node.inputs[0]
    narrow = narrow_of(wide, kept)
    if narrow.shape == wide.shape:
        return None
    ones = [axis for axis in range(wide.rank) if narrow.shape[axis] != wide.shape[axis]]
    shapes = [_with_ones(spec.shape or (), ones) for spec in node.outputs]
    return like(node, [narrow, *node.inputs[1:]], shapes)


def _with_ones(shape: Shape, axes: Sequence[int]) -> Shape:
    return tuple(1 if axis in axes else n for axis, n in enumerate(shape))


def _dot(node: Node) -> list[Tensor] | None:
    wide, matrix = node.inputs
    narrow = wide.inputs[0] if wide.op == "broadcast" else wide
    if narrow.shape[-1:] != wide.shape[-1:]:
        narrow = narrow_of(wide, [wide.rank - 1])
    column = narrow_of(matrix, [0]) if matrix.op == "broadcast" else matrix
    if column.size < matrix.size:
        return [_ops.dot(narrow, column)]
    return [_ops.dot(narrow, matrix)] if narrow.size < wide.size else None


def _dot_of_merged(node: Node) -> list[Tensor] | None:
    """Rows [n * k, d] of what is the same n times, as [n, k, d]: where events were merged before a layer."""
    rows, matrix = node.inputs
    repeated = _ops.behind_reshape(rows)
    if repeated.op != "broadcast" or rows.rank != 2:
        return None
    n = next((size for size in repeated.shape if size != 1), 1)
    first = repeated.shape.index(n)
    if n in (1, rows.shape[0]) or rows.shape[0] % n or narrow_of(repeated).shape[first] != 1:
        return None
    apart = _ops.reshape(rows, (n, rows.shape[0] // n, rows.shape[1]))
    return [_ops.reshape(_ops.dot(apart, matrix), node.outputs[0].shape or ())]


def _along_axes(node: Node) -> list[Tensor] | None:
    axes = node.inputs[1].value
    if axes is None:
        return None
    kept = [int(axis) % node.inputs[0].rank for axis in axes.flat]
    if not node.op.startswith("Arg"):
        return _without(node, kept)
    if kept == [node.inputs[0].rank - 1]:  # The axis goes: those before it keep their place.
        return _without(node, kept)
    return None


def _reduce(node: Node) -> list[Tensor] | None:
    wide, axes, function = node.inputs[0], node.attrs["axes"], node.attrs["function"]
    is_sum = function == "Sum" and wide.dtype.is_floating
    narrow = narrow_of(wide, () if is_sum or function in _OF_EQUAL_ELEMENTS else axes)
    if narrow.shape == wide.shape:
        return None
    found = _ops.reduce_(narrow, function, axes)
    if is_sum:
        found = _ops.scaled(found, math.prod(wide.shape[a] // narrow.shape[a] for a in axes))
    return [found]


def _concat(node: Node) -> list[Tensor] | None:
    axis = node.attrs["axis"]
    parts = [narrow_of(each, [axis]) for each in node.inputs]
    shape = np.broadcast_shapes(*(_with_ones(each.shape, [axis]) for each in parts))
    if shape == _with_ones(node.outputs[0].shape or (), [axis]):
        return None
    return [_ops.concat([_ops.broadcast(each, _at(shape, axis, each.shape[axis])) for each in parts], axis)]


def _at(shape: Shape, axis: int, n: int) -> Shape:
    return (*shape[:axis], n, *shape[axis + 1 :])


def _slice(node: Node) -> list[Tensor] | None:
    wide = node.inputs[0]
    narrow, begin = narrow_of(wide), list(node.attrs["begin"])
    shape = list(node.outputs[0].shape or ())
    for axis in range(wide.rank):
        if narrow.shape[axis] != wide.shape[axis]:
            begin[axis], shape[axis] = 0, 1
    return [_ops.slice_(narrow, begin, shape)] if 0 not in (node.outputs[0].shape or ()) else None


def _transpose(node: Node) -> list[Tensor] | None:
    return [_ops.transpose(narrow_of(node.inputs[0]), node.attrs["perm"])]


def _reshape(node: Node) -> list[Tensor] | None:
    """Axes that become each other are broadcast along all of them, or along none."""
    wide, after = node.inputs[0], node.outputs[0].shape or ()
    if wide.size == 0:
        return None
    small, kept, shape = narrow_of(wide), list[int](), list(after)
    for before_axes, after_axes in axis_groups(wide.shape, after):
        if all(small.shape[axis] == 1 for axis in before_axes):
            for axis in after_axes:
                shape[axis] = 1
        else:
            kept += before_axes
    narrow = narrow_of(wide, kept)
    return [_ops.reshape(narrow, shape)] if narrow.size < wide.size else None


def axis_groups(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes of equally many elements, in the smallest runs of equally many elements."""
    groups, start = [], (0, 0)
    i = j = 0
    left = right = 1
    while i < len(before) or j < len(after):
        if (left <= right and i < len(before)) or j == len(after):
            left, i = left * before[i], i + 1
        else:
            right, j = right * after[j], j + 1
        if left == right:
            groups.append((list(range(start[0], i)), list(range(start[1], j))))
            start = (i, j)
    return groups


def _batch_matmul(node: Node) -> list[Tensor] | None:
    """What is summed over stays; so do rows and columns, which are few and belong to a matrix product."""
    inputs = [narrow_of(each, [each.rank - 2, each.rank - 1]) for each in node.inputs]
    if all(narrow.shape == wide.shape for narrow, wide in zip(inputs, node.inputs, strict=True)):
        return None
    batch = np.broadcast_shapes(*(each.shape[:-2] for each in inputs))
    return like(node, inputs, [(*batch, *(node.outputs[0].shape or ())[-2:])])


def _solve(node: Node) -> list[Tensor] | None:
    """A linear system for each matrix: one where all of them are the same."""
    inputs = [narrow_of(each, [each.rank - 2, each.rank - 1]) for each in node.inputs]
    batch = np.broadcast_shapes(*(each.shape[:-2] for each in inputs))
    if batch == (node.outputs[0].shape or ())[:-2]:
        return None
    inputs = [_ops.broadcast(each, (*batch, *each.shape[-2:])) for each in inputs]
    return like(node, inputs, [(*batch, *(node.outputs[0].shape or ())[-2:])])


def _gather(node: Node) -> list[Tensor] | None:
    """Rows of a table for indices that are broadcast; or, in a batch, of tables that are broadcast alike."""
    table, indices, axis = node.inputs
    batch_dims = tf.compat.v1.AttrValue.FromString(node.attrs["batch_dims"]).i % (indices.rank + 1)
    if batch_dims:
        return _of_batch(node, batch_dims)
    if axis.value is None or int(axis.value) or indices.op != "broadcast":
        return None
    narrow = narrow_of(indices)
    return like(node, [table, narrow, axis], [(*narrow.shape, *table.shape[1:])])


def _of_batch(node: Node, batch_dims: int = 1) -> list[Tensor] | None:
    """Two inputs that have the leading axes of the output: once where both of them are the same."""
    first, second = (narrow_of(each, range(batch_dims, each.rank)) for each in node.inputs[:2])
    batch = np.broadcast_shapes(first.shape[:batch_dims], second.shape[:batch_dims])
    shape = node.outputs[0].shape or ()
    if batch == shape[:batch_dims]:
        return None
    inputs = [_ops.broadcast(each, (*batch, *each.shape[batch_dims:])) for each in (first, second)]
    return like(node, [*inputs, *node.inputs[2:]], [(*batch, *shape[batch_dims:])])


def _reverse_sequence(node: Node) -> list[Tensor] | None:
    is_by_rows = tf.compat.v1.AttrValue.FromString(node.attrs["batch_dim"]).i == 0
    return _of_batch(node) if is_by_rows else None


def _place_in_order(node: Node) -> list[Tensor] | None:
    """LowerBound, UpperBound: of each row's values, which may all be the same one, in that row."""
    ordered, values = node.inputs
    value = narrow_of(values, [0])
    if value.shape != values.shape:
        return like(node, [ordered, value], [value.shape])
    return _of_batch(node)


def _with_gaps(node: Node) -> list[Tensor] | None:
    """BatchToSpaceND of what TensorFlow makes of SpaceToBatchND: windows with gaps, once for all rows."""
    between, x = list[Node](), node.inputs[0]
    while x.op in ON_BATCHES or (x.op == "reshape" and x.shape[0] == x.inputs[0].shape[0]):
        between, x = [x.node, *between], x.inputs[0]
    if x.op != "SpaceToBatchND" or (n := x.inputs[0].shape[0]) == 1:
        return None
    narrow = narrow_of(x.inputs[0], range(1, x.rank))
    if narrow.shape[0] != 1:
        return None
    found = narrow
    for each in (x.node, *between, node):
        rows, *shape = each.outputs[0].shape or ()
        if each.op == "reshape":
            found = _ops.reshape(found, (rows // n, *shape))
        else:
            found = like(each, [found, *each.inputs[1:]], [(rows // n, *shape)])[0]
    return [found]


def _one_hot(node: Node) -> list[Tensor] | None:
    narrow = narrow_of(node.inputs[0])
    if narrow == node.inputs[0]:
        return None
    axis = tf.compat.v1.AttrValue.FromString(node.attrs["axis"]).i % (narrow.rank + 1)
    depth = (node.outputs[0].shape or ())[axis]
    return like(node, [narrow, *node.inputs[1:]], [(*narrow.shape[:axis], depth, *narrow.shape[axis:])])


_RULES: dict[str, Callable[[Node], list[Tensor] | None]] = {
    "BatchMatMulV2": _batch_matmul,
    "MatrixSolve": _solve,
    "MatrixTriangularSolve": _solve,
    "GatherV2": _gather,
    "LowerBound": _place_in_order,
    "OneHot": _one_hot,
    "ReverseSequence": _reverse_sequence,
    "UpperBound": _place_in_order,
    "concat": _concat,
    "dot": _dot,
    "reduce": _reduce,
    "reshape": _reshape,
    "slice": _slice,
    "transpose": _transpose,
}
