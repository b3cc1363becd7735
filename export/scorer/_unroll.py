"""Loops whose number of rounds is known, written out: a recurrent network over a fixed number of events."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from nann.export.replaced import Call, body_of, library_of, only_computes, replaced
from nann.export.scorer._ir import Array

LOOPS = frozenset(["StatelessWhile", "While"])
# Of a loop that is written out: a network over so many events takes a minute to export.
MOST_ROUNDS = 512
_MOST_OPERATIONS = 32_768
# A loop of more rounds may go over the items of a tile, if it has as many. TensorFlow runs that faster.
_FEW_ROUNDS = 64


@dataclass(frozen=True)
class _Loop:
    """A loop's operation, what one round does, and how often it does."""

    operation: Any
    body: Any
    rounds: int


def without_loops(function: Any, *, tile_rows: int | None = None) -> Any:
    """A frozen function whose loops of known rounds are written out; `function` where it has none.

    tile_rows: how many items a tile has; None: the function is of no items.
    """
    while (loop := next(_known_loops(function, tile_rows), None)) is not None:
        function = _written_out(function, loop)
    return function


def _known_loops(function: Any, tile_rows: int | None) -> Iterator[_Loop]:
    library = library_of(function)
    for operation in function.graph.get_operations():
        if operation.type in LOOPS:
            condition, body = (body_of(library, operation.get_attr(name)) for name in ("cond", "body"))
            rounds = _rounds(operation, condition, body) if only_computes(body) else None
            if rounds is None or rounds * len(body.get_operations()) > _MOST_OPERATIONS:
                continue
            if rounds <= _FEW_ROUNDS or rounds != tile_rows:
                yield _Loop(operation, body, rounds)


def _rounds(operation: Any, condition: Any, body: Any) -> int | None:
    """How often the loop runs, where only constants decide it: those values alone are computed."""
    deciding = _deciding(condition, body)
    values = constants_of(operation, deciding)
    if values is None:
        return None
    with _runs(condition.outputs[:1]) as decide, _runs([body.outputs[at] for at in deciding]) as step:
        for rounds in range(MOST_ROUNDS + 1):
            if not decide({condition.inputs[at].name: value for at, value in values.items()})[0]:
                return rounds
            found = step({body.inputs[at].name: value for at, value in values.items()})
            values = dict(zip(deciding, found, strict=True))
    return None


def _deciding(condition: Any, body: Any) -> list[int]:
    """The loop's variables that its condition is computed from, in this round or a later one."""
    pending = _read(condition, [condition.outputs[0]])
    found: set[int] = set()
    while pending:
        at = pending.pop()
        if at not in found:
            found.add(at)
            pending |= _read(body, [body.outputs[at]])
    return sorted(found)


def _read(graph: Any, outputs: Sequence[Any]) -> set[int]:
    """The inputs of a function that some of its outputs are computed from."""
    places = {tensor.name: at for at, tensor in enumerate(graph.inputs)}
    return {places[each.outputs[0].name] for each in _operations(outputs) if each.type == "Placeholder"}


def constants_of(operation: Any, places: Sequence[int]) -> dict[int, Array] | None:
    """Some inputs of an operation, where they are computed of constants."""
    tensors = [operation.inputs[at] for at in places]
    if any(each.type in ("Placeholder", *LOOPS) for each in _operations(tensors)):
        return None
    with _runs(tensors) as run:
        return dict(zip(places, run({}), strict=True))


def _operations(tensors: Sequence[Any]) -> list[Any]:
    """All that some tensors are computed by. What they only wait for has no effects."""
    seen: dict[str, Any] = {}
    pending = [tensor.op for tensor in tensors]
    while pending:
        operation = pending.pop()
        if operation.name not in seen:
            seen[operation.name] = operation
            pending += [tensor.op for tensor in operation.inputs]
    return list(seen.values())


@contextlib.contextmanager
def _runs(tensors: Sequence[Any]) -> Iterator[Callable[[Mapping[str, Array]], list[Array]]]:
    """Yield what computes some tensors of a graph, given placeholders by name."""
    names = [each.name for each in tensors]
    part = graph_pb2.GraphDef()
    if tensors:
        whole = tensors[0].graph.as_graph_def()
        part = graph_pb2.GraphDef(versions=whole.versions, library=whole.library)
        part.node.extend(each.node_def for each in _operations(tensors))
    for node in part.node:  # In a function that is called, constants wait for what the call waits for.
        inputs = [each for each in node.input if not each.startswith("^")]
        del node.input[:]
        node.input.extend(inputs)
    read = {f"{node.name}:0" for node in part.node}
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(part, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        yield lambda given: list(session.run(names, {each: given[each] for each in given.keys() & read}))


def _written_out(function: Any, loop: _Loop) -> Any:
    """The function with the rounds of one loop in place of it."""

    def rounds(values: Sequence[Any], call: Call) -> Sequence[Any]:
        for _ in range(loop.rounds):
            values = call(loop.body, values)
        return values

    return replaced(function, loop.operation, rounds)
