"""Tensors as numbers of another tensor's matrix: what only moves numbers costs nothing until it is read.

A transpose, a slice, a broadcast, and a reshape that cuts or joins axes change where the numbers of each
axis are found. Readers that can follow, such as products of heads, read them there; others get a copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nann.export.scorer._ir import Tensor
from nann.export.scorer._lowering import Lowering
from nann.export.scorer._ops import broadcast, concat, reshape

# Readers of scattered numbers that each copy them from where they are; for more they are put in order once.
_MOST_SCATTERED = 2


@dataclass(frozen=True)
class Factor:
    """Part of an axis: `size` indices, and the step from one to the next in items, rows and columns."""

    size: int
    item: int = 0
    row: int = 0
    column: int = 0

    def times(self, count: int, size: int) -> Factor:
        """`size` indices that are `count` of these steps apart."""
        return Factor(size, count * self.item, count * self.row, count * self.column)


Axis = tuple[Factor, ...]


@dataclass(frozen=True)
class View:
    """Element 0 is at (row, column) of the matrix of `base`; an axis is some factors, the outermost first."""

    base: Tensor
    axes: tuple[Axis, ...]
    row: int = 0
    column: int = 0


def view_of(lowering: Lowering, x: Tensor) -> View:
    """The tensor as a view of one that is computed: itself, or what is behind moves."""
    joined = _heads_joined(lowering, x)
    if joined is not None:
        return _reshaped(x, whole(lowering, joined)) or whole(lowering, x)
    rule = _VIEWS.get(x.op)
    if rule is None:
        return whole(lowering, x)
    before = view_of(lowering, x.inputs[0])
    is_shared = lowering.uses[x.inputs[0]] > _MOST_SCATTERED and lowering.has_matrix(x.inputs[0])
    if is_shared and _is_scattered(before):
        before = whole(lowering, x.inputs[0])
    found = rule(x, before)
    if found is None and lowering.has_matrix(x.inputs[0]):
        found = rule(x, whole(lowering, x.inputs[0]))
    return whole(lowering, x) if found is None else found


def _is_scattered(view: View) -> bool:
    """Whether neighbours in a row lie apart, or are one number: to copy them takes several times as long."""
    last = joined(*view.axes[-1:])
    return bool(last) and last[-1].size > 1 and last[-1].column != 1


def _heads_joined(lowering: Lowering, x: Tensor) -> Tensor | None:
    """Rows of heads, one above the other, as rows with their heads side by side, as a layer makes them."""
    axis = 0 if x.is_free else 1
    if x.op != "concat" or x.node.attrs["axis"] != axis or x.rank < axis + 3:
        return None
    parts = []
    for each in x.inputs:
        shape = (*x.shape[:axis], each.shape[axis], math.prod(each.shape[axis + 1 :]))
        if each.is_free and not x.is_free:  # Once, and repeated for each item.
            each = reshape(lowering.without_items(each, x), shape[1:])
        parts.append(broadcast(each, shape) if each.is_free and not x.is_free else reshape(each, shape))
    return concat(parts, axis)


def whole(lowering: Lowering, x: Tensor) -> View:
    """All of a tensor's own matrix."""
    lowering.shape(x)
    axes: list[Axis] = []
    rows = 1
    for at in reversed(range(x.rank)):
        n = x.shape[at]
        if at == 0 and not x.is_free:
            axes.append((Factor(n, item=1),))
        elif at == x.rank - 1:
            axes.append((Factor(n, column=1),))
        else:
            axes.append((Factor(n, row=rows),))
            rows *= n
    return View(x, tuple(reversed(axes)))


def joined(*axes: Axis) -> Axis:
    """The axes as one, with as few factors as there can be."""
    found: list[Factor] = []
    for each in (factor for axis in axes for factor in axis if factor.size != 1):
        if found and each.times(each.size, found[-1].size) == found[-1]:
            found[-1] = replace(each, size=each.size * found[-1].size)
        else:
            found.append(each)
    return tuple(found)


def count(axis: Axis) -> int:
    """How many indices it has."""
    return math.prod(factor.size for factor in axis)


def _transposed(x: Tensor, view: View) -> View | None:
    return replace(view, axes=tuple(view.axes[axis] for axis in x.node.attrs["perm"]))


def _broadcast(x: Tensor, view: View) -> View | None:
    before = ((),) * (x.rank - len(view.axes)) + view.axes
    axes = tuple(axis if count(axis) == n else (Factor(n),) for axis, n in zip(before, x.shape, strict=True))
    return replace(view, axes=axes)


def _reshaped(x: Tensor, view: View) -> View | None:
    left = list(joined(*view.axes))
    axes = [_taken(left, n) for n in x.shape]
    found = tuple(axis for axis in axes if axis is not None)
    return replace(view, axes=found) if len(found) == x.rank else None


def _taken(left: list[Factor], n: int) -> Axis | None:
    """Takes an axis of size n from the outermost factors; None where one of them would be cut in between."""
    axis: list[Factor] = []
    while n > 1:
        outer = left.pop(0)
        if n % outer.size == 0:
            axis.append(outer)
            n //= outer.size
        elif outer.size % n == 0:
            inner = outer.size // n
            axis.append(outer.times(inner, n))
            left.insert(0, replace(outer, size=inner))
            n = 1
        else:
            return None
    return tuple(axis)


def _sliced(x: Tensor, view: View) -> View | None:
    axes: list[Axis] = []
    row, column = view.row, view.column
    for axis, begin, n in zip(view.axes, x.node.attrs["begin"], x.shape, strict=True):
        found = _cut(joined(axis), begin, n)
        if found is None:
            return None
        part, first = found
        if first.item:
            return None
        axes.append(part)
        row, column = row + first.row, column + first.column
    return View(view.base, tuple(axes), row, column)


def _cut(axis: Axis, begin: int, n: int) -> tuple[Axis, Factor] | None:
    """Indices [begin, begin + n) of an axis, and the steps to its first; None where they have no pattern."""
    if count(axis) == n:
        return axis, Factor(1)
    outer, inner = axis[0], axis[1:]
    step = count(inner)
    if begin % step == 0 and n % step == 0:
        return (replace(outer, size=n // step), *inner), outer.times(begin // step, 1)
    if begin // step != (begin + n - 1) // step:
        return None
    found = _cut(inner, begin % step, n)
    if found is None:
        return None
    first, skipped = found[1], outer.times(begin // step, 1)
    return found[0], Factor(
        1, first.item + skipped.item, first.row + skipped.row, first.column + skipped.column
    )


_VIEWS: dict[str, Callable[[Tensor, View], View | None]] = {
    "broadcast": _broadcast,
    "reshape": _reshaped,
    "slice": _sliced,
    "transpose": _transposed,
}
MOVES: Sequence[str] = tuple(_VIEWS)
