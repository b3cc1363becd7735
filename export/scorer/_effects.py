"""What a scorer does beside its scores: assertions and prints, which are left out of its parts.

In parts they would run another number of times than the author wrote. The native executor has no errors of
its own and prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tensorflow.python.framework import op_def_registry

from nann.export.graph_defs import is_read, keep_inputs, node_name
from nann.export.replaced import MAY_BE_STATELESS, body_of, function_of, library_of
from nann.export.scorer._known import constants_of

# They hand on what they look at.
PASSED_ON = frozenset(["CheckNumerics", "CheckNumericsV2", "Print"])
# An assertion is in a branch: what it says of a failure is computed only then.
_GUARD = "/AssertGuard/Assert"
_EFFECTS = frozenset(["Assert", "PrintV2", *PASSED_ON])


def without_effects(function: Any) -> Any:
    """A frozen function without what only happens beside its results; `function` where nothing does.

    Nothing waits then: what has state and is read stays, and is found.
    """
    graph_def = function.graph.as_graph_def()
    bodies = graph_def.library.function
    if not any(_has_effects(node) for nodes in _all_nodes(graph_def) for node in nodes):
        return function
    for body in bodies:
        _keep_read(body.node_def, body.ret.values())
        body.control_ret.clear()
        del body.signature.control_output[:]
    _keep_read(graph_def.node, [tensor.name for tensor in (*function.inputs, *function.outputs)])
    return function_of(graph_def, function.inputs, function.outputs)


def effects_of(function: Any) -> tuple[str, ...]:
    """The names of the assertions and prints of a frozen function, but for assertions that always hold."""
    library = library_of(function)
    found = (effects_of_operation(each, library) for each in function.graph.get_operations())
    return tuple(dict.fromkeys(name for names in found for name in names))


def effects_of_operation(operation: Any, library: Mapping[str, Any]) -> Iterator[str]:
    """The same of one operation, and of what it calls. library: the functions of its graph, by name."""
    if operation.type in _EFFECTS:
        if operation.type != "Assert" or not _is_constant(operation, True):
            yield operation.name.removesuffix(_GUARD)
    else:
        for called in _called(operation):
            for each in body_of(library, called).get_operations():
                yield from effects_of_operation(each, library)


def _called(operation: Any) -> list[Any]:
    """The functions that an operation may call: of a branch that constants decide for, that one."""
    attrs = operation.node_def.attr
    if operation.type in ("If", "StatelessIf"):
        kept = [
            name
            for name, value in (("then_branch", False), ("else_branch", True))
            if not _is_constant(operation, value)
        ]
        return [attrs[name].func for name in kept]
    return [each for attr in attrs.values() for each in (attr.func, *attr.list.func) if each.name]


def _is_constant(operation: Any, value: bool) -> bool:
    """Whether constants and known shapes make the first operand that value."""
    found = constants_of(operation, [0])
    return found is not None and bool(found[0]) == value


def _all_nodes(graph_def: Any) -> Iterator[Iterable[Any]]:
    yield graph_def.node
    for body in graph_def.library.function:
        yield body.node_def


def _has_effects(node: Any) -> bool:
    """Whether anything may happen when an operation is run."""
    op_def = op_def_registry.get(node.op)
    return op_def is not None and op_def.is_stateful and node.op not in MAY_BE_STATELESS


def _keep_read(nodes: Any, wanted: Iterable[str]) -> None:
    """Drop the nodes that nothing wanted is computed from, and all waiting."""
    by_name = {node.name: node for node in nodes}
    pending, seen = list(wanted), set[str]()
    while pending:
        name = node_name(pending.pop())
        if name in by_name and name not in seen:
            seen.add(name)
            keep_inputs(by_name[name], is_read)
            pending += by_name[name].input
    kept = [node for node in nodes if node.name in seen]
    del nodes[:]
    nodes.extend(kept)
