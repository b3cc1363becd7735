"""What a branch may only do where it is chosen: it is run for all then, with operands that do no harm.

`tf.cond(row < 6, lambda: tf.gather(table, row), ...)` reads row 7 of six for nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from nann.export.scorer._known import variables_read

_DIVISIONS = frozenset(["Div", "FloorDiv", "FloorMod", "Mod", "TruncateDiv", "TruncateMod"])
_OF_PLACES = frozenset(["Gather", "GatherNd", "GatherV2", "ResourceGather", "ResourceGatherNd", "Slice"])
_OF_MATRICES = frozenset(["Cholesky", "MatrixInverse", "MatrixSolve", "MatrixTriangularSolve"])


def with_guards(branch: Any) -> tuple[Any, Any]:
    """The graph of a branch, changed, and a bool that it now reads: whether it is the chosen one.

    Where it is not, no operation of it fails for its values.
    """
    found = [
        (operation, at, harmless)
        for each in branch.get_operations()
        for operation, at, harmless in risks_of(each)
        if variables_read(branch, [operation.inputs[at]])
    ]
    with branch.as_default():
        is_chosen = tf.compat.v1.placeholder(tf.bool, [], "is_chosen")
        for operation, at, harmless in found:
            operand = operation.inputs[at]
            operation._update_input(at, tf.where(is_chosen, operand, harmless(operand)))
    return branch, is_chosen


def risks_of(operation: Any) -> list[tuple[Any, int, Callable[[Any], Any]]]:
    """Operations, each with an operand that `operation` may fail for, and what makes a harmless one of it."""
    if operation.type in _DIVISIONS and operation.inputs[1].dtype.is_integer:
        return [(operation, 1, tf.ones_like)]
    if operation.type in _OF_PLACES:
        return [(operation, 1, tf.zeros_like)]
    if operation.type in _OF_MATRICES:
        return [(operation, 0, _identity_like)]
    if operation.type == "StridedSlice" and operation.inputs[1].op.type == "Pack":
        places, dropped = operation.inputs[1].op, operation.get_attr("shrink_axis_mask")
        return [(places, at, tf.zeros_like) for at in range(len(places.inputs)) if dropped >> at & 1]
    return []


def _identity_like(matrices: Any) -> Any:
    return tf.linalg.eye(tf.shape(matrices)[-1], dtype=matrices.dtype)
