"""Freezing functions, with a guard: nothing big may pass through a GraphDef (2 GB limit, several copies)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from nann.errors import InvalidInputError
from nann.export._operations import check_operations

MAX_CONSTANT_BYTES = 16 * 2**20


def freeze(function: Any, *, what: str, max_constant_bytes: int = MAX_CONSTANT_BYTES) -> Any:
    """Turn the captured variables and tensors of a ConcreteFunction into constants.

    what: how messages call the function, for example "score".

    Raises InvalidInputError when a constant would be larger than `max_constant_bytes`, or when the
    function reads a resource other than a variable, calls Python or has state.
    """
    check_operations(function, what=what)
    for name, tensor in captured(function):
        if isinstance(tensor, tf.Variable):
            _check_size(what, name, tensor.shape, tensor.dtype, max_constant_bytes)
        elif tensor.dtype in (tf.resource, tf.variant):
            raise InvalidInputError(
                f"{what}: expected variables and constants only, found that it reads {name} "
                f"({tensor.dtype.name}). Replace lookup tables and other resources by variables."
            )
        else:
            _check_size(what, name, tensor.shape, tensor.dtype, max_constant_bytes)
    _check_graph(what, function.graph.as_graph_def(), max_constant_bytes)
    return convert_variables_to_constants_v2(function, lower_control_flow=False)


def captured(function: Any) -> Iterator[tuple[str, Any]]:
    """(name, tf.Variable or tensor) of everything that `function` captures, in the order of its captures."""
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    for outside, inside in function.graph.captures:
        variable = variables.get(id(outside))
        if variable is not None:
            yield getattr(variable, "path", variable.name), variable
        else:
            yield inside.name, outside


def _check_graph(what: str, graph_def: Any, max_constant_bytes: int) -> None:
    functions = [function.node_def for function in graph_def.library.function]
    for nodes in [graph_def.node, *functions]:
        for node in nodes:
            if node.op == "Const":
                tensor = node.attr["value"].tensor
                shape = tf.TensorShape(tensor.tensor_shape)
                _check_size(what, node.name, shape, tf.as_dtype(tensor.dtype), max_constant_bytes)


def _check_size(what: str, name: str, shape: Any, dtype: Any, max_constant_bytes: int) -> None:
    count = shape.num_elements() * dtype.base_dtype.size
    if count > max_constant_bytes:
        raise InvalidInputError(
            f"{what}: expected constants of at most {max_constant_bytes:,} bytes, found {name} {dtype.name} "
            f"{shape.as_list()} of {count:,} bytes. Read it by tf.gather in embed_user, so that "
            f"it becomes a mapped table, or raise --max-constant-bytes."
        )
