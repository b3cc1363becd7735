"""Tensors with axes as long as the user makes them: all rows that there may be, and which are present.

`tf.boolean_mask(events, mask)` is all events and the mask. What is not present holds any numbers, and no sum
or extreme reads them. Rows stay in their order, so that two such axes with the same mask are the same axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from nann.export.scorer._ir import Shape, Tensor, constant
from nann.export.scorer._ops import arithmetic, broadcast, cast, dot, reduce_, reshape, select


@dataclass(frozen=True)
class Places:
    """Which places of an axis are present.

    present:       bool [n], of the user.
    before, after: the axis is n places made one with so many others before and after.
    """

    present: Tensor
    before: int = 1
    after: int = 1

    def mask(self) -> Tensor:
        """bool, as long as the axis."""
        (n,) = self.present.shape
        each = reshape(self.present, (1, n, 1))
        return reshape(broadcast(each, (self.before, n, self.after)), (self.size,))

    @property
    def size(self) -> int:
        return self.before * self.present.size * self.after

    def count(self, dtype: tf.DType) -> Tensor:
        """How many places of the axis are present."""
        found = cast(count_of(self.present), dtype) if dtype != tf.int32 else count_of(self.present)
        times = self.before * self.after
        return found if times == 1 else arithmetic("Mul", found, constant(times, dtype.as_numpy_dtype))


def count_of(present: Tensor) -> Tensor:
    return reduce_(cast(present, tf.int32), "Sum", [0])


def order_of(present: Tensor) -> Tensor:
    """float32 [n]: how many places are present before each."""
    is_before = np.tri(present.size, k=-1, dtype=np.float32).T
    return dot(cast(present), constant(is_before))


def counted(x: Tensor) -> Tensor | None:
    """What a number is the count of: bool [n]; None where it is no such count."""
    while x.op in ("Cast", "reshape") and x.size == 1 and x.inputs[0].known_shape is not None:
        x = x.inputs[0]
    if x.op != "reduce" or x.node.attrs["function"] != "Sum" or x.rank or x.inputs[0].op != "Cast":
        return None
    (present,) = x.inputs[0].inputs
    return present if present.dtype == tf.bool and present.rank == 1 and present.is_free else None


@dataclass(frozen=True)
class Opened:
    """A tensor: all that there may be of it, and the axes of which only some places are present."""

    full: Tensor
    axes: Mapping[int, Places] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        return self.full.rank

    def where_present(self, axes: Iterable[int], other: float) -> Tensor:
        """`full`, with another number wherever one of some axes has no place that is present."""
        x = self.full
        for axis in axes:
            if axis in self.axes:
                mask = self.axes[axis].mask()
                mask = reshape(mask, [mask.size if each == axis else 1 for each in range(x.rank)])
                x = select(mask, x, constant(np.asarray(other, x.dtype.as_numpy_dtype)))
        return x

    def moved(self, full: Tensor, to: Mapping[int, int]) -> Opened:
        """Its numbers elsewhere. to: axis by axis; those that are open must be among them."""
        return Opened(full, {to[axis]: places for axis, places in self.axes.items()})


def aligned(operands: Sequence[Opened]) -> dict[int, Places] | None:
    """The open axes of what operands are broadcast to; None where they may be none."""
    rank = max(each.rank for each in operands)
    found: dict[int, Places] = {}
    for each in operands:
        found |= {axis + rank - each.rank: places for axis, places in each.axes.items()}
    for each in operands:
        for axis, places in found.items():
            own = axis - (rank - each.rank)
            if own >= 0 and each.axes.get(own) != places and (own in each.axes or each.full.shape[own] != 1):
                return None
    return found


def regrouped(x: Opened, sizes: Sequence[int | Tensor]) -> Opened | None:
    """Reshaped. sizes: as TensorFlow has them: numbers, of which one may be -1, and numbers of the user."""
    atoms = _atoms(x)
    left, right = list(sizes), list[int | Tensor]()
    begin, end = list[list[_Atom]](), list[list[_Atom]]()
    while left and (group := _taken(atoms, left[0], at_end=False)) is not None:
        begin.append(group)
        left.pop(0)
    while left and (group := _taken(atoms, left[-1], at_end=True)) is not None:
        end.insert(0, group)
        right.insert(0, left.pop())
    if len(left) > 1 or (not left and atoms) or (left and isinstance(left[0], int) and left[0] != -1):
        return None
    groups = [*begin, *([atoms] if left else []), *end]
    places = [_places(group) for group in groups]
    if any(len([each for each in group if each[1] is not None]) > 1 for group in groups):
        return None
    shape = [math.prod(size for size, _ in group) for group in groups]
    found = {axis: each for axis, each in enumerate(places) if each is not None}
    return Opened(reshape(x.full, shape), found)


# So many places, and which of them are present; None: all.
_Atom = tuple[int, Tensor | None]


def _atoms(x: Opened) -> list[_Atom]:
    found: list[_Atom] = []
    for axis, size in enumerate(x.full.shape):
        places = x.axes.get(axis)
        own: list[_Atom] = [(size, None)]
        if places is not None:
            own = [(places.before, None), (places.present.size, places.present), (places.after, None)]
        found += [each for each in own if each != (1, None)]
    return found


def _taken(atoms: list[_Atom], size: int | Tensor, *, at_end: bool) -> list[_Atom] | None:
    """Take what makes up an axis from one end of `atoms`; None, and nothing, where that is not clear."""
    at = -1 if at_end else 0
    if isinstance(size, Tensor):
        present = counted(size)
        is_next = present is not None and bool(atoms) and atoms[at][1] == present
        return [atoms.pop(at)] if is_next else None
    rest, group = list(atoms), list[_Atom]()
    while size > 1 and rest and rest[at][1] is None:
        own = rest.pop(at)[0]
        part = math.gcd(own, size)
        if part not in (own, size):
            return None
        group.insert(0 if at_end else len(group), (part, None))
        if part < own:
            rest.insert(len(rest) if at_end else 0, (own // part, None))
        size //= part
    if size != 1:
        return None
    atoms[:] = rest
    return group


def _places(group: Sequence[_Atom]) -> Places | None:
    at = next((at for at, each in enumerate(group) if each[1] is not None), None)
    if at is None:
        return None
    present = group[at][1]
    assert present is not None
    before, after = (math.prod(size for size, _ in part) for part in (group[:at], group[at + 1 :]))
    return Places(present, before, after)


def sizes_of(x: Opened, dtype: tf.DType) -> list[Tensor]:
    """Its shape, as a request has it."""
    return [
        x.axes[axis].count(dtype) if axis in x.axes else constant(size, dtype.as_numpy_dtype)
        for axis, size in enumerate(x.full.shape)
    ]


def full_shape(sizes: Sequence[int | Tensor]) -> tuple[Shape, dict[int, Places]] | None:
    """The shape of all that there may be where sizes are numbers and counts; None of other sizes."""
    shape, axes = list[int](), dict[int, Places]()
    for axis, size in enumerate(sizes):
        if isinstance(size, int):
            shape.append(size)
            continue
        present = counted(size)
        if present is None:
            return None
        axes[axis] = Places(present)
        shape.append(present.size)
    return tuple(shape), axes
