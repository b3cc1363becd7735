"""Slices at a place that the rounds of a loop count, such as `items[i]`: gathers, of which all are one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from nann.export.replaced import Call, replaced
from nann.export.scorer._ir import Array
from nann.export.scorer._known import constants_of, in_each_round, variables_read

_MASKS = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")


@dataclass(frozen=True)
class _Slice:
    """A StridedSlice that is of another place along one axis in each round.

    index:      of that axis.
    begin, end: of the first round.
    """

    operation: Any
    index: int
    begin: Array
    end: Array

    def results(self, values: Sequence[Any], call: Call) -> Sequence[Any]:
        """All of that axis, and then the place."""
        x, begin, _, strides = values
        node, bit = self.operation.node_def.attr, 1 << self.index
        masks = {name: node[f"{name}_mask"].i for name in _MASKS}
        is_dropped = bool(masks["shrink_axis"] & bit)
        masks["begin"], masks["end"] = masks["begin"] | bit, masks["end"] | bit
        masks["shrink_axis"] &= ~bit
        whole = tf.raw_ops.StridedSlice(
            input=x,
            begin=tf.constant(self.begin),
            end=tf.constant(self.end),
            strides=strides,
            **{f"{name}_mask": value for name, value in masks.items()},
        )
        axis = sum(not masks["shrink_axis"] >> before & 1 for before in range(self.index))
        size = tf.cast(tf.shape(whole)[axis], begin.dtype)
        place = tf.math.floormod(tf.maximum(begin[self.index], -size), size)
        return [tf.gather(whole, place if is_dropped else place[tf.newaxis], axis=axis)]


def with_known_elements(body: Any, loop: Any) -> Any:
    """The body of a loop with gathers from constants in place of elements of a list, as of `tf.range`."""
    lists = {body.inputs[at].name: table for at, table in _lists_of_constants(loop)}

    def element(name: str, values: Sequence[Any], call: Call) -> Sequence[Any]:
        return [tf.gather(lists[name], values[1])]

    found = [
        (operation, partial(element, name))
        for operation in body.graph.get_operations()
        if operation.type == "TensorListGetItem" and (name := operation.inputs[0].name) in lists
    ]
    return replaced(body, *found) if found else body


def _lists_of_constants(loop: Any) -> Iterator[tuple[int, Array]]:
    """Variables of a loop that are lists of constant integers."""
    for at, each in enumerate(loop.inputs):
        if each.op.type == "TensorListFromTensor" and each.op.inputs[0].dtype.is_integer:
            table = constants_of(each.op, [0])
            if table is not None:
                yield at, table[0]


def with_places_gathered(body: Any, counters: Mapping[int, Array]) -> Any:
    """The body of a loop with gathers in place of slices whose place its rounds count.

    counters: variable of the loop -> its value before each round and after the last.
    """
    found = [
        each
        for operation in body.graph.get_operations()
        if operation.type == "StridedSlice" and (each := _slice_of(operation, body, counters)) is not None
    ]
    return replaced(body, *((each.operation, each.results) for each in found)) if found else body


def _slice_of(operation: Any, body: Any, counters: Mapping[int, Array]) -> _Slice | None:
    """None for slices of the same places in all rounds, of several that change, or of more than one place."""
    bounds, node = operation.inputs[1:], operation.node_def.attr
    read = variables_read(body.graph, bounds)
    if not read or not read <= counters.keys() or node["ellipsis_mask"].i or node["new_axis_mask"].i:
        return None
    found = in_each_round(bounds, body, {at: counters[at] for at in read})
    begins, ends, strides = (np.stack(each) for each in zip(*found, strict=True))
    changing = np.flatnonzero((begins != begins[0]).any(0))
    if changing.size != 1 or (strides != 1).any():
        return None
    index = int(changing[0])
    is_same = all(
        (ends[:, at] == ends[0, at]).all()
        for at in range(ends.shape[1])
        if at != index and not (node["end_mask"].i | node["shrink_axis_mask"].i) >> at & 1
    )
    if not is_same or not _is_of_one_place(operation, index, begins[:, index], ends[:, index]):
        return None
    return _Slice(operation, index, begins[0], ends[0])


def _is_of_one_place(operation: Any, index: int, begins: Array, ends: Array) -> bool:
    """Whether a slice has one place along an axis in each round: `events[i - 1 : i]` has none at first."""
    node = operation.node_def.attr
    if node["shrink_axis_mask"].i >> index & 1:
        return True
    shape = operation.inputs[0].shape
    is_masked = (node["begin_mask"].i | node["end_mask"].i) >> index & 1
    if is_masked or shape.rank is None or shape[index] is None:
        return False
    size = range(shape[index])
    return all(len(size[begin:end]) == 1 for begin, end in zip(begins, ends, strict=True))
