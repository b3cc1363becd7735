"""Rows of the user beside a row of the item: what works on each row is computed once for those of the user.

A candidate may be one more event of the sequence, or one more field: keys and values of the user's events do
not change from item to item.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nann.export.scorer._cleanup import part_along, place_of_axis
from nann.export.scorer._ir import Tensor, Uses
from nann.export.scorer._narrow import like, narrow_of
from nann.export.scorer._ops import (
    add,
    columns,
    concat,
    dot,
    is_matmul,
    matmul,
    mul,
    reduce_,
    reshape,
    transpose,
)
from nann.export.scorer._rewrite import Rule
from nann.export.scorer._rows import ELEMENTWISE, ON_ROWS

# What leaves rows as they are.
_MOVES = frozenset(["concat", "reshape", "transpose"])


def late_rows(x: Tensor, _: Uses) -> Tensor | None:
    """f([user, item]) -> [f(user), f(item)], one above the other, where f works on each row."""
    joined = next((each for each in x.inputs if _has_user_rows(each)), None)
    found = None if joined is None else _of_each(x, joined)
    if found is None:
        return None
    parts, axis = found
    return concat(parts, axis) if any(part.is_free for part in parts) else None


def _of_each(x: Tensor, joined: Tensor) -> tuple[list[Tensor], int] | None:
    """What `x` is of each part of its operand `joined`, and the axis along which these meet."""
    axis: int = joined.node.attrs["axis"]
    is_above = axis != joined.rank - 1
    if x.op == "dot" and joined == x.inputs[0] and is_above:
        return [dot(part, x.inputs[1]) for part in joined.inputs], axis
    if x.op in ON_ROWS and is_above:
        return [like(x.node, [part], [part.shape])[0] for part in joined.inputs], axis
    if x.op == "reduce" and axis not in x.node.attrs["axes"]:
        function, axes = x.node.attrs["function"], x.node.attrs["axes"]
        left = axis - sum(each < axis for each in axes)
        return [reduce_(part, function, axes) for part in joined.inputs], left
    if x.op == "reshape" and x.shape[: axis + 1] == joined.shape[: axis + 1]:
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        return [reshape(part, (*before, part.shape[axis], *after)) for part in joined.inputs], axis
    sizes = [part.shape[axis] for part in joined.inputs]
    if x.op == "concat" and axis < x.node.attrs["axis"]:  # Both ways, they would change places for ever.
        cut = _all_cut(x.inputs, sizes, axis - x.rank)
        return None if cut is None else ([concat(each, x.node.attrs["axis"]) for each in cut], axis)
    place = axis + x.rank - joined.rank
    if x.op in ELEMENTWISE - {"broadcast"} and x.shape[place] == joined.shape[axis]:
        parts = elementwise_parts(x, sizes, place)
        return None if parts is None else (parts, place)
    return None


def _has_user_rows(x: Tensor) -> bool:
    """Whether it is rows of which some are the user's, or a number for each of them."""
    return x.op == "concat" and not x.is_free and any(part.is_free for part in x.inputs)


def elementwise_parts(x: Tensor, sizes: Sequence[int], axis: int) -> list[Tensor] | None:
    """What `x` is of each part of its operands, which are cut alike: concatenations, and what is free."""
    cut = _all_cut(x.inputs, sizes, axis - x.rank)
    parts = []
    for n, some in zip(sizes, cut or (), strict=False):
        shape = np.broadcast_shapes(*(each.shape for each in some))
        if shape != (*x.shape[:axis], n, *x.shape[axis + 1 :]):
            return None
        parts.append(like(x.node, some, [shape])[0])
    return parts or None


def _all_cut(operands: Sequence[Tensor], sizes: Sequence[int], axis: int) -> list[list[Tensor]] | None:
    """For each size the parts of all operands; None where one cannot be cut."""
    cut = [_cut(each, sizes, axis) for each in operands]
    found = [each for each in cut if each is not None]
    return [list(each) for each in zip(*found, strict=True)] if len(found) == len(cut) else None


def _cut(x: Tensor, sizes: Sequence[int], axis: int) -> list[Tensor] | None:
    """Its parts along an axis counted from the end; None where they would have to be copied."""
    is_same = -axis > x.rank or x.shape[axis] == 1
    if x.op == "concat" and x.node.attrs["axis"] - x.rank == axis:
        found = [part.shape[axis] for part in x.inputs]
        return list(x.inputs) if found == list(sizes) else None
    if not x.is_free and not is_same:
        return None
    return [part_along(x, axis, sum(sizes[:at]), n) for at, n in enumerate(sizes)]


def product_of_rows(x: Tensor, _: Uses) -> Tensor | None:
    """A row of an item times rows of the user and the item: times a matrix of the user's, and the item's row.

    Scores of keys are put side by side, and values summed. Of several rows a product has enough to do.
    """
    if not is_matmul(x) or x.shape[-2] != 1 or x.inputs[0].is_free:
        return None
    row, joined = x.inputs
    found = _user_rows_of(joined)
    if found is None:
        return None
    parts, axis = found
    if axis == joined.rank - 1:
        return concat([matmul(row, part) for part in parts], -1)
    if axis != joined.rank - 2:
        return None
    return add(*(matmul(own, part) for own, part in _with_columns(row, parts)))


def _user_rows_of(x: Tensor) -> tuple[list[Tensor], int] | None:
    """Parts and axis of rows of the user beside those of the item, also where heads of them were stacked."""
    if x.is_free:
        return None
    if _has_user_rows(x):
        return list(x.inputs), x.node.attrs["axis"]
    found = [_user_rows_of(each) for each in x.inputs] if x.op in _MOVES else []
    moved = [each for each in found if each is not None]
    if not moved or len(moved) < len(x.inputs):
        return None
    (parts, axis), attrs = moved[0], x.node.attrs
    if x.op == "transpose":
        return [transpose(part, attrs["perm"]) for part in parts], attrs["perm"].index(axis)
    if x.op == "reshape":
        at = place_of_axis(x.inputs[0].shape, axis, x.shape)
        if at is None:
            return None
        before, after = x.shape[:at], x.shape[at + 1 :]
        return [reshape(part, (*before, part.shape[axis], *after)) for part in parts], at
    sizes = {tuple(part.shape[at] for part in each) for each, at in moved}
    if len(sizes) > 1 or any(at != axis for _, at in moved) or axis == attrs["axis"]:
        return None
    return [concat(each, attrs["axis"]) for each in zip(*(parts for parts, _ in moved), strict=True)], axis


def _with_columns(left: Tensor, parts: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """For parts that are rows one above the other: the columns of `left` that each is multiplied with."""
    ends = np.cumsum([part.shape[-2] for part in parts]).tolist()
    return [
        (columns(left, begin, end), part) for part, begin, end in zip(parts, [0, *ends], ends, strict=False)
    ]


def matrix_times_rows(x: Tensor, _: Uses) -> Tensor | None:
    """A matrix times rows of the user above one of the item: one part per request, and an outer product."""
    if not is_matmul(x) or not x.inputs[0].is_free or not _has_user_rows(x.inputs[1]):
        return None
    matrix, joined = x.inputs
    if joined.node.attrs["axis"] != joined.rank - 2:
        return None
    parts = [
        narrow_of(part, [part.rank - 2, part.rank - 1]) if part.is_free else part for part in joined.inputs
    ]
    return add(
        *(
            mul(own, part) if part.shape[-2] == 1 else matmul(own, part)
            for own, part in _with_columns(matrix, parts)
        )
    )


BESIDE: tuple[Rule, ...] = (late_rows, product_of_rows, matrix_times_rows)
