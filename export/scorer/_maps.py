"""Loops whose rounds need not wait for one another, as those of `tf.map_fn`: all rounds at once.

A score that is written for one item, and mapped over the items of a tile, is then read as one for a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.ops.parallel_for.control_flow_ops import pfor

from nann.export.quiet import quiet_tensorflow
from nann.export.replaced import Call, body_of, function_of, library_of, only_computes, replaced
from nann.export.scorer._anyhow import has_same_results
from nann.export.scorer._ir import Array
from nann.export.scorer._known import (
    HANDLES,
    LOOPS,
    constants_of,
    in_each_round,
    operations_of,
    rounds_of,
    runs,
    variables_read,
)
from nann.export.scorer._places import with_known_elements, with_places_gathered

# What writes calls, loops and branches of a function out.
Simpler = Callable[[Any], Any]
_CONTROL_FLOW = frozenset(["Case", "If", "StatelessCase", "StatelessIf", *LOOPS])


@dataclass(frozen=True)
class _Map:
    """A loop that maps.

    body:     ConcreteFunction: (the loop's variables) -> what one round makes, without control flow.
    counters: variable -> its value before each round and after the last, [rounds + 1, ...].
    places:   variable -> where each round writes in the list that the variable is, [rounds]; None: the
              variable is what the last round makes.
    order:    the rounds in the order of the places of the first list: the first is that of the first item.
    """

    operation: Any
    body: Any
    counters: Mapping[int, Array]
    places: Mapping[int, Array | None]
    order: Array

    def results(self, values: Sequence[Any], call: Call) -> Sequence[Any]:
        """The loop's variables behind the last round."""

        def of_round(number: Any) -> list[Any]:
            given = list(values)
            for at, counted in self.counters.items():
                given[at] = tf.gather(counted[self.order], number)
            return call(self.body.graph, given)

        found = pfor(of_round, self.order.size, fallback_to_while_loop=False) if self.places else []
        results, last = list(values), int(self.order.argmax())
        for at, counted in self.counters.items():
            results[at] = tf.constant(counted[-1])
        for (at, places), made in zip(self.places.items(), found, strict=True):
            results[at] = made[last] if places is None else _written(values[at], made, places[self.order])
        return results


def without_maps(function: Any, simpler: Simpler) -> Any:
    """A frozen function whose loops that map are computed at once; `function` where it has none."""
    while (found := next(_without_one(function, simpler), None)) is not None:
        function = found
    return function


def _without_one(function: Any, simpler: Simpler) -> Iterator[Any]:
    library = library_of(function)
    for operation in function.graph.get_operations():
        if operation.type in LOOPS and (found := _map_of(operation, library, simpler)) is not None:
            try:
                # It logs a form that it does not know as an error, with the trace of the stack.
                with quiet_tensorflow(logging.CRITICAL):
                    without = replaced(function, (operation, found.results))
            except (NotImplementedError, TypeError, ValueError):  # It knows no form of an operation.
                continue
            if has_same_results(function, without):  # Not each of its rules is right, as for axes below 0.
                yield without


def _map_of(operation: Any, library: Mapping[str, Any], simpler: Simpler) -> _Map | None:
    """The loop, where no round reads what another one makes."""
    condition, body = (body_of(library, operation.get_attr(name)) for name in ("cond", "body"))
    if not only_computes(condition) or not only_computes(body):
        return None
    rounds = rounds_of(operation, condition.outputs[0], body)
    if rounds is None or rounds < 2:
        return None
    counters = _counters(operation, body, rounds)
    kept = {at for at, each in enumerate(body.inputs) if _handed_on(body.outputs[at]) == each.name}
    places, made = dict[int, Array | None](), []
    for at, variable in enumerate(body.inputs):
        if at in kept or at in counters:
            continue
        places[at] = None
        made.append(body.outputs[at])
        if variable.dtype in HANDLES:
            if (written := _write(body, at, counters)) is None:
                return None
            places[at], made[-1] = written
    if not variables_read(body, made) <= kept | counters.keys():
        return None
    plain = simpler(function_of(body.as_graph_def(), body.inputs, made))
    if any(each.type in _CONTROL_FLOW for each in operations_of(plain.outputs)):
        return None
    first = next((each for each in places.values() if each is not None), None)
    order = np.arange(rounds) if first is None else np.argsort(first, kind="stable")
    plain = with_places_gathered(with_known_elements(plain, operation), counters)
    return _Map(operation, plain, counters, places, order)


def _counters(operation: Any, body: Any, rounds: int) -> dict[int, Array]:
    """The variables that follow from constants alone: their values before each round and after the last."""
    known = dict[int, Array]()
    for at, each in enumerate(operation.inputs):
        if each.shape.rank == 0:
            known |= constants_of(operation, [at]) or {}
    while True:
        other = {at for at in known if not variables_read(body, [body.outputs[at]]) <= known.keys()}
        if not other:
            break
        known = {at: value for at, value in known.items() if at not in other}
    values = {at: [value] for at, value in known.items()}
    with runs([body.outputs[at] for at in known]) as step:
        for _ in range(rounds):
            after = step({body.inputs[at].name: each[-1] for at, each in values.items()})
            for each, value in zip(values.values(), after, strict=True):
                each.append(value)
    return {at: np.stack(each) for at, each in values.items()}


def _write(body: Any, variable: int, counters: Mapping[int, Array]) -> tuple[Array, Any] | None:
    """Where each round writes in a list, and what; None where it does more than that."""
    written = body.outputs[variable].op
    while written.type == "Identity":
        written = written.inputs[0].op
    if written.type != "TensorListSetItem":
        return None
    elements, place, made = written.inputs
    is_own = _handed_on(elements) == body.inputs[variable].name
    if not is_own or not variables_read(body, [place]) <= counters.keys():
        return None
    places = np.asarray([found for (found,) in in_each_round([place], body, counters)])
    # Of what is written twice the later would count.
    return (places, made) if np.unique(places).size == places.size else None


def _handed_on(tensor: Any) -> str:
    """The name of what a tensor is, where it is only handed on."""
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return str(tensor.name)


def _written(elements: Any, made: Any, places: Array) -> Any:
    """A list with what all rounds make at the places where they write it."""
    return tf.raw_ops.TensorListScatterIntoExistingList(
        input_handle=elements, tensor=made, indices=places.astype(np.int32)
    )
