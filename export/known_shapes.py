"""Operations of a graph that only ask for a shape: constants, where the shape is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_OF_SHAPES: Mapping[str, Callable[[Sequence[int]], Any]] = {
    "Rank": len,
    "Shape": list,
    "Size": lambda shape: int(np.prod(shape, dtype=np.int64)),
}


def is_of_known_shape(operation: Any) -> bool:
    """Whether an operation's result follows from the shape of its operand alone."""
    return operation.type in _OF_SHAPES and operation.inputs[0].shape.is_fully_defined()


def become_constant(node: Any, operation: Any) -> None:
    """Turn the node of such an operation into its result."""
    dtype = operation.outputs[0].dtype
    value = np.asarray(_OF_SHAPES[node.op](operation.inputs[0].shape.as_list()), dtype.as_numpy_dtype)
    node.Clear()
    node.name, node.op = operation.name, "Const"
    node.attr["dtype"].type = dtype.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
