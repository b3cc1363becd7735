"""Rows that loops and branches of a frozen function gather: of constants, no longer of variables.

TensorFlow's conversion gives such a function a constant, and leaves its `tf.gather` of a variable as it is.
That function cannot run, and cannot be read.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from nann.export.graph_defs import keep_inputs, with_own_names


def gather_constants(function: Any) -> Any:
    """The frozen function with gathers of constants in all that it calls; `function` where there are none."""
    graph_def = function.graph.as_graph_def()
    found = [(body, node) for body in graph_def.library.function for node in _of_variables(body)]
    if not found:
        return function
    for body, node in found:
        _gather_constant(body, node)
        _wait_no_longer(body, node.name)
    # By the old names, TensorFlow still finds what the functions were.
    with_own_names(graph_def)
    # It makes the functions that are called known to TensorFlow, which `function_of` does not.
    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
    ends = ([each.name for each in tensors] for tensors in (function.inputs, function.outputs))
    return wrapped.prune(*(list(map(wrapped.graph.as_graph_element, names)) for names in ends))


def _of_variables(body: Any) -> list[Any]:
    return [node for node in body.node_def if node.op == "ResourceGather"]


def _gather_constant(body: Any, node: Any) -> None:
    """Have a node of a function gather along the first axis behind those of the batch."""
    batch_dims = node.attr["batch_dims"].i
    axis = body.node_def.add(name=f"{node.name}/axis", op="Const")
    axis.attr["dtype"].type = node.attr["Taxis"].type = tf.int32.as_datatype_enum
    axis.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(batch_dims, tf.int32))
    node.op = "GatherV2"
    node.input.insert(2, f"{axis.name}:output:0")
    node.attr["Tparams"].CopyFrom(node.attr["dtype"])
    for name in set(node.attr) - {"Tparams", "Tindices", "Taxis", "batch_dims"}:
        del node.attr[name]


def _wait_no_longer(body: Any, name: str) -> None:
    """Nothing has to run after a node that reads no variable: not the counter of a loop either."""
    for node in body.node_def:
        keep_inputs(node, lambda each: each != f"^{name}")
