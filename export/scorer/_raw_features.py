"""Arithmetic of raw features that is left as the model has it, because its last bits matter.

Our forms move sums and factors apart, which is what makes layers cheap and changes last bits. Of raw features
they may be all that is left:

- In front of a step, a wave or a power. `(today - day) / 30 > 12` is exact where both are whole numbers, as
  ages in days and prices in cents are; today / 30 - day / 30 is not. Angles and powers of times in seconds
  are so large that their last bits show. Sums of products, as layers have them, meet a step by chance only;
  a layer over one number has products alone, as periodic embeddings of prices have them. Before a wave a
  layer over a few numbers of the item or of the user is TensorFlow's own, as Fourier features of places are.
- A difference of two large and near numbers, as times in seconds and places in one city are. Of embeddings
  that a layer multiplies it is worth taking apart; of single numbers there is nothing to win.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nann.export.scorer._einsum import terms_of

# What makes much of the last bits of its operand.
_SENSITIVE = frozenset(
    [
        "Bucketize", "Ceil", "Cos", "Equal", "Exp", "Floor", "FloorDiv", "FloorMod", "Greater",
        "GreaterEqual", "Less", "LessEqual", "LowerBound", "Mod", "NotEqual", "Rint", "Round", "Sign", "Sin",
        "Softmax", "Tan", "TruncateDiv", "TruncateMod", "UpperBound",
    ]
)  # fmt: skip
_DIFFERENCES = frozenset(["Add", "AddN", "AddV2", "BiasAdd", "SquaredDifference", "Sub"])
# What our forms take apart.
_ARITHMETIC = _DIFFERENCES | {"Div", "Mul", "Neg", "RealDiv", "Square"}
_MOVES = frozenset(
    [
        "BroadcastTo", "Cast", "ConcatV2", "ExpandDims", "Fill", "Identity", "Pack", "Reshape", "Select",
        "SelectV2", "Slice", "Split", "Squeeze", "StridedSlice", "Tile", "Transpose", "Unpack",
    ]
)  # fmt: skip
# What else makes raw numbers of raw numbers.
_KEEPS = frozenset(["Abs", "Ceil", "ClipByValue", "Floor", "Maximum", "Minimum", "Rint", "Round"])
# Sums of many terms, which gain by what is taken apart before them.
_SUMS = frozenset(
    [
        "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Conv2D", "Cumsum", "DepthwiseConv2dNative",
        "Einsum", "MatMul", "Mean", "Sum",
    ]
)  # fmt: skip
_WAVES = frozenset(["Cos", "Sin", "Tan"])
_FEW = 4  # As places in space and time have.
# Embeddings have as many numbers at least; fewer are features by themselves, as two coordinates are.
_MANY = 3


def left_as_it_is(operations: Sequence[Any], item: str) -> frozenset[str]:
    """The names of such operations, given all in an order in which they can run, and the item's input."""
    raw = _raw(operations, most_columns=1)
    before_those = _reached([x.op for each in operations if _is_sensitive(each) for x in each.inputs], raw)
    summed = _summed(operations)
    of_item, of_user = _depending(operations, item)
    return _angles(operations, of_item & of_user) | frozenset(
        each.name
        for each in operations
        if each.name in raw and _is_arithmetic(each) and each.outputs[0].dtype.is_floating
        if each.name in before_those
        or (
            each.type in _DIFFERENCES
            and each.name in of_item & of_user
            and not (each.name in summed and _is_wide(each))
        )
    )


def _angles(operations: Sequence[Any], of_both: set[str]) -> frozenset[str]:
    """Arithmetic before waves, layers over a few numbers and what follows them included."""
    raw = _raw(operations, most_columns=_FEW)
    before = _reached([x.op for each in operations if each.type in _WAVES for x in each.inputs], raw)
    return frozenset(
        each.name
        for each in operations
        if each.name in before and each.outputs[0].dtype.is_floating
        if _is_arithmetic(each) or (_is_few(each) and each.name not in of_both)
    )


def _raw(operations: Iterable[Any], *, most_columns: int) -> set[str]:
    """What is made of features and constants by arithmetic alone, and by layers over so many numbers."""
    raw: set[str] = set()
    for each in operations:
        is_known = each.type in _MOVES | _KEEPS | _ARITHMETIC or 0 < _columns(each) <= most_columns
        is_kept = is_known and all(x.op.name in raw for x in each.inputs)
        if is_kept or each.type in ("Const", "Placeholder"):
            raw.add(each.name)
    return raw


def _is_arithmetic(operation: Any) -> bool:
    """A layer over one number is a product of matrices that adds nothing up."""
    return operation.type in _ARITHMETIC or _columns(operation) == 1


def _is_few(operation: Any) -> bool:
    return operation.type == "MatMul" and 0 < _columns(operation) <= _FEW


def _columns(operation: Any) -> int:
    """Of how many numbers a product of matrices, or of two tensors, makes sums; 0 of anything else."""
    shapes = [x.shape for x in operation.inputs]
    if operation.type == "MatMul" and shapes[0].rank is not None:
        return shapes[0][0 if operation.get_attr("transpose_a") else 1] or 0
    if operation.type != "Einsum" or len(shapes) != 2 or not all(each.is_fully_defined() for each in shapes):
        return 0
    # `bf,fd->bfd`, which embeds numbers, adds none to another.
    return terms_of(operation.get_attr("equation").decode(), [tuple(each.as_list()) for each in shapes])


def _is_sensitive(operation: Any) -> bool:
    if operation.type == "Cast":
        return operation.inputs[0].dtype.is_floating and not operation.outputs[0].dtype.is_floating
    return operation.type in _SENSITIVE


def _reached(pending: list[Any], raw: set[str]) -> set[str]:
    """All raw operations that some are made of."""
    found: set[str] = set()
    while pending:
        operation = pending.pop()
        if operation.name in raw and operation.name not in found:
            found.add(operation.name)
            pending += [x.op for x in operation.inputs]
    return found


def _summed(operations: Sequence[Any]) -> set[str]:
    """What a sum of many terms is made of by arithmetic."""
    found: set[str] = set()
    for each in reversed(operations):
        if _sums_many(each) or (each.name in found and each.type in _ARITHMETIC | _MOVES):
            found.update(x.op.name for x in each.inputs)
    return found


def _is_wide(operation: Any) -> bool:
    """Whether it has many numbers in a row, as embeddings; other features are single ones."""
    shape = operation.outputs[0].shape
    return shape.rank is None or (shape.rank > 1 and (shape[-1] or _MANY) >= _MANY)


def _sums_many(operation: Any) -> bool:
    if operation.type not in _SUMS:
        return False
    x, result = operation.inputs[0].shape, operation.outputs[0].shape
    if operation.type in ("Mean", "Sum") and x.is_fully_defined() and result.is_fully_defined():
        return bool(x.num_elements() >= _MANY * result.num_elements())
    if operation.type == "MatMul" and x.rank is not None:
        terms = x[0 if operation.get_attr("transpose_a") else 1]
        return terms is None or terms >= _MANY
    return True


def _depending(operations: Iterable[Any], item: str) -> tuple[set[str], set[str]]:
    """What depends on the item, and what on the user."""
    of_item, of_user = {item}, set[str]()
    for each in operations:
        if each.type == "Placeholder" and each.name != item:
            of_user.add(each.name)
        for known in (of_item, of_user):
            if any(x.op.name in known for x in each.inputs):
                known.add(each.name)
    return of_item, of_user
