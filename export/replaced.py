"""Operations of a frozen function replaced by what other functions do, such as the rounds of a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

from nann.export.graph_defs import is_read, keep_inputs

# TensorFlow calls these stateful, because what they run may be; that is looked at by itself.
MAY_BE_STATELESS = frozenset(
    ["Case", "If", "PartitionedCall", "Placeholder", "StatefulPartitionedCall", "While"]
)

# (a function's graph, its arguments) -> its results
Call = Callable[[Any, Sequence[Any]], list[Any]]
# (an operation's inputs, what calls functions) -> its results
Compute = Callable[[Sequence[Any], Call], Sequence[Any]]


def library_of(function: Any) -> dict[str, Any]:
    """The functions that a function calls, by name."""
    return {each.signature.name: each for each in function.graph.as_graph_def().library.function}


def only_computes(graph: Any) -> bool:
    """Whether what a function does may run any number of times: none of its operations has state."""
    operations = graph.get_operations()
    return not any(each.op_def.is_stateful and each.type not in MAY_BE_STATELESS for each in operations)


def body_of(library: Mapping[str, Any], called: Any) -> Any:
    """The graph of a function that an attribute of an operation names."""
    return function_def_to_graph(library[called.name], include_library_functions=True)


def replaced(function: Any, *replacements: tuple[Any, Compute]) -> Any:
    """The function with other results of some operations, made of their inputs.

    All are replaced at once, and each tensor before them is computed once: rounds of a loop that hang on one
    another would double in number otherwise.
    """
    whole = function.graph.as_graph_def()
    names = [tensor.name for tensor in function.inputs]

    def imported(part: Any, given: Mapping[str, Any], wanted: Sequence[str]) -> list[Any]:
        part.library.CopyFrom(whole.library)
        read = {_tensor(name) for node in part.node for name in node.input}
        known = {name: tensor for name, tensor in given.items() if name in read}
        results: list[Any] = tf.graph_util.import_graph_def(part, known, wanted, name="")
        return results

    def call(body: Any, values: Sequence[Any]) -> list[Any]:
        found = dict(zip((each.name for each in body.inputs), values, strict=True))
        wanted = [tensor.name for tensor in body.outputs]
        computed = [name for name in dict.fromkeys(wanted) if name not in found]
        part = _part(body.as_graph_def(), wanted, found)
        found.update(zip(computed, imported(part, found, computed), strict=True))
        return [found[name] for name in wanted]

    def with_results(*tensors: Any) -> list[Any]:
        known = dict(zip(names, tensors, strict=True))

        def tensors_of(wanted: Iterable[Any]) -> list[Any]:
            needed = [tensor.name for tensor in wanted]
            part = _part(whole, needed, known)
            made = [function.graph.get_operation_by_name(node.name) for node in part.node]
            computed = [tensor.name for each in made for tensor in each.outputs]
            known.update(zip(computed, imported(part, known, computed), strict=True))
            return [known[name] for name in needed]

        for operation, compute in replacements:
            results = compute(tensors_of(operation.inputs), call)
            known.update({f"{operation.name}:{at}": value for at, value in enumerate(results)})
        return tensors_of(function.outputs)

    specs = _specs(function.inputs)
    return tf.function(with_results, input_signature=specs, autograph=False).get_concrete_function()


def function_of(graph_def: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """The ConcreteFunction of a graph, from tensors that it has to tensors that it has."""
    given, wanted = ([tensor.name for tensor in tensors] for tensors in (inputs, outputs))

    def imported(*tensors: Any) -> list[Any]:
        known = dict(zip(given, tensors, strict=True))
        computed = [name for name in dict.fromkeys(wanted) if name not in known]
        found = tf.graph_util.import_graph_def(graph_def, known, computed, name="")
        known.update(zip(computed, found, strict=True))
        return [known[name] for name in wanted]

    return tf.function(imported, input_signature=_specs(inputs), autograph=False).get_concrete_function()


def _specs(inputs: Sequence[Any]) -> list[tf.TensorSpec]:
    return [tf.TensorSpec(tensor.shape, tensor.dtype, tensor.op.name) for tensor in inputs]


def _part(graph_def: Any, wanted: Sequence[str], given: Mapping[str, Any]) -> Any:
    """The nodes that some tensors are computed by, of those that are given."""
    nodes = {node.name: node for node in graph_def.node}
    pending, seen = [_tensor(each) for each in wanted], set[str]()
    while pending:
        tensor = pending.pop()
        name = tensor.rpartition(":")[0]
        if tensor not in given and name not in seen:
            seen.add(name)
            pending += [_tensor(each) for each in nodes[name].input]
    part = type(graph_def)(versions=graph_def.versions)
    part.node.extend(node for node in graph_def.node if node.name in seen)
    for node in part.node:  # What is given has run.
        keep_inputs(node, lambda each: is_read(each) or each[1:] in seen)
        node.attr.pop("_class", None)  # Colocation with what is given.
    return part


def _tensor(name: str) -> str:
    """The full name of a node's input."""
    return name if ":" in name else f"{name.lstrip('^')}:0"
