"""Items on the first axis of all tensors, wherever the model has them.

Ranking code has heads one behind the other on the batch axis, stacks of experts before it, and rows of all
items in one matrix [n * rows, width]. The native executor wants the items first. So each tensor is followed
from the item tile on, with the axis that its items are on, and computed as [n, ...]. An operation that is not
known here gets its operands as the model has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from nann.export.scorer._ir import Needs, Node, Shape, Tensor, same_op, topological
from nann.export.scorer._narrow import OF_EQUAL_SHAPES, like, narrow_of
from nann.export.scorer._ops import (
    broadcast,
    concat,
    dot,
    flag,
    gather,
    matmul,
    rebuilt,
    reduce_,
    reshape,
    slice_,
    transpose,
    turned,
)
from nann.export.scorer._rows import ELEMENTWISE


@dataclass(frozen=True)
class _Moved:
    """A tensor of `shape` with its items first.

    axis, outer, inner: the items are on that axis of outer * n * inner numbers.
    tensor:             [n, axes before, outer, inner, axes behind], without outer and inner where they are 1.
    """

    tensor: Tensor
    shape: Shape
    axis: int = 0
    outer: int = 1
    inner: int = 1

    @property
    def is_first(self) -> bool:
        return (self.axis, self.outer, self.inner) == (0, 1, 1)

    @property
    def place(self) -> tuple[int, int, int]:
        """The axis counted from the end, outer and inner: equal where tensors are broadcast together."""
        return self.axis - len(self.shape), self.outer, self.inner

    @property
    def own(self) -> Shape:
        """The axes that outer and inner are."""
        return tuple(size for size in (self.outer, self.inner) if size > 1)

    def at(self, axis: int) -> int:
        """Where another axis is in `tensor`."""
        return axis + 1 if axis < self.axis else axis + len(self.own)

    @property
    def whole(self) -> Tensor:
        """[n, axes before, outer, inner, axes behind]."""
        n, before, behind = self.tensor.shape[0], self.shape[: self.axis], self.shape[self.axis + 1 :]
        return reshape(self.tensor, (n, *before, self.outer, self.inner, *behind))

    def like(self, tensor: Tensor, shape: Shape) -> _Moved:
        """A tensor with its items at the same place, counted from the end."""
        return _moved(tensor, shape, self.axis + len(shape) - len(self.shape), self.outer, self.inner)


def _moved(tensor: Tensor, shape: Shape, axis: int, outer: int, inner: int) -> _Moved:
    own = [size for size in (outer, inner) if size > 1]
    n = shape[axis] // (outer * inner)
    return _Moved(reshape(tensor, (n, *shape[:axis], *own, *shape[axis + 1 :])), shape, axis, outer, inner)


def items_first(output: Tensor, item: Tensor) -> Tensor:
    """The scores [n], computed of tensors whose items are first; `output` itself where they are.

    item: [n, width], the tile. What repeats the user for each item is followed too: it is the same for all
    items only where they have an axis of their own.
    """
    followed = _of_repeated(output, item.shape[0])
    found: dict[Tensor, _Moved] = {item: _Moved(item, item.shape)}
    found |= {each: _Moved(each, each.shape) for each in followed if _repeats(each, item.shape[0])}
    others: dict[Tensor, Tensor] = {}  # Whose items are somewhere: as the model has them.

    def original(x: Tensor) -> Tensor:
        return _turned_back(found[x]) if x in found else others.get(x, x)

    def is_done(x: Tensor) -> bool:
        return x in found or (x.is_free and x not in followed)

    for node in topological([output], stop=is_done):
        operands = [found.get(each, each) for each in node.inputs]
        moved = _followed(node, operands)
        if moved is not None and not (moved.is_first and all(_is_first(each) for each in operands)):
            found[Tensor(node)] = moved
            continue
        again = _again(node, [original(each) for each in node.inputs])
        known = moved is not None or all(_is_first(each) for each in operands)
        for index, (spec, tensor) in enumerate(zip(node.outputs, again, strict=True)):
            if known and spec.shape is not None and spec.shape[:1] == item.shape[:1]:
                found[Tensor(node, index)] = _Moved(tensor, spec.shape)
            else:
                others[Tensor(node, index)] = tensor
    return original(output)


def _of_repeated(output: Tensor, n: int) -> set[Tensor]:
    """What is computed of a user who is repeated for each of n items, and of no item."""
    found: set[Tensor] = set()
    for node in topological([output]):
        is_of_user = not node.needs & Needs.ITEM and node.needs & Needs.USER
        for at in range(len(node.outputs)) if is_of_user else ():
            if _repeats(Tensor(node, at), n) or not found.isdisjoint(node.inputs):
                found.add(Tensor(node, at))
    return found


def _repeats(x: Tensor, n: int) -> bool:
    return x.op == "broadcast" and x.is_free and x.shape[:1] == (n,) != narrow_of(x).shape[:1]


def _is_first(operand: _Moved | Tensor) -> bool:
    return operand.is_first if isinstance(operand, _Moved) else operand.is_free


def _again(node: Node, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of an operation on other inputs of the same shapes."""
    ours = rebuilt(Tensor(node), inputs) if tuple(inputs) != node.inputs else None
    if ours is not None:
        return [ours]
    again = same_op(node, inputs)
    return [Tensor(again, index) for index in range(len(node.outputs))]


