"""Rules that take shapes out of the way: broadcasts, axes of size 1, and what is only moved."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nann.export.scorer._contract import MAX_UNROLLED, product_of_free
from nann.export.scorer._copies import gathered_from_one_copy, once_of_copies
from nann.export.scorer._ir import Shape, Tensor, Uses, constant, make
from nann.export.scorer._narrow import like, narrowed
from nann.export.scorer._ops import (
    add,
    behind_reshape,
    columns,
    concat,
    dot,
    is_row,
    mul,
    prelu,
    reduce_,
    reshape,
    slice_,
    transpose,
)
from nann.export.scorer._rewrite import Rule
from nann.export.scorer._rows import ELEMENTWISE

# Elementwise functions of one tensor, of the same type.
_UNARY = """
    Abs Acos Asin Atan Ceil Cos Elu Erf Erfc Exp Expm1 Floor Log Log1p Neg Reciprocal Relu Relu6 Rint Round
    Rsqrt Selu Sigmoid Sign Sin Softplus Softsign Sqrt Square Tan Tanh
"""
UNARY = frozenset(_UNARY.split())


def late_reshape(x: Tensor, _: Uses) -> Tensor | None:
    """f(reshape(a)) -> reshape(f(a)) where f works on each row; f itself is left without axes of size 1."""
    found = function_of_rows(x)
    if found is None:
        return None
    operand, function = found
    before = operand
    if operand.op == "reshape" and not _has_rows_of_one(operand.inputs[0]):
        is_elementwise = _is_unary(x) or (x.op in ("add", "mul") and _others_are_scalars(x, operand))
        if is_elementwise or operand.inputs[0].shape[-1:] == operand.shape[-1:]:
            before = operand.inputs[0]
    shape = _without_ones(before.shape)
    return reshape(function(reshape(before, shape)), x.shape) if shape != operand.shape else None


def function_of_rows(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
    """(a, f) of x = f(a), where f works along the last axis of `a` for whatever axes are before it."""
    operand = x.inputs[0] if x.inputs else x
    attrs = x.node.attrs
    if _is_unary(x) or x.op == "Softmax":
        return operand, lambda a: _same(x, a)
    if x.op == "dot":
        return operand, lambda a: dot(a, x.inputs[1])
    if x.op == "prelu" and is_row(x.inputs[1]):
        return operand, lambda a: prelu(a, _as_row(x.inputs[1]))
    if x.op == "reduce" and attrs["axes"] == (operand.rank - 1,):
        return operand, lambda a: reduce_(a, attrs["function"], [-1])
    if x.op == "slice" and x.shape[:-1] == operand.shape[:-1]:
        begin = attrs["begin"][-1]
        return operand, lambda a: columns(a, begin, begin + x.shape[-1])
    if x.op in ("add", "mul"):
        full = [each for each in x.inputs if not is_row(each)]
        if len(full) == 1 and full[0].shape in (x.shape, (*x.shape[:-1], 1)):
            return full[0], lambda a: _arithmetic(
                x, *(a if each == full[0] else _as_row(each) for each in x.inputs)
            )
    return None


def late_reshape_of_operands(x: Tensor, _: Uses) -> Tensor | None:
    """add(reshape(a), reshape(b), row) -> reshape(add(a, b, row)), and concat alike."""
    if x.op not in ("add", "mul", "concat"):
        return None
    reshaped = [each for each in x.inputs if each.op == "reshape" and not each.is_free]
    if not reshaped or (x.op == "concat" and x.node.attrs["axis"] != x.rank - 1):
        return None
    before = reshaped[0].inputs[0]
    if before.rank >= x.rank and any(not each.is_free and each.op != "reshape" for each in x.inputs):
        return None  # another operand would have to be reshaped instead, and so on for ever
    if function_of_rows(x) is not None and _without_ones(before.shape) == x.shape:
        return None  # late_reshape left out those axes of size 1
    leading = before.shape[:-1]
    operands = [_before_reshape(each, x, leading) for each in x.inputs]
    if any(each is None for each in operands):
        return None
    found = [each for each in operands if each is not None]
    together = concat(found, -1) if x.op == "concat" else _arithmetic(x, *found)
    return reshape(together, x.shape) if together.size == x.size else None


def _before_reshape(operand: Tensor, x: Tensor, leading: Shape) -> Tensor | None:
    """The operand as it is under the leading axes `leading`; None where that cannot be."""
    if x.op == "concat":
        width = operand.shape[-1]
    elif operand.rank == 0 or operand.size == 1:
        return reshape(operand, ())
    else:
        width = operand.shape[-1]
        if width != x.shape[-1]:
            return None
    if operand.op == "reshape" and not operand.is_free:
        before = operand.inputs[0]
        if operand.shape[:-1] != x.shape[:-1]:
            return None
        return before if before.shape == (*leading, width) else None
    if x.op != "concat" and operand.size == width:
        return reshape(operand, (width,))
    # A larger operand, as a mask for each event, fits where the reshape moves nothing but axes of size 1.
    return reshape_of_small(operand, (*x.shape[:-1], width), (*leading, width))


def row_before_split(x: Tensor, _: Uses) -> Tensor | None:
    """reshape(a @ W [n, k * c], [n, k, c]) + row [c] -> reshape(a @ W + the row k times), its bias."""
    if x.op not in ("add", "mul") or len(x.inputs) != 2:
        return None
    split, row = sorted(x.inputs, key=lambda each: each.is_free)
    if split.op != "reshape" or split.inputs[0].op != "dot" or row.value is None or x.rank < 2:
        return None
    product, c = split.inputs[0], x.shape[-1]
    is_split = product.shape[-1] > c and product.shape[-1] % c == 0 and split.shape == x.shape
    if not is_split or row.shape[-1:] != (c,) or row.size != c:
        return None
    repeated = constant(np.tile(row.value.reshape(-1), product.shape[-1] // c))
    return reshape(_arithmetic(x, product, repeated), x.shape)


def elementwise_without_ones(x: Tensor, _: Uses) -> Tensor | None:
    """where(mask, reshape(a), b) of many axes -> reshape(where(mask, a, b)) without axes of size 1."""
    if x.op not in ELEMENTWISE - {"add", "mul", "broadcast"} or x.rank < 3 or len(x.inputs) < 2:
        return None
    dropped = [axis - x.rank for axis in range(1, x.rank - 1) if x.shape[axis] == 1]
    if not dropped:
        return None

    def without(shape: Shape) -> Shape:
        return tuple(n for axis, n in enumerate(shape, -len(shape)) if axis not in dropped)

    operands = [reshape(each, without(each.shape)) for each in x.inputs]
    return reshape(like(x.node, operands, [without(x.shape)])[0], x.shape)


def without_last_axis(x: Tensor, _: Uses) -> Tensor | None:
    """f(a [n, h, w, 1]) -> reshape(f(a [n, h, w])): rows of one number would be computed one by one.

    As where the channels of a norm are as many as its groups. Matrices of three axes stay: a number for each
    event mostly meets the events' vectors.
    """
    if not x.inputs or any(each.known_shape is None for each in x.inputs):
        return None
    if x.op == "reduce" and _has_rows_of_one(x.inputs[0]):
        before = reshape(x.inputs[0], x.inputs[0].shape[:-1])
        axes = [axis for axis in x.node.attrs["axes"] if axis < before.rank]
        return reshape(reduce_(before, x.node.attrs["function"], axes), x.shape) if axes else None
    if x.op not in ELEMENTWISE - {"broadcast"} or not _has_rows_of_one(x):
        return None
    operands = [reshape(each, each.shape[:-1]) for each in x.inputs]
    shape = np.broadcast_shapes(*(each.shape for each in operands))
    return reshape(like(x.node, operands, [shape])[0], x.shape) if shape == x.shape[:-1] else None


def _has_rows_of_one(x: Tensor) -> bool:
    return x.rank >= 4 and x.shape[-1] == 1


def late_transpose(x: Tensor, _: Uses) -> Tensor | None:
    """f(transpose(a)) -> transpose(f(a)) for functions of each element."""
    if _is_unary(x) and x.inputs[0].op == "transpose":
        return transpose(_same(x, x.inputs[0].inputs[0]), x.inputs[0].node.attrs["perm"])
    return None


def reduce_of_transpose(x: Tensor, _: Uses) -> Tensor | None:
    """A sum over axes of transpose(a) -> one over those axes of `a`, where the others keep their order."""
    if x.op != "reduce" or x.inputs[0].op != "transpose":
        return None
    turned, axes = x.inputs[0], x.node.attrs["axes"]
    perm = turned.node.attrs["perm"]
    kept = [perm[axis] for axis in range(turned.rank) if axis not in axes]
    if kept != sorted(kept):
        return None
    return reduce_(turned.inputs[0], x.node.attrs["function"], [perm[axis] for axis in axes])


def slice_before_elementwise(x: Tensor, _: Uses) -> Tensor | None:
    """slice(f(a)) -> f(slice(a)), so that parts of a concatenation find their part."""
    if x.op != "slice" or not _is_unary(x.inputs[0]):
        return None
    inner = x.inputs[0].inputs[0]
    return _same(x.inputs[0], slice_(inner, x.node.attrs["begin"], x.shape)) if inner.op == "concat" else None


def slice_before_transpose(x: Tensor, _: Uses) -> Tensor | None:
    """One step of [steps, n, d] that is a transpose of [n, steps, d] -> that step, without a transpose."""
    if x.op != "slice" or x.inputs[0].op != "transpose":
        return None
    turned = x.inputs[0]
    perm, begin, shape = turned.node.attrs["perm"], list(x.shape), list(x.shape)
    for axis, source in enumerate(perm):
        begin[source], shape[source] = x.node.attrs["begin"][axis], x.shape[axis]
    part = transpose(slice_(turned.inputs[0], begin, shape), perm)
    return part if part.op != "transpose" else None


def slice_of_concat(x: Tensor, _: Uses) -> Tensor | None:
    """Rows of [a, b], side by side -> these rows of both."""
    if x.op != "slice" or x.inputs[0].op != "concat":
        return None
    joined = x.inputs[0]
    axis, begin = joined.node.attrs["axis"], x.node.attrs["begin"]
    if x.shape[axis] != joined.shape[axis]:
        return None
    parts = [slice_(each, begin, (*x.shape[:axis], each.shape[axis], *x.shape[axis + 1 :]))
             for each in joined.inputs]  # fmt: skip
    return concat(parts, axis)


def slice_across_parts(x: Tensor, _: Uses) -> Tensor | None:
    """Rows of [user, item], one above the other -> those of the user above those of the item."""
    if x.op != "slice" or x.inputs[0].op != "concat":
        return None
    joined = x.inputs[0]
    axis, start = joined.node.attrs["axis"], 0
    begin, end = x.node.attrs["begin"][axis], x.node.attrs["begin"][axis] + x.shape[axis]
    if axis == x.rank - 1 or not any(each.is_free for each in joined.inputs):
        return None
    parts = []
    for part in joined.inputs:
        first, last = max(begin, start), min(end, start + part.shape[axis])
        if first < last:
            begins, shape = list(x.node.attrs["begin"]), list(x.shape)
            begins[axis], shape[axis] = first - start, last - first
            parts.append(slice_(part, begins, shape))
        start += part.shape[axis]
    return concat(parts, axis)


def slice_of_split_axis(x: Tensor, _: Uses) -> Tensor | None:
    """Part i of [..., a * b] seen as [..., a, b] -> columns of [..., a * b]."""
    if x.op != "slice" or x.inputs[0].op != "reshape" or x.rank < 2:
        return None
    split, before = x.inputs[0], x.inputs[0].inputs[0]
    if (
        split.shape[:-2] != before.shape[:-1]
        or split.shape[:-2] != x.shape[:-2]
        or split.shape[-1] != x.shape[-1]
    ):
        return None
    first, width = x.node.attrs["begin"][-2], x.shape[-1]
    return reshape(columns(before, first * width, (first + x.shape[-2]) * width), x.shape)


def join_of_parts(x: Tensor, _: Uses) -> Tensor | None:
    """[..., a, b], concatenated along a, seen as [..., a * b] -> the parts side by side."""
    if x.op != "reshape" or x.inputs[0].op != "concat":
        return None
    joined = x.inputs[0]
    if joined.node.attrs["axis"] != joined.rank - 2 or joined.shape[:-2] != x.shape[:-1]:
        return None
    return concat(
        [reshape(each, (*x.shape[:-1], each.shape[-2] * each.shape[-1])) for each in joined.inputs], -1
    )


def late_concat(x: Tensor, _: Uses) -> Tensor | None:
    """f(concat(a, b)) -> concat(f(a), f(b)) along any axis but the last: a head of an attention each."""
    joined = next((each for each in x.inputs if each.op == "concat"), None)
    if joined is None or len(joined.inputs) > MAX_UNROLLED or joined.shape != x.shape:
        return None
    axis: int = joined.node.attrs["axis"]
    if axis == x.rank - 1:
        return None
    if x.op == "Softmax" or _is_unary(x):
        return concat([_same(x, part) for part in joined.inputs], axis)
    if x.op not in ("add", "mul") or any(not each.is_free for each in x.inputs if each != joined):
        return None
    parts, start = [], 0
    for part in joined.inputs:
        n = part.shape[axis]
        operands = [
            part if each == joined else part_along(each, axis - x.rank, start, n) for each in x.inputs
        ]
        parts.append(_arithmetic(x, *operands))
        start += n
    return concat(parts, axis)


def transpose_of_concat(x: Tensor, _: Uses) -> Tensor | None:
    """[heads, n, d], stacked, as [n, heads, d] -> stacked there: each part only gets its axes of size 1."""
    if x.op != "transpose" or (found := _stacked(x.inputs[0])) is None:
        return None
    perm, (parts, axis) = x.node.attrs["perm"], found
    turned = [transpose(each, perm) for each in parts]
    return None if any(each.op == "transpose" for each in turned) else concat(turned, perm.index(axis))


def _stacked(x: Tensor) -> tuple[list[Tensor], int] | None:
    """Parts and axis of a concatenation, also where axes of size 1 were added to it or dropped."""
    joined = behind_reshape(x)
    if joined.op != "concat":
        return None
    axis: int = joined.node.attrs["axis"]
    at = place_of_axis(joined.shape, axis, x.shape)
    if at is None:
        return None
    return [
        reshape(each, (*x.shape[:at], each.shape[axis], *x.shape[at + 1 :])) for each in joined.inputs
    ], at


def place_of_axis(before: Shape, axis: int, after: Shape) -> int | None:
    """Where an axis is after a reshape that adds or drops axes of size 1; None for others."""
    places = [at for at, n in enumerate(after) if n != 1]
    found = [at for at, n in enumerate(before) if n != 1]
    if [after[at] for at in places] != [before[at] for at in found] or axis not in found:
        return None
    return places[found.index(axis)]


def part_along(x: Tensor, axis: int, begin: int, n: int) -> Tensor:
    """`n` of an operand's indices along an axis counted from the end; all of it where it is broadcast."""
    if -axis > x.rank or x.shape[axis] == 1:
        return x
    begins, shape = [0] * x.rank, list(x.shape)
    begins[axis], shape[axis] = begin, n
    return slice_(x, begins, shape)


