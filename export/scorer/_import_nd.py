"""Gathers and scatters by indices along several axes, and what is like them, in our form.

Models put the number of each row of the batch beside what they choose in it: `tf.gather_nd(x, tf.stack([rows,
chosen], axis=-1))`. Those rows stay where they are, and what is chosen becomes a row of zeros with a 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_choices import (
    MOST_ROWS,
    index_of,
    is_chosen,
    rows_of_items,
    rows_of_table,
    summed_where,
)
from nann.export.scorer._import_moves import is_repeated_range
from nann.export.scorer._import_ops import Found, Reading, integers
from nann.export.scorer._infinities import may_be_infinite
from nann.export.scorer._ir import Array, Shape, Tensor, constant
from nann.export.scorer._ops import (
    add,
    arithmetic,
    broadcast,
    cast,
    compare,
    dot,
    matmul,
    reduce_,
    reshape,
    select,
    transpose,
    turned,
)
from nann.export.scorer._slices import part_of, taken
from nann.export.scorer._whole_numbers import bounds_of

# Updates that are made one after the other: of equal indices the last stays.
_MOST_UPDATES = 16
# Numbers of a sparse matrix with all of its zeros.
_MOST_SPARSE = 2**16


@dataclass(frozen=True)
class _Place:
    """Where indices [..., m] lead to in a tensor.

    leading: axes whose index is the number of the row itself. index: integers [*leading, k] along the next
    axes, of which one is made. merged: how long that axis is. row: what follows, the shape of what is found.
    """

    leading: Shape
    index: Tensor
    merged: int
    row: Shape

    @property
    def is_constant(self) -> bool:
        return self.index.value is not None

    @property
    def shape(self) -> Shape:
        """Of the tensor, with one axis for those that are indexed."""
        return (*self.leading, self.merged, *self.row)


def _place(indices: Tensor, shape: Shape) -> _Place | None:
    """None where all indices are numbers of rows."""
    depth, lengths = indices.shape[-1], _lengths(indices, shape[0])
    parts = [reshape(part_of(indices, indices.rank - 1, each, 1), lengths) for each in range(depth)]
    count = 0
    while count < min(depth, len(lengths)) and _is_row_number(parts[count], count, shape[count]):
        count += 1
    if count == depth:  # Whole rows, each of its own.
        return None
    index = parts[count]
    for axis, part in enumerate(parts[count + 1 :], start=count + 1):
        index = _joined(index, shape[axis], part)
    index = reshape(index, (*lengths[:count], math.prod(lengths[count:])))
    return _Place(shape[:count], index, math.prod(shape[count:depth]), shape[depth:])


def _lengths(indices: Tensor, count: int) -> Shape:
    """Of the axes of indices: [n, k] of [n * k, m] where the number of each of n rows is repeated k times."""
    lengths = indices.shape[:-1]
    if len(lengths) == 1 and is_repeated_range(part_of(indices, 1, 0, 1).value, count):
        return lengths if lengths[0] == count else (count, lengths[0] // count)
    return lengths


def _is_row_number(x: Tensor, axis: int, length: int) -> bool:
    if x.value is None or x.shape[axis] != length:
        return False
    rows = np.arange(length).reshape([-1 if each == axis else 1 for each in range(x.rank)])
    return bool((x.value == rows).all())


def _joined(index: Tensor, length: int, part: Tensor) -> Tensor:
    """index * length + part."""
    if index.value is not None and part.value is not None:
        return constant(index.value * length + part.value)
    by = constant(length, index.dtype.as_numpy_dtype)
    return arithmetic("AddV2", arithmetic("Mul", index, by), part)


def _same_in_all_rows(place: _Place) -> Array | None:
    """Constant indices, where each row has the same."""
    value = place.index.value
    if value is None or value.size == 0:
        return None
    each: Array = value.reshape(-1, value.shape[-1])
    return each[0] if (each == each[:1]).all() else None


def gathered_nd(r: Reading) -> Found:
    """GatherNd: constant places, or rows by an index of the item or the user."""
    x = r.inputs[0]
    place = _place(r.inputs[1], x.shape)
    if place is None and x.shape == r.shape:  # Each of its own.
        return x
    if place is None or (x.is_free and r.inputs[1].value is not None):
        return None
    axis = len(place.leading)
    at = _same_in_all_rows(place)
    if at is not None and 0 <= at.min() <= at.max() < place.merged:
        return _taken(x, axis, x.rank - len(place.row), at.tolist(), r.shape)
    x = reshape(x, place.shape)
    if place.is_constant or x.dtype != tf.float32:
        return None
    index = index_of(place.index, x, may_be_free=axis > 0)
    if index is None:
        return None
    if axis == 0 and not x.is_free:
        return None
    found = rows_of_items(x, index, axis) if axis > 0 else rows_of_table(x, index)
    return None if found is None else reshape(found, r.shape)


def _taken(x: Tensor, axis: int, end: int, at: list[int], shape: Shape) -> Tensor | None:
    """Places along the axes from `axis` to `end` as one: of a transposed tensor, before it was."""
    perm = list(x.node.attrs["perm"]) if x.op == "transpose" else list(range(x.rank))
    begin, count = perm[axis], end - axis
    if perm[axis:end] != [*range(begin, begin + count)]:
        perm, begin = list(range(x.rank)), axis
    elif x.op == "transpose":
        x = x.inputs[0]
    merged = reshape(
        x, (*x.shape[:begin], math.prod(x.shape[begin : begin + count]), *x.shape[begin + count :])
    )
    found = taken(merged, begin, at)
    if found is None:
        return None
    kept = [each if each <= begin else each - count + 1 for each in (*perm[:axis], begin, *perm[end:])]
    return reshape(transpose(found, kept), shape)


def scattered_nd(r: Reading) -> Found:
    """ScatterNd: sums of what has one place, zeros where nothing has it."""
    shape = integers(r.inputs[2])
    return None if shape is None else _sums(r.inputs[0], r.inputs[1], tuple(shape))


def added_nd(r: Reading) -> Found:
    """TensorScatterAdd."""
    found = _sums(r.inputs[1], r.inputs[2], r.inputs[0].shape)
    return None if found is None else add(r.inputs[0], found)


def _sums(indices: Tensor, updates: Tensor, shape: Shape) -> Tensor | None:
    found = _chosen(indices, updates, shape)
    if found is None:
        return None
    place, chosen, updates = found
    if not place.row:
        numbers = select(chosen, reshape(updates, (*updates.shape, 1)), constant(np.float32(0)))
        return reshape(reduce_(numbers, "Sum", [-2]), shape)
    updates = reshape(updates, (*updates.shape[: len(place.leading) + 1], math.prod(place.row)))
    if may_be_infinite(updates):
        return reshape(summed_where(turned(chosen), updates), shape)
    return reshape(matmul(turned(cast(chosen)), updates), shape)


def _chosen(indices: Tensor, updates: Tensor, shape: Shape) -> tuple[_Place, Tensor, Tensor] | None:
    """Where to, bool [*leading, k, n] of each update, and the updates [*leading, k, *row]."""
    place = _place(indices, shape)
    if place is None or not place.leading or updates.dtype != tf.float32 or place.merged > MOST_ROWS:
        return None
    index = place.index if place.is_constant else index_of(place.index, updates, may_be_free=True)
    if index is None:
        return None
    return place, is_chosen(index, place.merged), reshape(updates, (*index.shape, *place.row))


def updated_nd(r: Reading) -> Found:
    """TensorScatterUpdate: one update after the other."""
    x = r.inputs[0]
    found = _chosen(r.inputs[1], r.inputs[2], x.shape)
    if found is None:
        return None
    place, chosen, updates = found
    axis, count = len(place.leading), updates.shape[len(place.leading)]
    if count > _MOST_UPDATES:
        return None
    result, ones = reshape(x, place.shape), (1,) * len(place.row)
    for each in range(count):
        is_place = reshape(part_of(chosen, axis, each, 1), (*place.leading, place.merged, *ones))
        update = part_of(updates, axis, each, 1)
        result = select(broadcast(is_place, place.shape), broadcast(update, place.shape), result)
    return reshape(result, x.shape)


def reversed_up_to(r: Reading) -> Found:
    """ReverseSequence of rows [n, L, ...]: the first so many of each, which a length of the user says."""
    x, lengths = r.inputs
    is_of_rows = r.attr("batch_dim") == 0 and r.attr("seq_dim") == 1
    if not is_of_rows or x.is_free or not lengths.is_free or x.dtype != tf.float32 or x.shape[1] > MOST_ROWS:
        return None
    places = constant(np.arange(x.shape[1]), lengths.dtype.as_numpy_dtype)
    length = reshape(lengths, (*lengths.shape, 1))
    last = arithmetic("Sub", length, constant(1, lengths.dtype.as_numpy_dtype))
    index = select(compare("Less", places, length), arithmetic("Sub", last, places), places)
    found = rows_of_items(x, index, 1)
    return None if found is None else reshape(found, r.shape)


def counted(r: Reading) -> Found:
    """DenseBincount of each row's integers, which may have weights; others than bins do not count."""
    x, size, weights = r.inputs[0], _only_value(r.inputs[1]), r.inputs[2]
    if x.rank == 1 and weights.rank == 1:  # Of one row, as of the user.
        rows = tuple(reshape(each, (1, *each.shape)) for each in (x, weights))
        found = counted(replace(r, inputs=(rows[0], r.inputs[1], rows[1])))
        return reshape(found, found.shape[1:]) if isinstance(found, Tensor) else None
    if size is None or x.rank != 2 or size > MOST_ROWS or r.specs[0].dtype not in (tf.float32, tf.int32):
        return None
    index = index_of(x, x, may_be_free=True)
    if index is None or (weights.size and weights.dtype != tf.float32):
        return None
    chosen = is_chosen(index, size)
    if r.attr("binary_output"):
        return cast(reduce_(cast(chosen), "Max", [1]), r.specs[0].dtype)
    counts = cast(chosen)
    if weights.size:
        counts = select(chosen, reshape(weights, (*weights.shape, 1)), constant(np.float32(0)))
    return cast(reduce_(counts, "Sum", [1]), r.specs[0].dtype)


