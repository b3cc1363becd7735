"""Lowering of products: with what is added to them, and of vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nann.export.scorer import _ops
from nann.export.scorer._infinities import adds_large
from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._lowering import Lowering, Step
from nann.export.scorer._program import (
    MAX_SUMMANDS,
    NEGATED,
    Activation,
    BinaryOp,
    Opcode,
    Shape,
    SimilarityOp,
)

# Of a product's summands: the rest are terms, and the sum so far where there are more terms than that.
_MAX_ADDENDS = 4
_MAX_TERMS = MAX_SUMMANDS - _MAX_ADDENDS - 1


def sum_of_products(lowering: Lowering, tensor: Tensor) -> Step | None:
    """Products, what is added to them, and the activation after that: one instruction.

    Products of one column are dot products: a matrix product would compute a whole strip of them.
    """
    base, activation = tensor, Activation.NONE
    slope = slope_of(lowering, tensor) if tensor.op == "prelu" else None
    if (tensor.op == "Relu" or slope is not None) and lowering.uses[tensor.inputs[0]] == 1:
        base, activation = tensor.inputs[0], Activation.RELU if slope is None else Activation.PRELU
    if base.op not in ("add", "dot"):
        return None
    shape = lowering.shape(base)
    summands = _summands(lowering, base, shape)
    terms = [each for each in summands if _is_term(lowering, each, base, shape)]
    if not terms or shape.columns == 1:
        return None
    addends, others = _addends(lowering, [each for each in summands if each not in terms], base, shape)
    if others and base is not tensor:
        return None  # The activation comes after others were added: it is an instruction of its own.
    sides = [side for term in terms for side in (term.inputs[0], _matrix(term)[0])]
    transposed = [_matrix(term)[1] for term in terms]
    slopes = [slope] if slope is not None and base is not tensor else []

    def emit(values: Sequence[int]) -> int:
        n = 2 * len(terms)
        pairs = [(values[i], values[i + 1]) for i in range(0, n, 2)]
        end = n + len(addends)
        total = _products(
            lowering, shape, pairs, transposed, values[n:end], activation, values[end : end + len(slopes)]
        )
        for (_, function), value in zip(others, values[end + len(slopes) :], strict=True):
            total = lowering.elementwise(Opcode.BINARY, [total, value], function)
        return total

    return Step([*sides, *addends, *slopes, *(each for each, _ in others)], emit)


def _summands(lowering: Lowering, base: Tensor, shape: Shape) -> list[Tensor]:
    """What `base` sums, through additions that nothing else reads: not those of large numbers."""
    found, pending = [], [base]
    while pending:
        each = pending.pop()
        inner = each is base or (lowering.uses[each] == 1 and not adds_large(each))
        if inner and each.op == "add" and _fits(lowering, each, base, shape):
            pending += reversed(each.inputs)
        else:
            found.append(each)
    return found


def _fits(lowering: Lowering, each: Tensor, base: Tensor, shape: Shape) -> bool:
    return each.is_free == base.is_free and each.rank == base.rank and lowering.shape(each) == shape


def _is_term(lowering: Lowering, each: Tensor, base: Tensor, shape: Shape) -> bool:
    inner = each is base or lowering.uses[each] == 1
    return (
        inner
        and each.op == "dot"
        and (each.is_free or each.rank > 1)
        and _fits(lowering, each, base, shape)
        and each.inputs[0].is_free == base.is_free
        and each.inputs[0].rank == base.rank
    )


def _addends(
    lowering: Lowering, summands: Iterable[Tensor], base: Tensor, shape: Shape
) -> tuple[list[Tensor], list[tuple[Tensor, BinaryOp]]]:
    """What a product adds on its way; and what has to be added, or subtracted, afterwards."""
    addends: list[Tensor] = []
    others: list[tuple[Tensor, BinaryOp]] = []
    for summand in summands:
        if _ops.is_negation(summand) and not summand.is_free:
            others.append((lowering.operand(summand.inputs[0], base), BinaryOp.SUB))
            continue
        each = lowering.operand(summand, base)
        if each.is_free and each.size == 1:
            each = _ops.broadcast(_ops.reshape(each, ()), (shape.columns,))
        own = lowering.shape(each)
        if len(addends) < _MAX_ADDENDS and _is_repeated(own, shape):
            addends.append(each)
        else:
            others.append((each, BinaryOp.ADD))
    return addends, others


def _is_repeated(addend: Shape, shape: Shape) -> bool:
    """Whether a product adds it: of the result's shape, or that but for its rows or its items."""
    one_row, columns = (False, 1, shape.columns), shape.columns
    return addend in (
        shape, Shape(*one_row), Shape(shape.per_item, 1, columns), Shape(False, shape.rows, columns)
    )  # fmt: skip


