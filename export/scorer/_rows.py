"""Which tensors have a part for each item that depends on that item alone.

Only such tensors may be computed once at export and gathered by item. This is a proof over a list of
operations that are known; a tensor computed by any other operation counts as mixing items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from nann.export.scorer._ir import Node, Shape, Tensor, topological

_ELEMENTWISE = """
    Abs Acos Acosh Add AddN AddV2 AsString Asin Asinh Atan Atan2 Atanh BesselI0 BesselI0e BesselI1 BesselI1e
    BitwiseAnd BitwiseOr BitwiseXor Bucketize Cast Ceil CheckNumerics ClipByValue Cos Cosh Dawsn Digamma Div
    DivNoNan Elu Equal Erf Erfc Erfinv Exp Expint Expm1 Floor FloorDiv FloorMod Greater GreaterEqual Igamma
    Igammac Invert IsFinite IsInf IsNan LeakyRelu LeftShift Less LessEqual Lgamma Log Log1p LogicalAnd
    LogicalNot LogicalOr Maximum Minimum Mod Mul MulNoNan Ndtri Neg NotEqual Polygamma PopulationCount Pow
    RealDiv Reciprocal Relu Relu6 RightShift Rint Round Rsqrt Select SelectV2 Selu Sigmoid Sign Sin Sinh
    Softplus Softsign Spence Sqrt Square SquaredDifference StringToHashBucket StringToHashBucketFast
    StringToHashBucketStrong StringToNumber Sub Tan Tanh TruncateDiv TruncateMod Xdivy Xlog1py Xlogy Zeta
    add mul prelu broadcast