def _turned_back(x: _Moved) -> Tensor:
    """The tensor as the model has it."""
    if x.is_first:
        return x.tensor
    perm = [*range(1, x.axis + 2), 0, *range(x.axis + 2, x.whole.rank)]
    return reshape(transpose(x.whole, perm), x.shape)


def _followed(node: Node, operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    """What an operation makes of tensors whose items are first; None where it is not known."""
    if len(node.outputs) != 1 or node.outputs[0].shape is None:
        return None
    if any(isinstance(each, Tensor) and (not each.is_free or each.known_shape is None) for each in operands):
        return None
    if not any(isinstance(each, _Moved) for each in operands):
        return None
    if node.op in _RULES:
        return _RULES[node.op](node, operands)
    return _elementwise(node, operands) if node.op in ELEMENTWISE else None


def _alone(operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    """The first operand, where no other one is of the items."""
    first, *others = operands
    others_are_free = all(isinstance(each, Tensor) for each in others)
    return first if isinstance(first, _Moved) and others_are_free else None


def _of_one_place(operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    """One of those of the items, where these are at the same place."""
    items = [each for each in operands if isinstance(each, _Moved)]
    return items[0] if len({each.place for each in items}) == 1 else None


def _beside(operand: _Moved | Tensor, one: _Moved, rank: int) -> Tensor | None:
    """An operand to be broadcast with `one`, both as tensors of `rank` axes."""
    axis, extra = one.axis + rank - len(one.shape), len(one.own)
    if isinstance(operand, _Moved):
        n, *others = operand.tensor.shape
        return reshape(operand.tensor, (n, *(1,) * (rank - len(operand.shape)), *others))
    if operand.rank == 0:
        return operand
    wide = reshape(operand, (1,) * (rank - operand.rank) + operand.shape)
    narrow = narrow_of(wide, [each for each in range(rank) if each != axis])
    if narrow.shape[axis] != 1:
        return None
    return reshape(narrow, (1, *narrow.shape[:axis], *(1,) * extra, *narrow.shape[axis + 1 :]))


def _all_beside(operands: Sequence[_Moved | Tensor], one: _Moved, rank: int) -> list[Tensor] | None:
    """All operands as `_beside` has them; None where one cannot be."""
    sides = [_beside(each, one, rank) for each in operands]
    known = [each for each in sides if each is not None]
    return known if len(known) == len(sides) else None


def _elementwise(node: Node, operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    one, shape = _of_one_place(operands), node.outputs[0].shape or ()
    if one is None or (node.op in OF_EQUAL_SHAPES and any(each.shape != shape for each in operands)):
        return None
    sides = _all_beside(operands, one, len(shape))
    if sides is None:
        return None
    together = np.broadcast_shapes(*(each.shape for each in sides))
    if node.op in OF_EQUAL_SHAPES:
        sides = [broadcast(each, together) for each in sides]
    return one.like(like(node, sides, [together])[0], shape)


def _broadcast(node: Node, operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    (x,), shape = operands, node.outputs[0].shape or ()
    assert isinstance(x, _Moved)
    side = _beside(x, x, len(shape))
    to = x.like(side, (1,) * (len(shape) - len(x.shape)) + x.shape) if side is not None else x
    if shape[to.axis] != x.shape[x.axis]:
        return None
    n = to.tensor.shape[0]
    return x.like(broadcast(to.tensor, (n, *shape[: to.axis], *x.own, *shape[to.axis + 1 :])), shape)


def _along_last(node: Node, operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    x = _alone(operands)
    if x is None or x.axis == len(x.shape) - 1:
        return None
    if node.op == "dot":
        return x.like(dot(x.tensor, node.inputs[1]), node.outputs[0].shape or ())
    return x.like(like(node, [x.tensor], [x.tensor.shape])[0], x.shape)


def _reduce(node: Node, operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    (x,), axes = operands, node.attrs["axes"]
    assert isinstance(x, _Moved)
    if x.axis in axes:
        return None
    found = reduce_(x.tensor, node.attrs["function"], [x.at(axis) for axis in axes])
    shape = node.outputs[0].shape or ()
    return _moved(found, shape, x.axis - sum(axis < x.axis for axis in axes), x.outer, x.inner)


def _transpose(node: Node, operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    (x,) = operands
    assert isinstance(x, _Moved)
    return _turned(x, node.attrs["perm"])


def _turned(x: _Moved, perm: Sequence[int]) -> _Moved:
    own = range(x.axis + 1, x.axis + 1 + len(x.own))
    places = [at for axis in perm for at in (own if axis == x.axis else [x.at(axis)])]
    shape = tuple(x.shape[axis] for axis in perm)
    return _moved(transpose(x.tensor, [0, *places]), shape, list(perm).index(x.axis), x.outer, x.inner)


def _reshape(node: Node, operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    """Each item has the same numbers, in the same order."""
    (x,), shape = operands, node.outputs[0].shape or ()
    assert isinstance(x, _Moved)
    if 0 in shape:
        return None
    n = x.tensor.shape[0]
    before = math.prod(x.shape[: x.axis]) * x.outer
    behind = math.prod(x.shape[x.axis + 1 :]) * x.inner
    for axis, size in enumerate(shape):
        outer, too_many = divmod(before, math.prod(shape[:axis]))
        inner, too_long = divmod(behind, math.prod(shape[axis + 1 :]))
        if not too_many and not too_long and size == outer * n * inner:
            return _moved(x.tensor, shape, axis, outer, inner)
    return None


def _slice(node: Node, operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    (x,), shape, begin = operands, node.outputs[0].shape or (), node.attrs["begin"]
    assert isinstance(x, _Moved)
    one = x.shape[x.axis] // x.outer  # All items once.
    first, between = divmod(begin[x.axis], one)
    outer, rest = divmod(shape[x.axis], one)
    if between or rest or not outer:
        return None
    n = x.tensor.shape[0]
    part = slice_(
        x.whole,
        (0, *begin[: x.axis], first, 0, *begin[x.axis + 1 :]),
        (n, *shape[: x.axis], outer, x.inner, *shape[x.axis + 1 :]),
    )
    return _moved(part, shape, x.axis, outer, x.inner)


def _concat(node: Node, operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    items = [each for each in operands if isinstance(each, _Moved)]
    axis, shape = node.attrs["axis"], node.outputs[0].shape or ()
    if len({(each.axis, each.inner) for each in items}) > 1:
        return None
    if axis == items[0].axis:
        return _one_behind_the_other(items, shape) if len(items) == len(operands) else None
    one = _of_one_place(operands)
    sides = None if one is None else _all_beside(operands, one, len(shape))
    if one is None or sides is None:
        return None
    own, at = one.tensor.shape, one.at(axis)
    parts = [broadcast(each, (*own[:at], each.shape[at], *own[at + 1 :])) for each in sides]
    return one.like(concat(parts, at), shape)


def _one_behind_the_other(items: Sequence[_Moved], shape: Shape) -> _Moved:
    """Items and again items, as heads on the batch axis."""
    parts = [each.whole for each in items]
    first = items[0]
    return _moved(
        concat(parts, first.axis + 1), shape, first.axis, sum(each.outer for each in items), first.inner
    )


def _matmul(node: Node, operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    left, right = (
        _matrices(each, flag(node, name)) for each, name in zip(operands, ("adj_x", "adj_y"), strict=True)
    )
    one, shape = _of_one_place([left, right]), node.outputs[0].shape or ()
    if one is None:
        return None
    if one.place[0] < -2:
        sides = _all_beside([left, right], one, len(shape))
        return None if sides is None else one.like(matmul(*sides), shape)
    if one.place[0] == -1 or not isinstance(left, _Moved) or isinstance(right, _Moved):
        return None
    if len(left.shape) != len(shape):
        return None
    # [experts, n, d] times [experts, d, w]: a row of each item.
    n, batch = left.tensor.shape[0], left.shape[:-2]
    rows = reshape(left.tensor, (n, *batch, left.outer * left.inner, left.shape[-1]))
    matrices = reshape(right, (*(1,) * (len(shape) - right.rank + 1), *right.shape))
    return _moved(matmul(rows, matrices), shape, len(shape) - 2, left.outer, left.inner)


def _matrices(operand: _Moved | Tensor, is_turned: bool) -> _Moved | Tensor:
    """An operand of a product as its matrices are multiplied."""
    if not is_turned:
        return operand
    if isinstance(operand, Tensor):
        return turned(operand)
    rank = len(operand.shape)
    perm = [*range(rank - 2), rank - 1, rank - 2]
    return _turned(operand, perm)


def _gather(node: Node, operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    """Rows of one table."""
    table, places, axis = operands
    if not isinstance(places, _Moved) or not isinstance(table, Tensor) or not isinstance(axis, Tensor):
        return None
    batch_dims = tf.compat.v1.AttrValue.FromString(node.attrs["batch_dims"]).i
    if axis.value is None or int(axis.value) or batch_dims:
        return None
    found = like(node, [table, places.tensor, axis], [(*places.tensor.shape, *table.shape[1:])])[0]
    return _moved(found, node.outputs[0].shape or (), places.axis, places.outer, places.inner)


def _look_up(node: Node, operands: Sequence[_Moved | Tensor]) -> _Moved | None:
    table, places = operands
    if not isinstance(places, _Moved) or not isinstance(table, Tensor):
        return None
    found = gather(table, places.tensor)
    return _moved(found, node.outputs[0].shape or (), places.axis, places.outer, places.inner)


_Rule = Callable[[Node, Sequence[_Moved | Tensor]], _Moved | None]
_RULES: dict[str, _Rule] = {
    "BatchMatMulV2": _matmul,
    "GatherV2": _gather,
    "LogSoftmax": _along_last,
    "Softmax": _along_last,
    "broadcast": _broadcast,
    "concat": _concat,
    "dot": _along_last,
    "gather": _look_up,
    "reduce": _reduce,
    "reshape": _reshape,
    "slice": _slice,
    "transpose": _transpose,
}
