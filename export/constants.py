"""Turning captured variables into constants, unless they are too big for a GraphDef (2 GB, copied often)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

from nann.errors import InvalidInputError
from nann.export._operations import check_operations
from nann.export.constant_gathers import gather_constants
from nann.export.constant_tables import tables_of_integers, without_tables
from nann.export.graph_defs import node_name, with_own_names, without_names_of_calls
from nann.run.guard import said

# Four million floats: enough for the weights of a scorer. A bigger table belongs in a mapped file.
MAX_CONSTANT_BYTES = 16 * 2**20


def freeze(function: Any, *, what: str, max_constant_bytes: int = MAX_CONSTANT_BYTES) -> Any:
    """Turn what a ConcreteFunction captures into constants: variables, tensors, lookup tables of integers.

    what: the name of the function in messages, for example "score".

    Raises InvalidInputError when a constant would be larger than `max_constant_bytes`, or when the
    function reads another resource, such as a table of strings, calls Python or has state.
    """
    check_operations(function, what=what)
    resources = {}
    for name, tensor in captured(function):
        if isinstance(tensor, tf.Variable):
            _check_size(what, name, tensor, max_constant_bytes)
        elif tensor.dtype in (tf.resource, tf.variant):
            resources[name] = tensor
    check_constants(function, what=what, max_constant_bytes=max_constant_bytes)
    # It lists tables of other functions, which were made in the same process: TensorFlow would warn of them.
    function.graph.clear_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS)
    _keep_cases(function.graph)
    try:
        frozen = gather_constants(_with_constants(function))
    except (ValueError, tf.errors.OpError) as error:  # As of a graph of TensorFlow 1 that calls functions.
        raise InvalidInputError(
            f"{what}: expected variables that TensorFlow can turn into constants, found that it cannot "
            f"({said(error)}). Save the model by TensorFlow 2, with tf.saved_model.save or ExportArchive."
        ) from error
    # Calls are written out now: a table that one of them reads is read by the function itself.
    tables = tables_of_integers(frozen, resources)
    for name, tensor in resources.items():
        if name not in tables:
            raise InvalidInputError(
                f"{what}: expected variables and constants only, found that it reads {name} "
                f"({tensor.dtype.name}). {_advice_of_resource(function)}"
            )
        for each in tables[name]:
            _check_size(what, name, each, max_constant_bytes)
    return without_tables(frozen, tables)


def _with_constants(function: Any) -> Any:
    """What `convert_variables_to_constants_v2` does, without taking names from functions of other models.

    TensorFlow writes calls out on the way, and calls what it makes `while_cond_function_0` in each model. Its
    public function makes the result with these names; its steps are the same in TensorFlow 2.20 and 2.21.
    """
    data = convert_to_constants._FunctionConverterDataInEager(
        func=function, lower_control_flow=False, aggressive_inlining=False
    )
    graph_def, indices = convert_to_constants._replace_variables_by_constants(data)
    ends = [node_name(tensor.name) for tensor in (*function.inputs, *function.outputs)]
    graph_def = without_names_of_calls(with_own_names(graph_def), ends)
    return convert_to_constants._construct_concrete_function(function, graph_def, indices)


def _keep_cases(graph: Any) -> None:
    """Have `tf.switch_case` stay one operation, as `tf.cond` does by `lower_control_flow`."""
    for operation in graph.get_operations():
        if operation.type in ("Case", "StatelessCase"):
            operation._set_attr("_lower_using_switch_merge", tf.compat.v1.AttrValue(b=False))


def _advice_of_resource(function: Any) -> str:
    graph_def = function.graph.as_graph_def()
    for nodes in [graph_def.node, *(each.node_def for each in graph_def.library.function)]:
        if any(node.op.startswith("LookupTable") for node in nodes):
            return (
                "A lookup table of strings (StringLookup, tf.lookup), or one in a branch or a loop, cannot "
                "run for each item. Of an item: cut behind the lookup layer, and store its integer codes as "
                "item state (docs/your-model.md#item-state). Of the user: look it up in embed_user."
            )
    return "Replace resources by variables."


def check_constants(function: Any, *, what: str, max_constant_bytes: int = MAX_CONSTANT_BYTES) -> None:
    """Raise InvalidInputError when a constant or a captured tensor is larger than `max_constant_bytes`."""
    for name, tensor in captured(function):
        if not isinstance(tensor, tf.Variable) and tensor.dtype not in (tf.resource, tf.variant):
            _check_size(what, name, tensor, max_constant_bytes)
    graph_def = function.graph.as_graph_def()
    for nodes in [graph_def.node, *(each.node_def for each in graph_def.library.function)]:
        for node in nodes:
            if node.op == "Const":
                tensor = node.attr["value"].tensor
                spec = tf.TensorSpec(tf.TensorShape(tensor.tensor_shape), tf.as_dtype(tensor.dtype))
                _check_size(what, node.name, spec, max_constant_bytes)


def captured(function: Any) -> Iterator[tuple[str, Any]]:
    """(name, tf.Variable or tensor) of each capture of `function`, in order."""
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    for outside, inside in function.graph.captures:
        variable = variables.get(id(outside))
        if variable is not None:
            yield getattr(variable, "path", variable.name), variable
        else:
            yield inside.name, outside


def _check_size(what: str, name: str, tensor: Any, max_constant_bytes: int) -> None:
    count = tensor.shape.num_elements() * tensor.dtype.base_dtype.size
    if count > max_constant_bytes:
        raise InvalidInputError(
            f"{what}: expected constants of at most {max_constant_bytes:,} bytes, found {name} "
            f"{tensor.dtype.name} {tensor.shape.as_list()} of {count:,} bytes. {_ADVICE[what]}"
        )


_RAISE = "Export with --max-constant-bytes (ExportOptions.max_constant_bytes) of that size"
_ADVICE = {
    "embed_user": f"Make it a tf.Variable, which has no limit. {_RAISE} otherwise.",
    "score": f"{_RAISE}, or move the part of score that reads it into embed_user or embed_item.",
}
