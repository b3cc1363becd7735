"""Only what is read is computed: the last state of a sequence, the heads and rows that the score depends on.

From the scores on back, each tensor has the smallest box (a range along each axis) of all that is read of it,
through whatever lies between. This is the elimination of dead code, element by element. Nothing is computed
twice: a tensor of which two parts are read is computed once, from the first to the last of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nann.export.scorer._ir import Shape, Tensor, name_new, same_op, topological
from nann.export.scorer._narrow import axis_groups, like
from nann.export.scorer._ops import (
    broadcast,
    concat,
    dot,
    gather,
    is_matmul,
    matmul,
    rebuilt,
    reduce_,
    reshape,
    slice_,
    transpose,
)
from nann.export.scorer._rows import ELEMENTWISE, ON_ROWS

# (begin, end) along each axis.
Box = tuple[tuple[int, int], ...]


def only_what_is_read(output: Tensor) -> Tensor:
    """The same scores, without the elements of tensors on the way that none of them depends on."""
    boxes = _boxes(output)
    made: dict[Tensor, Tensor] = {}
    for node in topological([output]):
        for index in range(len(node.outputs)):
            x = Tensor(node, index)
            made[x] = name_new(_made(x, boxes, made), node.name) if x in boxes else x
    return made[output]


def _boxes(output: Tensor) -> dict[Tensor, Box]:
    """Of each tensor that depends on the item and is read: what is read of it."""
    boxes = {output: _whole(output)}
    for node in reversed(list(topological([output]))):
        for index in range(len(node.outputs)):
            x = Tensor(node, index)
            if x not in boxes and len(node.outputs) == 1:
                continue
            wanted = _wanted(x, boxes[x]) if x in boxes else [_whole(each) for each in x.inputs]
            for operand, box in zip(x.inputs, wanted, strict=True):
                if box is not None and not operand.is_free:
                    boxes[operand] = _around(boxes[operand], box) if operand in boxes else box
    return boxes


def _whole(x: Tensor) -> Box:
    return tuple((0, n) for n in x.known_shape or ())


def _around(one: Box, other: Box) -> Box:
    return tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))


def _sizes(box: Box) -> Shape:
    return tuple(end - begin for begin, end in box)


def _wanted(x: Tensor, box: Box) -> list[Box | None]:
    """What is read of each operand where `box` is read of `x`; None for one of which nothing is."""
    if x.op != "slice" and (box == _whole(x) or _is_open(x)):
        return [_whole(each) for each in x.inputs]
    return _wanted_parts(x, box)


def _is_open(x: Tensor) -> bool:
    return any(each.known_shape is None for each in (x, *x.inputs))


def _wanted_parts(x: Tensor, box: Box) -> list[Box | None]:
    attrs, operands = x.node.attrs, x.inputs
    if not operands:
        return []
    if x.op in ELEMENTWISE:
        return [_of_operand(each, box) for each in operands]
    if x.op == "slice":
        begins = attrs["begin"]
        return [tuple((a + begin, b + begin) for (a, b), begin in zip(box, begins, strict=True))]
    if x.op == "concat":
        return _of_parts(x, box)
    if x.op == "gather":
        return [_whole(operands[0]), box[:-1]]
    first = _whole(operands[0])
    if x.op in ON_ROWS:
        return [(*box[:-1], first[-1])]
    if x.op == "dot":
        return [(*box[:-1], first[-1]), _whole(operands[1])]
    if is_matmul(x):
        left = (*box[:-1], (0, operands[0].shape[-1]))
        right = (*box[:-2], (0, operands[1].shape[-2]), box[-1])
        return [_of_operand(operands[0], left), _of_operand(operands[1], right)]
    if x.op == "reduce":
        kept = iter(box)
        return [tuple(all_ if axis in attrs["axes"] else next(kept) for axis, all_ in enumerate(first))]
    if x.op == "transpose":
        return [tuple(box[attrs["perm"].index(axis)] for axis in range(x.rank))]
    if x.op == "reshape":
        return [_before_reshape(operands[0].shape, x.shape, box)]
    return [_whole(each) for each in operands]


def _of_operand(operand: Tensor, box: Box) -> Box:
    """Of an operand that is broadcast: the last axes of the box, all of those of size 1."""
    behind = box[len(box) - operand.rank :]
    return tuple((0, 1) if n == 1 else each for n, each in zip(operand.shape, behind, strict=True))


def _of_parts(x: Tensor, box: Box) -> list[Box | None]:
    axis, start = x.node.attrs["axis"], 0
    found: list[Box | None] = []
    for part in x.inputs:
        n = part.shape[axis]
        begin, end = (min(max(each - start, 0), n) for each in box[axis])
        found.append((*box[:axis], (begin, end), *box[axis + 1 :]) if begin < end else None)
        start += n
    return found


def _before_reshape(before: Shape, after: Shape, box: Box) -> Box:
    """What is read of the operand of a reshape, at least; `_reshaped` takes the box out of it."""
    found = [(0, n) for n in before]
    for ours, theirs in axis_groups(before, after):
        # Elements of a group lie one after the other, so a range of its outermost axis is one of the group.
        outer, inner = _outermost(before, ours)
        outer_after, inner_after = _outermost(after, theirs)
        if outer is None or outer_after is None:
            continue
        begin, end = (each * inner_after for each in box[outer_after])
        if begin % inner == 0 and end % inner == 0:
            found[outer] = (begin // inner, end // inner)
    return tuple(found)


def _outermost(shape: Shape, axes: Sequence[int]) -> tuple[int | None, int]:
    """The first of some axes that has more than one index, and how many elements each of these has."""
    for at, axis in enumerate(axes):
        if shape[axis] > 1:
            return axis, math.prod(shape[each] for each in axes[at + 1 :])
    return None, 1


def _made(x: Tensor, boxes: dict[Tensor, Box], made: dict[Tensor, Tensor]) -> Tensor:
    """The box of `x`, computed of what was made of its operands."""
    box = boxes[x]
    if not x.inputs:
        return _cut(x, None, box)
    wanted = _wanted(x, box)
    operands = [
        _cut(made[each], boxes.get(each), want)
        for each, want in zip(x.inputs, wanted, strict=True)
        if want is not None
    ]
    if x.op == "slice":
        return operands[0]
    if box == _whole(x):
        return x if tuple(operands) == x.inputs else _again(x, operands)
    return _on_parts(x, operands, box)


def _cut(made: Tensor, box: Box | None, wanted: Box) -> Tensor:
    """The part `wanted` of a tensor, of which `box` was made; None for all of it."""
    if made.known_shape is None:
        return made
    origin = box or _whole(made)
    begins = [begin - first for (begin, _), (first, _) in zip(wanted, origin, strict=True)]
    return slice_(made, begins, _sizes(wanted))


def _on_parts(x: Tensor, operands: Sequence[Tensor], box: Box) -> Tensor:
    """The box of the operation, given the parts of its operands that `_wanted` names."""
    if _is_open(x):
        return _cut(_again(x, operands), None, box)
    attrs, first = x.node.attrs, operands[0]
    rows = (*box[:-1], (0, x.shape[-1]))
    if x.op == "concat":
        return concat(operands, attrs["axis"])
    if x.op == "broadcast":
        return broadcast(first, _sizes(box))
    if x.op in ELEMENTWISE:
        return like(x.node, operands, [_sizes(box)])[0]
    if x.op == "gather":
        return _cut(gather(*operands), rows, box)
    if x.op in ON_ROWS:
        return _cut(like(x.node, operands, [_sizes(rows)])[0], rows, box)
    if x.op == "dot":
        return _cut(dot(*operands), rows, box)
    if is_matmul(x):
        return matmul(*operands)
    if x.op == "reduce":
        return reduce_(first, attrs["function"], attrs["axes"])
    if x.op == "transpose":
        return transpose(first, attrs["perm"])
    if x.op == "reshape":
        return _reshaped(x, first, box)
    return _cut(_again(x, operands), None, box)


def _again(x: Tensor, operands: Sequence[Tensor]) -> Tensor:
    """The operation on other operands, of the same shapes."""
    return rebuilt(x, operands) or Tensor(same_op(x.node, operands), x.index)


def _reshaped(x: Tensor, part: Tensor, box: Box) -> Tensor:
    """The box of a reshape, given what `_before_reshape` names of its operand."""
    before, around = x.inputs[0].shape, list(_whole(x))
    for ours, theirs in axis_groups(before, x.shape):
        outer, outer_after = _outermost(before, ours)[0], _outermost(x.shape, theirs)[0]
        if outer is not None and outer_after is not None and part.shape[outer] < before[outer]:
            around[outer_after] = box[outer_after]
    return _cut(reshape(part, _sizes(tuple(around))), tuple(around), box)
