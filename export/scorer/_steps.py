"""Arithmetic of raw features in front of a step function: it is left as the model has it.

`(today - day) / 30 > 12` is decided by the last bit where both are whole numbers, as ages in days and prices
in cents are. Our forms move sums and factors apart, which changes that bit: today / 30 - day / 30 is no whole
number where (today - day) / 30 is one. Sums of products, as layers have them, meet a step by chance only.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

_STEPS = frozenset(
    [
        "Bucketize", "Ceil", "Equal", "Floor", "FloorDiv", "FloorMod", "Greater", "GreaterEqual", "Less",
        "LessEqual", "LowerBound", "Mod", "NotEqual", "Rint", "Round", "Sign", "TruncateDiv", "TruncateMod",
        "UpperBound",
    ]
)  # fmt: skip
# What our forms take apart.
_ARITHMETIC = frozenset(
    ["Add", "AddN", "AddV2", "BiasAdd", "Div", "Mul", "Neg", "RealDiv", "Square", "SquaredDifference", "Sub"]
)
# What else leaves whole numbers whole, or moves them.
_KEEPS = frozenset(
    [
        "Abs", "BroadcastTo", "Cast", "Ceil", "ClipByValue", "ConcatV2", "ExpandDims", "Fill", "Floor",
        "Identity", "Maximum", "Minimum", "Pack", "Reshape", "Rint", "Round", "Select", "SelectV2", "Slice",
        "Split", "Squeeze", "StridedSlice", "Tile", "Transpose", "Unpack",
    ]
)  # fmt: skip


def arithmetic_before_steps(operations: Iterable[Any]) -> frozenset[str]:
    """The names of such operations, given all in an order in which they can run."""
    operations = list(operations)
    raw: set[str] = set()
    for each in operations:
        is_kept = each.type in _ARITHMETIC or each.type in _KEEPS
        if each.type in ("Const", "Placeholder") or (is_kept and all(x.op.name in raw for x in each.inputs)):
            raw.add(each.name)
    pending = [x.op for each in operations if _is_step(each) for x in each.inputs]
    found: set[str] = set()
    while pending:
        operation = pending.pop()
        if operation.name in raw and operation.name not in found:
            found.add(operation.name)
            pending += [x.op for x in operation.inputs]
    return frozenset(
        each.name for each in operations if each.name in found and each.type in _ARITHMETIC and _is_real(each)
    )


def _is_step(operation: Any) -> bool:
    if operation.type == "Cast":
        return operation.inputs[0].dtype.is_floating and not operation.outputs[0].dtype.is_floating
    return operation.type in _STEPS


def _is_real(operation: Any) -> bool:
    dtype: tf.DType = operation.outputs[0].dtype
    return dtype.is_floating
