"""Branches of a scorer: the one that a constant decides for, or all of them, of which the user chooses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from nann.export.replaced import Call, body_of, library_of, only_computes, replaced
from nann.export.scorer._unroll import constants_of

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
    """A frozen function without its `tf.cond` and `tf.switch_case`; `function` where it has none."""
    while (fork := next(_forks(function), None)) is not None:
        function = _joined(function, fork)
    return function


def _forks(function: Any) -> Iterator[_Fork]:
    library = library_of(function)
    for operation in function.graph.get_operations():
        if operation.type in _BRANCHES:
            if operation.type.endswith("Case"):
                called = operation.get_attr("branches")
            else:
                called = [operation.get_attr(name) for name in ("else_branch", "then_branch")]
            branches = [body_of(library, each) for each in called]
            decided = constants_of(operation, [0])
            # Of one branch the results may have any shape; of several they are joined.
            is_known = decided is not None or _has_known_results(operation)
            if is_known and all(map(only_computes, branches)):
                yield _Fork(operation, branches, None if decided is None else int(decided[0]))


def _has_known_results(operation: Any) -> bool:
    return all(
        each.shape.is_fully_defined() and each.dtype not in (tf.resource, tf.variant)
        for each in operation.outputs
    )


def _joined(function: Any, fork: _Fork) -> Any:
    last = len(fork.branches) - 1

    def results(values: Sequence[Any], call: Call) -> Sequence[Any]:
        """An index beyond the branches is that of the last one."""
        choice, *arguments = values
        if fork.decided is not None:
            return call(fork.branches[fork.decided if 0 <= fork.decided <= last else last], arguments)
        found = [call(branch, arguments) for branch in fork.branches]
        chosen = found[last]
        for index in range(last):
            is_other = tf.equal(tf.cast(choice, tf.int32), index)
            chosen = [tf.where(is_other, *pair) for pair in zip(found[index], chosen, strict=True)]
        return chosen

    return replaced(function, fork.operation, results)
