"""Loops that the user may end before the last round that they can have, such as at the first missing event.

They are written out with all their rounds, of which those behind the end change nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from nann.export.replaced import Call, body_of
from nann.export.scorer._known import (
    MOST_ROUNDS,
    deciding_variables,
    operations_of,
    rounds_until,
    runs,
)


@dataclass(frozen=True)
class EarlyEnd:
    """How a loop ends early.

    condition: the function that says whether another round begins.
    counters:  the variables that say how many rounds there are at most. They count on behind the end, and so
               stay constants.
    """

    condition: Any
    counters: frozenset[int]

    def rounds(self, body: Any, count: int, values: Sequence[Any], call: Call) -> Sequence[Any]:
        """The values of a loop's variables when it has ended."""
        goes_on, ended = tf.constant(True), values
        for _ in range(count):
            goes_on = tf.logical_and(goes_on, call(self.condition, values)[0])
            after = call(body, values)
            ended = [
                new if new is old else _chosen(goes_on, new, kept)
                for new, old, kept in zip(after, values, ended, strict=True)
            ]
            values = [after[at] if at in self.counters else ended[at] for at in range(len(ended))]
        return ended


def _chosen(goes_on: Any, new: Any, kept: Any) -> Any:
    if not new.shape.is_fully_defined() or new.shape != kept.shape:
        raise ValueError("a variable of the loop changes its shape")
    return tf.where(goes_on, new, kept)


def may_end_early(body: Any) -> bool:
    """Whether each variable of a loop is a tensor, or stays as it is: no list that it fills."""
    return all(
        after is before or after.dtype not in (tf.resource, tf.variant)
        for before, after in zip(body.inputs, body.outputs, strict=True)
    )


def parts_of_condition(condition: Any, library: Mapping[str, Any]) -> list[Any]:
    """Tensors of which each must be True where a condition is."""
    operation = condition.op
    if operation.type == "Identity":
        return parts_of_condition(operation.inputs[0], library)
    if operation.type == "LogicalAnd":
        return [part for each in operation.inputs for part in parts_of_condition(each, library)]
    if operation.type in ("If", "StatelessIf") and _else_is_false(operation, library):
        return parts_of_condition(operation.inputs[0], library)
    return [condition]


def _else_is_false(operation: Any, library: Mapping[str, Any]) -> bool:
    """Whether `tf.cond` returns False where its predicate is, as autograph writes `and` and `break`."""
    predicate, *arguments = operation.inputs
    branch = body_of(library, operation.get_attr("else_branch"))
    given = {
        inside.name: np.array(False)
        for inside, outside in zip(branch.inputs, arguments, strict=True)
        if outside.name == predicate.name
    }
    read = {each.outputs[0].name for each in operations_of(branch.outputs) if each.type == "Placeholder"}
    if len(branch.outputs) > 1 or not read <= given.keys():
        return False
    with runs(branch.outputs) as run:
        return not run(given)[0]


def rounds_by_places(operation: Any, body: Any) -> tuple[int, list[int]] | None:
    """How many rounds a loop has at most, as each reads another place of a tensor, and what says which.

    So `for t in tf.range(user["length"])` has as many as there are events, of which it reads `events[t]`.
    """
    found = []
    for place, length in _places_read(body):
        deciding = deciding_variables(place, body)
        if not deciding or length > MOST_ROUNDS:
            continue
        rounds = rounds_until(operation, place, body, partial(operator.le, length))
        if rounds is not None:
            found.append((rounds, deciding))
    return min(found, default=None)


def _places_read(body: Any) -> Iterator[tuple[Any, int]]:
    """Single places that are read in every round, and how many of them there are."""
    for operation in body.get_operations():
        if operation.type not in ("GatherV2", "StridedSlice") or operation.inputs[0].shape.rank is None:
            continue
        shape = operation.inputs[0].shape
        if operation.type == "GatherV2":
            axis = tf.get_static_value(operation.inputs[2])
            if axis is not None and operation.inputs[1].shape.rank == 0 and shape[axis] is not None:
                yield operation.inputs[1], shape[axis]
        elif operation.inputs[1].op.type == "Pack":
            is_plain = not operation.get_attr("new_axis_mask") and not operation.get_attr("ellipsis_mask")
            for at, place in enumerate(operation.inputs[1].op.inputs):
                is_one = operation.get_attr("shrink_axis_mask") >> at & 1
                if is_plain and is_one and shape[at] is not None:
                    yield place, shape[at]
