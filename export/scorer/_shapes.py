"""Shapes that TensorFlow did not find where it traced a model, from those of the operands as they are read.

Loops that are written out and lists whose length is known make shapes known that the trace left open, such as
those of the states of `keras.ops.scan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from nann.export.scorer._ir import Shape, Tensor


def inferred_shapes(operation: Any, inputs: Sequence[Tensor]) -> list[Shape | None]:
    """Of an operation's results, by TensorFlow's own rules for operands of these shapes."""
    node_def = operation.node_def
    with tf.Graph().as_default() as graph:
        operands = [_operand(x, given.dtype) for x, given in zip(inputs, operation.inputs, strict=True)]
        attrs = {name: attr for name, attr in node_def.attr.items() if not name.startswith("_")}
        types = [tensor.dtype for tensor in operation.outputs]
        made = graph.create_op(operation.type, operands, types, attrs=attrs, op_def=operation.op_def)
    return [tuple(each.shape.as_list()) if each.shape.is_fully_defined() else None for each in made.outputs]


def _operand(x: Tensor, dtype: tf.DType) -> Any:
    """Of the type that the operation was traced with: `x` may have been read as a wider one."""
    if x.value is not None:
        return tf.constant(x.value.astype(dtype.as_numpy_dtype))
    return tf.compat.v1.placeholder(dtype, x.known_shape)
