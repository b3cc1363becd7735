"""What constants alone decide in a graph, such as the rounds of a loop: computed by TensorFlow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from nann.export.graph_defs import is_read, keep_inputs
from nann.export.known_shapes import become_constant, is_of_known_shape
from nann.export.scorer._ir import Array

LOOPS = frozenset(["StatelessWhile", "While"])
# Of these types there are no arrays.
HANDLES = (tf.resource, tf.variant)
# Of a loop that is written out: a network over so many events takes a minute to export.
MOST_ROUNDS = 512


def constants_of(operation: Any, places: Sequence[int]) -> dict[int, Array] | None:
    """Some inputs of an operation, where they are computed of constants."""
    tensors = [operation.inputs[at] for at in places]
    if any(each.dtype in HANDLES for each in tensors):
        return None
    if any(each.type in ("Placeholder", *LOOPS) for each in operations_of(tensors)):
        return None
    with runs(tensors) as run:
        return dict(zip(places, run({}), strict=True))


def operations_of(tensors: Sequence[Any]) -> list[Any]:
    """All that some tensors are computed by: not what only has a known shape, or what they only wait for."""
    seen: dict[str, Any] = {}
    pending = [tensor.op for tensor in tensors]
    while pending:
        operation = pending.pop()
        if operation.name not in seen:
            seen[operation.name] = operation
            if not is_of_known_shape(operation):
                pending += [tensor.op for tensor in operation.inputs]
    return list(seen.values())


def deciding_variables(decided: Any, body: Any) -> list[int]:
    """A loop's variables that a tensor of its condition or body is computed from, in this round or later."""
    pending = variables_read(decided.graph, [decided])
    found: set[int] = set()
    while pending:
        at = pending.pop()
        if at not in found:
            found.add(at)
            pending |= variables_read(body, [body.outputs[at]])
    return sorted(found)


def variables_read(graph: Any, outputs: Sequence[Any]) -> set[int]:
    """The inputs of a function that some of its tensors are computed from."""
    places = {tensor.name: at for at, tensor in enumerate(graph.inputs)}
    return {places[each.outputs[0].name] for each in operations_of(outputs) if each.type == "Placeholder"}


@contextlib.contextmanager
def runs(tensors: Sequence[Any]) -> Iterator[Callable[[Mapping[str, Array]], list[Array]]]:
    """Yield what computes some tensors of a graph, given placeholders by name."""
    names, operations = [each.name for each in tensors], operations_of(tensors)
    part = graph_pb2.GraphDef()
    if tensors:
        whole = tensors[0].graph.as_graph_def()
        part = graph_pb2.GraphDef(versions=whole.versions, library=whole.library)
        part.node.extend(each.node_def for each in operations)
    for node, operation in zip(part.node, operations, strict=True):
        if is_of_known_shape(operation):
            become_constant(node, operation)
        # In a function that is called, constants wait for what the call waits for.
        keep_inputs(node, is_read)
    read = {f"{node.name}:0" for node in part.node}
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(part, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        yield lambda given: list(session.run(names, {each: given[each] for each in given.keys() & read}))


def rounds_of(operation: Any, condition: Any, body: Any) -> int | None:
    """How often a loop goes round, until a tensor of its condition is False; None: who knows."""
    return rounds_until(operation, condition, body, lambda goes_on: not goes_on)


def rounds_until(operation: Any, decided: Any, body: Any, is_over: Callable[[Array], bool]) -> int | None:
    """In which round a tensor of a loop's condition or body has such a value; None: who knows."""
    graph, deciding = decided.graph, deciding_variables(decided, body)
    values = constants_of(operation, deciding)
    if values is None:
        return None
    with runs([decided]) as decide, runs([body.outputs[at] for at in deciding]) as step:
        for rounds in range(MOST_ROUNDS + 1):
            if is_over(decide({graph.inputs[at].name: value for at, value in values.items()})[0]):
                return rounds
            found = step({body.inputs[at].name: value for at, value in values.items()})
            values = dict(zip(deciding, found, strict=True))
    return None


def in_each_round(tensors: Sequence[Any], body: Any, counters: Mapping[int, Array]) -> list[list[Array]]:
    """The values of tensors of a loop's body in the rounds.

    counters: variables that they follow from -> their values before each round and after the last.
    """
    names = {body.inputs[at].name: values[:-1] for at, values in counters.items()}
    rounds = zip(*names.values(), strict=True)
    with runs(tensors) as run:
        return [run(dict(zip(names, values, strict=True))) for values in rounds]