def _matrix(term: Tensor) -> tuple[Tensor, bool]:
    """The right side of a product, and whether it is transposed on the way."""
    matrix = term.inputs[1]
    return (matrix.inputs[0], True) if matrix.op == "transpose" else (matrix, False)


def _products(
    lowering: Lowering,
    shape: Shape,
    terms: Sequence[tuple[int, int]],
    transposed: Sequence[bool],
    addends: Sequence[int],
    activation: Activation,
    slopes: Sequence[int],
) -> int:
    total: list[int] = []
    for start in range(0, len(terms), _MAX_TERMS):
        some, flags = terms[start : start + _MAX_TERMS], transposed[start : start + _MAX_TERMS]
        is_last = start + _MAX_TERMS >= len(terms)
        last = [*addends, *slopes] if is_last else []
        total = [
            lowering.program.add(
                Opcode.GEMM,
                shape,
                [*(side for term in some for side in term), *total, *last],
                function=activation if is_last else Activation.NONE,
                parameters=(len(some), sum(flag << at for at, flag in enumerate(flags))),
            )
        ]
    return total[0]


def similarity(lowering: Lowering, tensor: Tensor) -> Step | None:
    """(-) sum of x * vector or of (x - vector)^2 over the columns."""
    negated = _ops.is_negation(tensor)
    if negated:
        at = tensor.inputs[0]
        while at.op == "reshape" and lowering.uses[at] == 1:
            at = at.inputs[0]
        found = _compared(lowering, at) if lowering.uses[at] == 1 else None
    else:
        found = _compared(lowering, tensor)
    if found is None:
        return None
    op, x, vector = found
    rows, shape = lowering.shape(x), lowering.shape(tensor)
    function = NEGATED[op] if negated else op

    def emit(values: Sequence[int]) -> int:
        column = Shape(rows.per_item, rows.rows, 1)
        value = lowering.program.add(Opcode.SIMILARITY, column, values, function=function)
        return lowering.as_shape(value, shape)

    return Step([x, _ops.reshape(vector, (vector.size,))], emit)


def _compared(lowering: Lowering, tensor: Tensor) -> tuple[SimilarityOp, Tensor, Tensor] | None:
    if tensor.op == "dot" and lowering.shape(tensor).columns == 1:
        x, matrix = tensor.inputs
        return (SimilarityOp.DOT, x, matrix) if x.is_free or x.rank > 1 else None
    if tensor.op != "reduce" or tensor.node.attrs["function"] != "Sum":
        return None
    inner = tensor.inputs[0]
    op = {"mul": SimilarityOp.DOT, "SquaredDifference": SimilarityOp.SQUARED_DISTANCE}.get(inner.op)
    is_last_axis = tensor.node.attrs["axes"] == (inner.rank - 1,) and (inner.is_free or inner.rank > 1)
    if op is None or not is_last_axis or len(inner.inputs) != 2 or lowering.uses[inner] > 1:
        return None
    for x, vector in (inner.inputs, inner.inputs[::-1]):
        is_row = vector.is_free and _ops.is_row(vector) and vector.size == inner.shape[-1]
        if is_row and x.shape == inner.shape:
            return op, x, vector
    return None


def slope_of(lowering: Lowering, prelu: Tensor) -> Tensor | None:
    """The slopes of a PReLU, one per column; None where they differ from row to row."""
    slope, columns = prelu.inputs[1].value, lowering.shape(prelu).columns
    assert slope is not None
    if not _ops.is_row(prelu.inputs[1]) or slope.size not in (1, columns):
        return None
    return constant(np.broadcast_to(slope.reshape(-1), (columns,)).astype(np.float32))
