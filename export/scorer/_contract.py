"""Sums of products with a free tensor, as matrix products: einsum, batched products, attention by hand.

Axes have labels. Those that both operands and the result have (the heads of an attention) are unrolled where
they are few: one matrix product each, which the algebra and the native executor know what to do with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nann.export.scorer._ir import Tensor, Uses
from nann.export.scorer._ops import (
    add,
    broadcast,
    concat,
    dot,
    is_matmul,
    is_turned,
    matmul,
    mul,
    reduce_,
    reshape,
    scaled,
    slice_,
    transpose,
)

MAX_UNROLLED = 16
Labels = Sequence[object]


def contraction(x: Tensor, x_labels: Labels, free: Tensor, free_labels: Labels, out: Labels) -> Tensor | None:
    """sum over the labels that `out` lacks of x * free; None where it is no matrix product.

    Each label once in an operand. An axis of size 1 counts as absent, so that operands may be broadcast.
    """
    sizes = _sizes((x, x_labels), (free, free_labels))
    x, free = _without_broadcast(x), _without_broadcast(free)
    narrow = _sizes((x, x_labels), (free, free_labels))
    if any(narrow[label] != n for label, n in sizes.items() if label not in out):
        return None  # summed over equal elements
    (x, own), (free, others) = _squeezed(x, x_labels), _squeezed(free, free_labels)
    x, own = _reduced(x, own, [*others, *out])
    free, others = _reduced(free, others, [*own, *out])
    product = _multiplied(x, own, free, others, [label for label in out if narrow.get(label, 1) > 1])
    if product is None:
        return None
    product = reshape(product, [narrow.get(label, 1) for label in out])
    return broadcast(product, [sizes.get(label, 1) for label in out])


def _without_broadcast(x: Tensor) -> Tensor:
    """What was broadcast, with as many axes."""
    if x.op != "broadcast":
        return x
    narrow = x.inputs[0]
    return reshape(narrow, (1,) * (x.rank - narrow.rank) + narrow.shape)


def _sizes(*operands: tuple[Tensor, Labels]) -> dict[object, int]:
    sizes: dict[object, int] = {}
    for tensor, labels in operands:
        for label, n in zip(labels, tensor.shape, strict=True):
            sizes[label] = max(n, sizes.get(label, 1))
    return sizes


def sum_of_product(x: Tensor, _: Uses) -> Tensor | None:
    """sum(a * free, axes) -> a matrix product, where both vary along one of the axes."""
    if x.op != "reduce" or x.inputs[0].op != "mul" or x.node.attrs["function"] not in ("Sum", "Mean"):
        return None
    product, axes = x.inputs[0], x.node.attrs["axes"]
    free = [each for each in product.inputs if each.is_free]
    rest = [each for each in product.inputs if not each.is_free]
    if not free or not rest:
        return None
    left, right = mul(*rest), mul(*free)
    labels = range(product.rank)
    kept = [axis for axis in labels if axis not in axes]
    total = contraction(
        left, labels[product.rank - left.rank :], right, labels[product.rank - right.rank :], kept
    )
    if total is None:
        return None
    count = math.prod(product.shape[axis] for axis in axes)
    return total if x.node.attrs["function"] == "Sum" else scaled(total, 1 / count)


def weighted_rows(x: Tensor, uses: Uses) -> Tensor | None:
    """sum(a [n, k, 1] * b [n, k, d], axis 1), both of the item -> a as [n, 1, k] times b: mixed experts."""
    if x.op != "reduce" or x.node.attrs["function"] != "Sum" or x.node.attrs["axes"] != (1,):
        return None
    product = x.inputs[0]
    if product.op != "mul" or product.rank != 3 or len(product.inputs) != 2 or uses[product] > 1:
        return None
    for weights, rows in (product.inputs, product.inputs[::-1]):
        if rows.shape == product.shape and weights.shape == (*rows.shape[:2], 1) and rows.shape[2] > 1:
            total = matmul(reshape(weights, (rows.shape[0], 1, rows.shape[1])), rows)
            return reshape(total, x.shape)
    return None


def weighted_columns(x: Tensor, _: Uses) -> Tensor | None:
    """Columns side by side times weights [k, 1] -> their weighted sum: experts that were stacked behind."""
    if not is_matmul(x) or x.is_free or x.shape[-1] != 1 or x.shape[-2] == 1:
        return None
    stacked, weights = x.inputs
    if stacked.op != "concat" or stacked.node.attrs["axis"] != stacked.rank - 1:
        return None
    if any(part.shape[-1] != 1 for part in stacked.inputs) or len(stacked.inputs) > MAX_UNROLLED:
        return None
    return add(
        *(
            mul(part, slice_(weights, (*[0] * (x.rank - 2), at, 0), (*weights.shape[:-2], 1, 1)))
            for at, part in enumerate(stacked.inputs)
        )
    )


def row_of_turned(x: Tensor, _: Uses) -> Tensor | None:
    """a^T v [k, 1] of items -> v^T a, as a row: the matrix is read as it lies."""
    if not is_matmul(x) or x.is_free or x.shape[-1] != 1 or x.shape[-2] == 1:
        return None
    a, v = x.inputs
    if a.is_free or not is_turned(a):
        return None
    row = matmul(reshape(v, (*v.shape[:-2], 1, v.shape[-2])), a.inputs[0])
    return reshape(row, x.shape)


def product_of_free(x: Tensor, _: Uses | None = None) -> Tensor | None:
    """A product of matrices within leading axes of which one operand is free, as one `dot` or a few."""
    if not is_matmul(x):
        return None
    left, right = x.inputs
    if left.is_free and right.is_free:
        if math.prod(right.shape[:-2]) != 1 or right.rank > left.rank:
            return None
        return dot(left, reshape(right, right.shape[-2:]))
    labels = [*_leading(left), "row", "depth"], [*_leading(right), "depth", "column"]
    out = [*range(2 - x.rank, 0), "row", "column"]
    if right.is_free:
        found = contraction(left, labels[0], right, labels[1], out)
    elif left.is_free:
        found = contraction(right, labels[1], left, labels[0], out)
    else:
        return None
    return None if found is None else reshape(found, x.shape)


def _leading(x: Tensor) -> list[object]:
    """Labels of all axes but the last two, from the right."""
    return list(range(2 - x.rank, 0))


def _squeezed(x: Tensor, labels: Labels) -> tuple[Tensor, list[object]]:
    kept = [label for label, n in zip(labels, x.shape, strict=True) if n != 1]
    return reshape(x, [n for n in x.shape if n != 1]), kept


def _reduced(x: Tensor, labels: Sequence[object], needed: Labels) -> tuple[Tensor, list[object]]:
    """Sum over what only this operand has."""
    axes = [axis for axis, label in enumerate(labels) if label not in needed]
    return reduce_(x, "Sum", axes), [label for label in labels if label in needed]


def _multiplied(x: Tensor, own: Labels, free: Tensor, others: Labels, out: Labels) -> Tensor | None:
    summed = [label for label in own if label in others and label not in out]
    shared = [label for label in own if label in others and label in out]
    if not summed or set(own) - {*others, *out}:
        return None
    if shared:
        return _unrolled(x, own, free, others, out, shared[0])
    rows = [label for label in out if label in own]
    columns = [label for label in out if label in others]
    left = _arranged(x, own, [*rows, *summed])
    matrix = _arranged(free, others, [*summed, *columns])
    depth = math.prod(left.shape[len(rows) :])
    product = dot(
        reshape(left, [*left.shape[: len(rows)], depth]),
        reshape(matrix, [depth, math.prod(matrix.shape[len(summed) :])]),
    )
    product = reshape(product, [*left.shape[: len(rows)], *matrix.shape[len(summed) :]])
    return _arranged(product, [*rows, *columns], out)


def _unrolled(
    x: Tensor, own: Labels, free: Tensor, others: Labels, out: Labels, label: object
) -> Tensor | None:
    axis, other_axis, out_axis = list(own).index(label), list(others).index(label), list(out).index(label)
    if x.shape[axis] > MAX_UNROLLED:
        return None
    parts = []
    for at in range(x.shape[axis]):
        part = _multiplied(
            _picked(x, axis, at),
            _without(own, label),
            _picked(free, other_axis, at),
            _without(others, label),
            _without(out, label),
        )
        if part is None:
            return None
        parts.append(reshape(part, [*part.shape[:out_axis], 1, *part.shape[out_axis:]]))
    return concat(parts, out_axis)


def _picked(x: Tensor, axis: int, at: int) -> Tensor:
    begin, shape = [0] * x.rank, list(x.shape)
    begin[axis], shape[axis] = at, 1
    return reshape(slice_(x, begin, shape), [*x.shape[:axis], *x.shape[axis + 1 :]])


def _without(labels: Labels, label: object) -> list[object]:
    return [each for each in labels if each != label]


def _arranged(x: Tensor, labels: Labels, wanted: Labels) -> Tensor:
    places = {label: axis for axis, label in enumerate(labels)}
    return transpose(x, [places[label] for label in wanted]) if x.rank else x
