"""Rows of a user who was repeated, in one batch with those of all copies: computed of one copy.

Networks for texts encode titles: a history [n, titles, words] goes through an encoder of titles as a batch of
n * titles rows, and is taken apart again behind it. Where the history was repeated for each item, the batch
holds n copies of the same rows.
"""

from __future__ import annotations

import numpy as np

from nann.export.scorer import _ops
from nann.export.scorer._ir import Tensor, Uses, constant
from nann.export.scorer._narrow import OF_EQUAL_SHAPES, ON_BATCHES, like, narrow_of
from nann.export.scorer._rows import ELEMENTWISE, ON_ROWS

# Operations whose first input has a row for each of theirs.
_OF_FIRST = ON_ROWS | ON_BATCHES | {"dot"}


def once_of_copies(x: Tensor, _: Uses) -> Tensor | None:
    """reshape(f(n copies of rows)), which takes the copies apart, -> f(the rows), broadcast."""
    if x.op != "reshape" or not x.is_free or x.rank < 2 or x.shape[0] == 1 or not x.inputs[0].rank:
        return None
    batch, copies = x.inputs[0], x.shape[0]
    if batch.op in ("broadcast", "source") or batch.shape[0] == copies or batch.shape[0] % copies:
        return None
    one = _Copies(copies, batch.shape[0]).one_of(batch)
    return None if one is None else _ops.broadcast(_ops.reshape(one, (1, *x.shape[1:])), x.shape)


def gathered_from_one_copy(x: Tensor, _: Uses) -> Tensor | None:
    """Rows of n copies of a user's k rows, by places in each item's own copy -> rows of the one.

    So is the interest read that an item is nearest to: places are `argmax + k * range(n)`.
    """
    if x.op != "gather" or not x.inputs[0].is_free or (one := _one_of_merged(x.inputs[0])) is None:
        return None
    place, k = x.inputs[1], one.shape[0]
    while place.op == "Cast":
        place = place.inputs[0]
    own = [each for each in place.inputs if each.value is None or (each.value % k).any()]
    if place.op != "add" or len(own) != 1 or own[0].shape != x.inputs[1].shape:
        return None
    place = _ops.cast(own[0], x.inputs[1].dtype)
    copies = _ops.unary("Floor", _ops.scaled(_ops.add(place, constant(0.5, np.float32)), 1 / k))
    return _ops.gather(one, _ops.add(place, _ops.scaled(copies, -k)))


class _Copies:
    """One of so many copies that a batch of `rows` rows consists of."""

    def __init__(self, copies: int, rows: int) -> None:
        self._copies, self._rows = copies, rows
        self._known: dict[Tensor, Tensor | None] = {}

    def one_of(self, x: Tensor) -> Tensor | None:
        """The first of the copies; None where they may differ."""
        if x not in self._known:
            self._known[x] = self._one_of(x)
        return self._known[x]

    def _one_of(self, x: Tensor) -> Tensor | None:
        if not x.inputs or len(x.node.outputs) > 1:
            return None
        if x.op == "broadcast":
            narrow = narrow_of(x, range(1, x.rank))
            return _ops.broadcast(narrow, self._shape(x)) if narrow.shape[0] == 1 else None
        if (merged := _one_of_merged(x)) is not None and merged.shape == self._shape(x):
            return merged
        inputs = self._inputs(x)
        if inputs is None:
            return None
        return like(x.node, inputs, [self._shape(x)])[0] if x.op in ELEMENTWISE else self._again(x, inputs)

    def _inputs(self, x: Tensor) -> list[Tensor] | None:
        """Those of an operation on each row, with the rows of one copy."""
        count = 1 if x.op in _OF_FIRST or x.op in ("reshape", "transpose", "reduce", "slice") else None
        if x.op == "GatherV2":
            table, indices, axis = x.inputs
            is_first = axis.value is not None and not int(axis.value)
            is_table = is_first and table.is_free and table.shape[1:] == x.shape[indices.rank :]
            one = self.one_of(indices) if is_table else None
            return None if one is None else [table, one, axis]
        if count is None and x.op not in ELEMENTWISE | {"BatchMatMulV2", "concat"}:
            return None
        if x.op in OF_EQUAL_SHAPES and any(each.shape != x.shape for each in x.inputs):
            return None
        found = [self._row_by_row(each, x) for each in x.inputs[:count]]
        known = [each for each in found if each is not None]
        return [*known, *x.inputs[len(found) :]] if len(known) == len(found) else None

    def _row_by_row(self, each: Tensor, x: Tensor) -> Tensor | None:
        if each.rank and each.shape[0] == self._rows and (each.rank == x.rank or x.op not in ELEMENTWISE):
            return self.one_of(each)
        is_broadcast = x.op == "BatchMatMulV2" and (each.rank < x.rank or each.shape[0] == 1)
        return each if x.op in ELEMENTWISE or is_broadcast else None

    def _again(self, x: Tensor, inputs: list[Tensor]) -> Tensor | None:
        attrs, shape = x.node.attrs, self._shape(x)
        if x.shape[:1] != (self._rows,):
            return None
        if x.op == "reshape":
            return _ops.reshape(inputs[0], shape)
        if x.op == "transpose":
            return _ops.transpose(inputs[0], attrs["perm"]) if attrs["perm"][0] == 0 else None
        if x.op == "reduce":
            axes = attrs["axes"]
            return _ops.reduce_(inputs[0], attrs["function"], axes) if 0 not in axes else None
        if x.op == "slice":
            return _ops.slice_(inputs[0], attrs["begin"], shape)
        if x.op == "concat":
            return _ops.concat(inputs, attrs["axis"]) if attrs["axis"] else None
        return like(x.node, inputs, [shape])[0]

    def _shape(self, x: Tensor) -> tuple[int, ...]:
        return (self._rows // self._copies, *x.shape[1:])


def _one_of_merged(x: Tensor) -> Tensor | None:
    """The rows of one copy in reshape(broadcast(rows, [n, ...])), which makes n copies one batch."""
    before = _ops.behind_reshape(x)
    if x.op != "reshape" or before.op != "broadcast":
        return None
    first = next((axis for axis, n in enumerate(before.shape) if n != 1), 0)
    narrow = narrow_of(before, [axis for axis in range(before.rank) if axis != first])
    if narrow.shape[first] != 1 or x.shape[0] % before.shape[first]:
        return None
    return _ops.reshape(narrow, (x.shape[0] // before.shape[first], *x.shape[1:]))