"""
ELEMENTWISE = frozenset(_ELEMENTWISE.split())
# Operations of one tensor that work on each row of its last axis.
ON_ROWS = frozenset(["LogSoftmax", "Softmax"])
# Elementwise operations whose operands have one shape, or none.
_OF_ONE_SHAPE = frozenset(["Betainc", "StringJoin"])
# Operations of one tensor that work within so many of its last axes.
_WITHIN = {
    "Cholesky": 2, "FFT": 1, "FFT2D": 2, "LRN": 1, "LogMatrixDeterminant": 2, "MatrixDeterminant": 2,
    "MatrixInverse": 2, "RFFT": 1, "TopKV2": 1,
}  # fmt: skip
_SCANS = frozenset(["Cumprod", "Cumsum", "CumulativeLogsumexp"])
_REDUCTIONS = frozenset(
    ["All", "Any", "ArgMax", "ArgMin", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum", "reduce"]
)


@dataclass(frozen=True)
class Rows:
    """Item i of a tile owns the elements [i * block, (i + 1) * block) of an axis; they depend on it alone."""

    axis: int
    block: int


class RowAnalysis:
    """Answers for the tensors of one scorer; remembers what it found."""

    def __init__(self, item: Tensor) -> None:
        self._tile_rows = item.shape[0]
        self._known: dict[Tensor, Rows | None] = {item: Rows(0, 1)}

    def rows(self, tensor: Tensor) -> Rows | None:
        """Where the items of an item-only tensor are; None where the items are mixed, or may be."""
        for node in topological([tensor], stop=lambda each: each in self._known or not each.is_item_only):
            for index in range(len(node.outputs)):
                output = Tensor(node, index)
                if output not in self._known:
                    self._known[output] = self._of(output)
        return self._known.get(tensor)

    def width(self, tensor: Tensor) -> int | None:
        """Values of one item where the tensor can be a table's columns: float32, items first; else None."""
        if tensor.dtype != tf.float32 or not tensor.is_item_only:
            return None
        rows = self.rows(tensor)
        return tensor.size // self._tile_rows if rows is not None and rows.axis == 0 else None

    def _of(self, output: Tensor) -> Rows | None:
        node = output.node
        if node.op == "source" or any(shape is None for shape in _shapes([*node.inputs, output])):
            return None
        if any(not each.is_free and self._known[each] is None for each in node.inputs):
            return None
        rows = self._by_operation(output)
        # A tile of one row broadcasts like anything of size 1: what came out must still have its items.
        if rows is not None and output.shape[rows.axis] != rows.block * self._tile_rows:
            return None
        return rows

    def _by_operation(self, output: Tensor) -> Rows | None:
        node = output.node
        if node.op in ELEMENTWISE or node.op in _OF_ONE_SHAPE:
            return self._elementwise(output)
        if node.op in ON_ROWS or node.op in _WITHIN:
            rows = self._first(node)
            return rows if rows.axis < node.inputs[0].rank - _WITHIN.get(node.op, 1) else None
        if node.op in _SCANS:
            rows, axis = self._first(node), node.inputs[1].value
            return rows if axis is not None and int(axis) % output.rank != rows.axis else None
        if node.op in _REDUCTIONS:
            return self._reduced(output)
        if node.op in ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
            return self._multiplied(output)
        rule = _BY_OPERATION.get(node.op)
        return rule(self, output) if rule is not None else None

    def _first(self, node: Node) -> Rows:
        rows = self._known[node.inputs[0]]
        assert rows is not None
        return rows

    def _elementwise(self, output: Tensor) -> Rows | None:
        """Operands are aligned at their last axes; all that depend on items must agree."""
        if output.op in ("Select",) and any(each.shape != output.shape for each in output.inputs):
            return None  # a condition of rank 1 is aligned at the first axis
        found = {
            Rows(rows.axis + output.rank - each.rank, rows.block)
            for each in output.inputs
            if (rows := self._known.get(each)) is not None
        }
        if len(found) != 1:
            return None
        (rows,) = found
        free = [each for each in output.inputs if each.is_free]
        return rows if all(_is_same_along(each, rows.axis - output.rank) for each in free) else None

    def _dot(self, output: Tensor) -> Rows | None:
        rows = self._known.get(output.inputs[0])
        return rows if rows is not None and rows.axis != output.inputs[0].rank - 1 else None

    def _multiplied(self, output: Tensor) -> Rows | None:
        """The items may be an axis that all other axes are multiplied within, or one of the outer two."""
        left, right = (
            self._factor_rows(each, _flag(output.node, names))
            for each, names in zip(
                output.inputs, (("transpose_a", "adj_x"), ("transpose_b", "adj_y")), strict=True
            )
        )
        rows = left or right
        assert rows is not None
        within = rows.axis < -2
        found = Rows(rows.axis + output.rank, rows.block)
        if left is not None and right is not None:
            return found if within and left == right else None
        if within:
            free = output.inputs[1] if left is not None else output.inputs[0]
            return found if _is_same_along(free, rows.axis) else None
        return found if rows.axis == (-2 if left is not None else -1) else None

    def _factor_rows(self, factor: Tensor, is_transposed: bool) -> Rows | None:
        """The rows of a factor of a matrix product, their axis counted from the end."""
        rows = self._known.get(factor)
        if rows is None:
            return None
        axis = rows.axis - factor.rank
        return Rows(-3 - axis if is_transposed and axis >= -2 else axis, rows.block)

    def _reduced(self, output: Tensor) -> Rows | None:
        node, rows = output.node, self._first(output.node)
        rank = node.inputs[0].rank
        if node.op == "reduce":
            axes: Sequence[int] = node.attrs["axes"]
        else:
            value = node.inputs[1].value
            if value is None:
                return None
            axes = [int(axis) % rank for axis in value.flat]
        if rows.axis in axes:
            return None
        if output.rank == rank:
            return rows
        return Rows(rows.axis - sum(axis < rows.axis for axis in axes), rows.block)

    def _reshaped(self, output: Tensor) -> Rows | None:
        """Elements keep their order: each item's stay together where an axis starts at the same stride."""
        before, rows = output.inputs[0].shape, self._first(output.node)
        outer, after = math.prod(before[: rows.axis]), output.shape
        for axis, size in enumerate(after):
            if math.prod(after[:axis]) == outer and size % self._tile_rows == 0 and size:
                return Rows(axis, size // self._tile_rows)
        return None

    def _transposed(self, output: Tensor) -> Rows | None:
        rows = self._first(output.node)
        return Rows(output.node.attrs["perm"].index(rows.axis), rows.block)

    def _sliced(self, output: Tensor) -> Rows | None:
        rows = self._first(output.node)
        return rows if output.shape[rows.axis] == output.inputs[0].shape[rows.axis] else None

    def _gathered(self, output: Tensor) -> Rows | None:
        """Rows of a table for all items, or of one for each of a few fields: the indices' axes come first."""
        table, indices, axis = output.inputs
        batch_dims = tf.compat.v1.AttrValue.FromString(output.node.attrs["batch_dims"]).i
        rows = self._known.get(indices)
        is_of_rows = axis.value is not None and int(axis.value) == batch_dims
        return rows if table.is_free and is_of_rows and rows is not None and rows.axis >= batch_dims else None

    def _found_at(self, output: Tensor) -> Rows | None:
        """Numbers of one table at indices of all of its axes."""
        table, indices = output.inputs
        rows = self._known.get(indices)
        return rows if table.is_free and rows is not None and rows.axis < indices.rank - 1 else None

    def _looked_up(self, output: Tensor) -> Rows | None:
        table, indices = output.inputs
        return self._known.get(indices) if table.is_free else None

    def _searched(self, output: Tensor) -> Rows | None:
        """Places of values in one row of numbers."""
        numbers, values = output.inputs
        return self._known.get(values) if numbers.is_free and numbers.shape[0] == 1 else None

    def _one_hot(self, output: Tensor) -> Rows | None:
        is_last = tf.compat.v1.AttrValue.FromString(output.node.attrs["axis"]).i == -1
        free = all(each.is_free for each in output.inputs[1:])
        return self._known.get(output.inputs[0]) if is_last and free else None

    def _concatenated(self, output: Tensor) -> Rows | None:
        found = {rows for each in output.inputs if (rows := self._known.get(each)) is not None}
        if len(found) != 1:
            return None
        (rows,) = found
        free = [each for each in output.inputs if each.is_free]
        same = all(_is_same_along(each, rows.axis - output.rank) for each in free)
        return rows if same and rows.axis != output.node.attrs["axis"] else None


def _shapes(tensors: Sequence[Tensor]) -> list[Shape | None]:
    return [each.known_shape for each in tensors]


def _is_same_along(free: Tensor, axis: int) -> bool:
    """Whether a constant is the same for every index of `axis`, counted from the end."""
    if -axis > free.rank or free.shape[axis] == 1:
        return True
    if free.op == "broadcast":
        return _is_same_along(free.inputs[0], axis)
    value = free.value
    return value is not None and bool((value == value.take([0], axis)).all())


def _flag(node: Node, names: Sequence[str]) -> bool:
    for name in names:
        if name in node.attrs:
            return bool(tf.compat.v1.AttrValue.FromString(node.attrs[name]).b)
    return False


_BY_OPERATION: dict[str, Callable[[RowAnalysis, Tensor], Rows | None]] = {
    "GatherNd": RowAnalysis._found_at,
    "GatherV2": RowAnalysis._gathered,
    "LowerBound": RowAnalysis._searched,
    "OneHot": RowAnalysis._one_hot,
    "UpperBound": RowAnalysis._searched,
    "concat": RowAnalysis._concatenated,
    "dot": RowAnalysis._dot,
    "gather": RowAnalysis._looked_up,
    "reshape": RowAnalysis._reshaped,
    "slice": RowAnalysis._sliced,
    "transpose": RowAnalysis._transposed,
}
