"""Einsum in our form: sums, matrix products within leading axes, and transposes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nann.export.scorer._contract import Labels, contraction
from nann.export.scorer._ir import Shape, Tensor
from nann.export.scorer._ops import arithmetic, matmul, mul, reduce_, reshape, transpose
from nann.export.scorer._slices import diagonal_of


def einsum(equation: str, operands: Sequence[Tensor]) -> Tensor | None:
    """`einsum("ble,be->bl", [hist, query])`; None for axes that are broadcast."""
    equation, operands = _with_diagonals(equation, operands)
    parsed = _parsed(equation, [x.shape for x in operands])
    if parsed is None:
        return None
    labels, out, _ = parsed
    total, own = operands[0], labels[0]
    for at in range(1, len(operands)):
        later = {label for each in labels[at + 1 :] for label in each} | set(out)
        total, own = _multiplied(total, own, operands[at], labels[at], later)
    total, own = _summed(total, own, set(out))
    return _arranged(total, own, out)


def terms_of(equation: str, shapes: Sequence[Shape]) -> int:
    """How many numbers are added up for each of the result; 0 where that is not known."""
    parsed = _parsed(equation, shapes)
    if parsed is None:
        return 0
    _, out, sizes = parsed
    return math.prod(size for label, size in sizes.items() if label not in out)


def outer(equation: str, operands: Sequence[Tensor]) -> Tensor | None:
    """Einsum of two tensors that adds nothing up, as a product of TensorFlow's that is left alone."""
    parsed = _parsed(equation, [x.shape for x in operands])
    if parsed is None:
        return None
    labels, out, sizes = parsed
    sides = []
    for x, own in zip(operands, labels, strict=True):
        kept = [label for label in own if label in out]
        x = _arranged(
            reshape(x, [sizes[label] for label in kept]), kept, [each for each in out if each in kept]
        )
        sides.append(reshape(x, [sizes[label] if label in kept else 1 for label in out]))
    return arithmetic("Mul", *sides)


def _parsed(
    equation: str, shapes: Sequence[Shape]
) -> tuple[list[list[object]], list[object], dict[object, int]] | None:
    """Labels of the operands and of the result, and the size of each."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    labels = [_labels(each, len(shape)) for each, shape in zip(inputs.split(","), shapes, strict=True)]
    hidden = max(sum(isinstance(label, int) for label in own) for own in labels)
    out = _labels(output, len(output.replace("...", "")) + hidden)
    if not arrow or any(len(set(each)) != len(each) for each in (*labels, out)):
        return None
    sizes: dict[object, int] = {}
    for shape, own in zip(shapes, labels, strict=True):
        if any(sizes.setdefault(label, n) != n for label, n in zip(own, shape, strict=True)):
            return None
    return (labels, out, sizes) if set(out) <= set(sizes) else None


def _with_diagonals(equation: str, operands: Sequence[Tensor]) -> tuple[str, list[Tensor]]:
    """The same with the diagonals of operands that have a label twice, as "bll->b" has."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    texts, found = inputs.split(","), list(operands)
    for at, x in enumerate(found):
        for label in {each for each in texts[at] if each.isalpha() and texts[at].count(each) == 2}:
            labels = _labels(texts[at], x.rank)
            axes = [axis for axis, each in enumerate(labels) if each == label]
            if x.shape[axes[0]] != x.shape[axes[1]]:
                continue
            others = [axis for axis in range(x.rank) if axis not in axes]
            diagonal = diagonal_of(transpose(x, [*others, *axes]))
            if diagonal is None:
                continue
            found[at] = x = diagonal
            texts[at] = texts[at].replace(label, "") + label
    return f"{','.join(texts)}{arrow}{output}", found


def _labels(text: str, rank: int) -> list[object]:
    """A letter for each axis; what "..." stands for counts from the right."""
    before, dots, after = text.partition("...")
    return [*before, *(range(len(before) + len(after) - rank, 0) if dots else ()), *after]


def _multiplied(
    x: Tensor, own: Labels, y: Tensor, others: Labels, needed: set[object]
) -> tuple[Tensor, list[object]]:
    """The product, summed over what is not needed, and its labels."""
    x, own = _summed(x, own, needed | set(others))
    y, others = _summed(y, others, needed | set(own))
    batch = [label for label in own if label in others and label in needed]
    summed = [label for label in own if label in others and label not in needed]
    rows = [label for label in own if label not in others]
    columns = [label for label in others if label not in own]
    out = [*batch, *rows, *columns]
    if not batch and (x.is_free or y.is_free):
        # Weights are the matrix, so that what the user has the same for all items stays one row.
        sides = (x, own, y, others) if y.is_free and x.value is None else (y, others, x, own)
        product = contraction(*sides, out)
        if product is not None:
            return product, out
    if not summed:
        return _outer(x, own, y, others) if not x.is_free else _outer(y, others, x, own)
    if batch and (x.value is not None or y.value is not None):  # Weights of their own for each of few places.
        sides = (x, own, y, others) if y.value is not None else (y, others, x, own)
        in_order = [label for label in dict.fromkeys((*sides[1], *sides[3])) if label in out]
        product = contraction(*sides, in_order)
        if product is not None:
            return product, in_order
    x, y = _arranged(x, own, [*batch, *rows, *summed]), _arranged(y, others, [*batch, *summed, *columns])
    lead = x.shape[: len(batch)]
    sizes = x.shape[len(batch) : len(batch) + len(rows)], y.shape[len(batch) + len(summed) :]
    depth = math.prod(x.shape[len(batch) + len(rows) :])
    product = matmul(
        reshape(x, (*lead, math.prod(sizes[0]), depth)), reshape(y, (*lead, depth, math.prod(sizes[1])))
    )
    return reshape(product, (*lead, *sizes[0], *sizes[1])), out


def _outer(x: Tensor, own: Labels, y: Tensor, others: Labels) -> tuple[Tensor, list[object]]:
    """The product of all with all, in the order of `x`: where its first axis is the items it stays so."""
    out = [*own, *(label for label in others if label not in own)]
    left = reshape(x, (*x.shape, *[1] * (len(out) - len(own))))
    right = _arranged(y, others, [label for label in out if label in others])
    sizes = dict(zip(others, y.shape, strict=True))
    return mul(left, reshape(right, [sizes.get(label, 1) for label in out])), out


def _summed(x: Tensor, labels: Labels, needed: set[object]) -> tuple[Tensor, list[object]]:
    axes = [axis for axis, label in enumerate(labels) if label not in needed]
    return reduce_(x, "Sum", axes), [label for label in labels if label in needed]


def _arranged(x: Tensor, labels: Labels, wanted: Labels) -> Tensor:
    places = {label: axis for axis, label in enumerate(labels)}
    return transpose(x, [places[label] for label in wanted]) if x.rank else x
