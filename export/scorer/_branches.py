"""Branches of a scorer: the one that a constant decides for, or all of them, of which the user chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import tensorflow as tf

from nann.export.replaced import (
    Call,
    Compute,
    body_of,
    function_of,
    library_of,
    only_computes,
    replaced,
)
from nann.export.scorer._anyhow import replaced_if_it_runs
from nann.export.scorer._guards import with_guards
from nann.export.scorer._inline import without_calls
from nann.export.scorer._known import constants_of, operations_of

_BRANCHES = frozenset(["Case", "If", "StatelessCase", "StatelessIf"])


@dataclass(frozen=True)
class _Fork:
    """An operation, and what it may do: of an If, what it does for False first.

    decided: which of them, where constants say so.
    """

    operation: Any
    branches: Sequence[Any]
    decided: int | None


def without_branches(function: Any) -> Any:
    """A frozen function without its `tf.cond` and `tf.switch_case`; `function` where it has none.

    Those of the user stay where one of their branches cannot run for each user.
    """
    while forks := _forks(function):
        decided = [each for each in forks if each.decided is not None]
        found = (
            None if len(decided) == len(forks) else replaced_if_it_runs(function, *map(_written_out, forks))
        )
        if found is None and not decided:
            return function
        function = found or replaced(function, *map(_written_out, decided))
    return function


def _written_out(fork: _Fork) -> tuple[Any, Compute]:
    return fork.operation, partial(_results, fork)


def _forks(function: Any) -> list[_Fork]:
    """Those that no other one decides: that one's choice may make theirs a constant."""
    library, found = library_of(function), list[_Fork]()
    for operation in function.graph.get_operations():
        if operation.type in _BRANCHES:
            if operation.type.endswith("Case"):
                called = operation.get_attr("branches")
            else:
                called = [operation.get_attr(name) for name in ("else_branch", "then_branch")]
            branches = [body_of(library, each) for each in called]
            before = {each.name for each in operations_of(operation.inputs[:1])}
            if any(fork.operation.name in before for fork in found):
                continue
            decided = constants_of(operation, [0])
            # Of one branch the results may have any shape; of several they are joined.
            is_known = decided is not None or _has_known_results(operation)
            if is_known and all(map(only_computes, branches)):
                found.append(_Fork(operation, branches, None if decided is None else int(decided[0])))
    return found


def _has_known_results(operation: Any) -> bool:
    return all(
        each.shape.is_fully_defined() and each.dtype not in (tf.resource, tf.variant)
        for each in operation.outputs
    )


def _results(fork: _Fork, values: Sequence[Any], call: Call) -> Sequence[Any]:
    """An index beyond the branches is that of the last one."""
    last = len(fork.branches) - 1
    choice, *arguments = values
    if fork.decided is not None:
        return call(fork.branches[fork.decided if 0 <= fork.decided <= last else last], arguments)
    is_chosen = [tf.equal(tf.cast(choice, tf.int32), index) for index in range(last)]
    is_chosen.append(tf.logical_not(tf.reduce_any(is_chosen)))
    found = [
        call(_guarded(branch), [*arguments, chosen])
        for branch, chosen in zip(fork.branches, is_chosen, strict=True)
    ]
    results = found[last]
    for index in range(last):
        results = [tf.where(is_chosen[index], *pair) for pair in zip(found[index], results, strict=True)]
    return results


def _guarded(branch: Any) -> Any:
    """A branch that also reads whether it is chosen.

    Branches in it are guarded before: each by both choices.
    """
    plain = without_branches(without_calls(function_of(branch.as_graph_def(), branch.inputs, branch.outputs)))
    graph, is_chosen = with_guards(plain.graph)
    return function_of(graph.as_graph_def(), [*plain.inputs, is_chosen], plain.outputs).graph