def reshape_of_small(x: Tensor, before: Shape, after: Shape) -> Tensor | None:
    """For `x` that broadcasts to `before`: what broadcasts to reshape(broadcast(x, before), after).

    None where the reshape does more than to add or drop axes of size 1.
    """
    if [n for n in before if n != 1] != [n for n in after if n != 1]:
        return None
    full = (1,) * (len(before) - x.rank) + x.shape
    sizes = iter(small for small, n in zip(full, before, strict=True) if n != 1)
    return reshape(x, [1 if n == 1 else next(sizes) for n in after])


def _arithmetic(x: Tensor, *inputs: Tensor) -> Tensor:
    return add(*inputs) if x.op == "add" else mul(*inputs)


def _is_unary(x: Tensor) -> bool:
    if len(x.inputs) != 1:
        return False
    if x.op == "Cast":  # Of integers, which are codes and places; masks of events stay where they are read.
        return bool(x.dtype.is_integer or x.inputs[0].dtype.is_integer)
    return x.op in UNARY and x.dtype == x.inputs[0].dtype


def _same(x: Tensor, operand: Tensor) -> Tensor:
    """The function `x` of another tensor."""
    spec = type(x.node.outputs[0])(x.dtype, operand.shape)
    return Tensor(make(x.op, [operand], [spec], x.node.attrs))


def _as_row(x: Tensor) -> Tensor:
    return reshape(x, (x.size,) if x.size > 1 else ())


def _others_are_scalars(x: Tensor, operand: Tensor) -> bool:
    return all(each.size == 1 for each in x.inputs if each != operand)


def _without_ones(shape: Shape) -> Shape:
    """The shape without axes of size 1 before the last; a matrix stays one."""
    kept = tuple(n for n in shape[:-1] if n != 1)
    return (*(kept or (1,)), shape[-1]) if len(shape) > 2 else shape


CLEANUP: tuple[Rule, ...] = (
    narrowed,
    once_of_copies,
    gathered_from_one_copy,
    product_of_free,
    late_reshape,
    late_reshape_of_operands,
    row_before_split,
    elementwise_without_ones,
    without_last_axis,
    late_transpose,
    reduce_of_transpose,
    slice_before_elementwise,
    slice_before_transpose,
    slice_of_concat,
    slice_across_parts,
    slice_of_split_axis,
    join_of_parts,
    late_concat,
    transpose_of_concat,
)
