"""Loops whose number of rounds is known, written out: a recurrent network over a fixed number of events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nann.export.replaced import Call, body_of, library_of, only_computes, replaced
from nann.export.scorer._anyhow import replaced_if_it_runs
from nann.export.scorer._early import EarlyEnd, may_end_early, parts_of_condition, rounds_by_places
from nann.export.scorer._known import LOOPS, deciding_variables, operations_of, rounds_of

_MOST_OPERATIONS = 32_768
# A loop of more rounds may go over the items of a tile, if it has as many and carries nothing from one to the
# next. TensorFlow runs that faster.
_FEW_ROUNDS = 64


@dataclass(frozen=True)
class _Loop:
    """A loop's operation, what one round does, and how often it does.

    early: how the user may end it before; None: nobody does.
    """

    operation: Any
    body: Any
    rounds: int
    early: EarlyEnd | None = None


def without_loops(function: Any, *, tile_rows: int | None = None) -> Any:
    """A frozen function whose loops of known rounds are written out; `function` where it has none.

    tile_rows: how many items a tile has; None: the function is of no items.
    """
    while (found := next(_without_one(function, tile_rows), None)) is not None:
        function = found
    return function


def _without_one(function: Any, tile_rows: int | None) -> Iterator[Any]:
    """The function without one of its loops: for each of them, where it can be written out."""
    library = library_of(function)
    item = None if tile_rows is None else function.inputs[-1].op
    for operation in function.graph.get_operations():
        if operation.type in LOOPS:
            condition, body = (body_of(library, operation.get_attr(name)) for name in ("cond", "body"))
            loop = None
            if only_computes(condition) and only_computes(body):
                loop = _known(operation, condition, body) or _bounded(
                    operation, condition, body, library, item
                )
            if loop is None or loop.rounds * len(body.get_operations()) > _MOST_OPERATIONS:
                continue
            if loop.rounds <= _FEW_ROUNDS or loop.rounds != tile_rows or _carries_state(body):
                written = _written_out(function, loop)
                if written is not None:
                    yield written


def _carries_state(body: Any) -> bool:
    """Whether a round has numbers of the one before, as in a recurrent network: it is not of an item."""
    return any(
        after is not before and after.dtype.is_floating and after.shape.rank != 0
        for before, after in zip(body.inputs, body.outputs, strict=True)
    )


def _known(operation: Any, condition: Any, body: Any) -> _Loop | None:
    """The loop, where only constants decide how often it goes round: those values alone are computed."""
    rounds = rounds_of(operation, condition.outputs[0], body)
    return None if rounds is None else _Loop(operation, body, rounds)


def _bounded(
    operation: Any, condition: Any, body: Any, library: Mapping[str, Any], item: Any
) -> _Loop | None:
    """The loop, where constants or events say how often it goes round at most, and the user when it ends."""
    deciding = deciding_variables(condition.outputs[0], body)
    if item in operations_of([operation.inputs[at] for at in deciding]) or not may_end_early(body):
        return None
    parts = parts_of_condition(condition.outputs[0], library)
    bounds = [(rounds, part) for part in parts if (rounds := rounds_of(operation, part, body)) is not None]
    if not bounds:
        found = rounds_by_places(operation, body)
        early = None if found is None else EarlyEnd(condition, frozenset(found[1]))
        return None if found is None else _Loop(operation, body, found[0], early)
    rounds, part = min(bounds, key=lambda bound: bound[0])
    return _Loop(operation, body, rounds, EarlyEnd(condition, frozenset(deciding_variables(part, body))))


def _written_out(function: Any, loop: _Loop) -> Any | None:
    """The function with the rounds of one loop in place of it."""

    def rounds(values: Sequence[Any], call: Call) -> Sequence[Any]:
        for _ in range(loop.rounds):
            values = call(loop.body, values)
        return values

    if loop.early is None:
        return replaced(function, (loop.operation, rounds))
    early = partial(loop.early.rounds, loop.body, loop.rounds)
    return replaced_if_it_runs(function, (loop.operation, early))