def sparse_product(r: Reading) -> Found:
    """SparseTensorDenseMatMul of a constant, such as the edges of a graph of fields or of events."""
    indices, values, shape = (each.value for each in r.inputs[:3])
    x = r.inputs[3]
    if indices is None or values is None or shape is None or x.is_free or may_be_infinite(x):
        return None
    if x.dtype != tf.float32 or math.prod(shape.tolist()) > _MOST_SPARSE:
        return None
    matrix = np.zeros(shape.tolist(), np.float32)
    np.add.at(matrix, tuple(indices.T), values)
    matrix = matrix if r.attr("adjoint_a") else matrix.T  # It is multiplied from the right.
    return turned(dot(x if r.attr("adjoint_b") else turned(x), constant(matrix)))


def _only_value(x: Tensor) -> int | None:
    """Of a number that has one, such as the largest of all and 19 and 20, but 20 at most."""
    least, most = bounds_of(x, {})
    return int(least) if least == most else None


ND: dict[str, Callable[[Reading], Found]] = {
    "DenseBincount": counted,
    "GatherNd": gathered_nd,
    "ReverseSequence": reversed_up_to,
    "ScatterNd": scattered_nd,
    "SparseTensorDenseMatMul": sparse_product,
    "TensorScatterAdd": added_nd,
    "TensorScatterUpdate": updated_nd,
}
