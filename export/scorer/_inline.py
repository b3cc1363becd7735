"""Calls of functions, written out: a scorer is read and counted as the operations that it is made of."""

from __future__ import annotations

from typing import Any

from nann.export.graph_defs import with_calls_written_out
from nann.export.replaced import function_of

_CALLS = frozenset(["PartitionedCall", "StatefulPartitionedCall"])
# What keeps grappler from it: XLA compiles the function, or its author asked for a call.
_KEEPS_CALLS = ("_XlaMustCompile", "_noinline")


def without_calls(function: Any) -> Any:
    """A frozen function whose calls are replaced by their bodies; `function` where that makes none fewer.

    Most calls are written out as variables become constants; those that XLA compiles, and those in the body
    of a loop that has been written out since, are not.
    """
    graph_def = function.graph.as_graph_def()
    calls = _calls(graph_def)
    if not calls:
        return function
    for each in [*graph_def.library.function, *graph_def.node]:
        for attr in _KEEPS_CALLS:
            each.attr.pop(attr, None)
    inlined = with_calls_written_out(graph_def, [*function.inputs, *function.outputs])
    if _calls(inlined) >= calls:
        return function
    return function_of(inlined, function.inputs, function.outputs)


def _calls(graph_def: Any) -> int:
    return sum(node.op in _CALLS for node in graph_def.node)
