"""What is chosen by an index of the item, in our form: the index becomes a row of zeros with a 1.

So are embeddings of a number that was put into buckets, the nearest of some interests or events, and sorted
scores. What the user alone chooses is left to TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_functions import where_not_zero
from nann.export.scorer._import_moves import gathered
from nann.export.scorer._import_ops import Found, Reading, integers
from nann.export.scorer._infinities import may_be_infinite
from nann.export.scorer._integer_parts import as_float, number_of, was_float
from nann.export.scorer._ir import Spec, Tensor, constant, make, topological
from nann.export.scorer._narrow import narrow_of, narrowed
from nann.export.scorer._ops import (
    add,
    axis_last,
    behind_reshape,
    both,
    broadcast,
    cast,
    compare,
    concat,
    dot,
    either,
    gather,
    matmul,
    mul,
    negated,
    reduce_,
    reduce_kept,
    reshape,
    select,
    transpose,
    turned,
    unary,
)
from nann.export.scorer._rewrite import rewrite
from nann.export.scorer._whole_numbers import is_exact

# Rows of a value per item, each of which takes part in a product with the ones and zeros.
MOST_ROWS = 1024
# Of a table that is the same for all items. Of more rows some are found by `gather`: a product of few takes
# less time, and can be merged with others.
_MOST_ONE_HOT = 64
# As programs may have.
_MOST_TABLE_ROWS = 2**20
# Largest numbers that are looked for one after the other, and those among which.
_MOST_FOUND, _MOST_SEARCHED = 16, 512
# Floats of a row of a constant: of more, such as a matrix for each domain, few items' rows fit into a table.
_MOST_STORED = 512
# Numbers that are compared each with each. TensorFlow sorts 96 in less time than 9,216 comparisons take.
_MOST_COMPARED = 64
# Pairs of an item's numbers, of which those of a tile stay in a cache. Of more the largest is looked for as
# often as there are numbers.
_MOST_PAIRS = 4096


def one_hot(r: Reading) -> Found:
    """Along the last axis, and moved from there to the one that is wanted."""
    index, axis = r.inputs[0], r.attr("axis")
    found = _ones_and_zeros(r)
    if axis in (-1, index.rank):
        return found
    if found is None:
        attrs = {name: attr.SerializeToString() for name, attr in r.operation.node_def.attr.items()}
        attrs["axis"] = tf.compat.v1.AttrValue(i=-1).SerializeToString()
        spec = Spec(r.specs[0].dtype, (*index.shape, r.shape[axis]))
        found = Tensor(make("OneHot", r.inputs, [spec], attrs))
    perm = list(range(index.rank))
    perm.insert(axis, index.rank)
    return transpose(found, perm)


def _ones_and_zeros(r: Reading) -> Tensor | None:
    index, (depth, on, off) = r.inputs[0], (each.value for each in r.inputs[1:])
    if depth is None or on is None or off is None:
        return None
    if not _is_known(index):
        # Large ones may be rounded: to none of the small numbers that are looked for.
        number = number_of(index) if index.is_of_both else None
        if number is None:
            return None
        index = number
    chosen = is_chosen(index, int(depth))
    if float(on) == 1 and float(off) == 0:
        return cast(chosen, r.specs[0].dtype)
    return select(chosen, constant(on), constant(off))


def _is_known(index: Tensor) -> bool:
    """Whether it is the item's, and a program has it: all of it is a float."""
    return not index.is_free and (was_float(index) or is_exact(index))


def _as_float(x: Tensor) -> Tensor | None:
    """Numbers that are compared or looked up; None of integers that no float may be."""
    if x.dtype == tf.float32:
        return x
    if x.dtype != tf.bool and (not x.dtype.is_integer or not is_exact(x)):
        return None
    return as_float(x)


def index_of(index: Tensor, table: Tensor, *, may_be_free: bool = False) -> Tensor | None:
    """The item's, as floats: none in a table of few rows is beyond 2^24.

    What it finds in a constant is the item's alone and is stored: by TensorFlow, which refuses a row that is
    not there. may_be_free: an index of the user is taken as it is.
    """
    if index.is_item_only and index.dtype.is_integer and is_exact(index):
        return cast(index)  # However it is computed: a float may be stored.
    if _is_known(index) or (may_be_free and index.is_free):
        return index
    is_stored = index.is_item_only and table.value is not None and math.prod(table.shape[1:]) <= _MOST_STORED
    if index.is_free or is_stored:
        return None
    if is_brought(index):
        return index  # Large ones may be rounded: to none of the small numbers that are looked for.
    return number_of(index) or cast(index)  # Computed by TensorFlow, if by nothing else.


def is_brought(index: Tensor) -> bool:
    """Whether integers are those of an input, moved at most: a program reads them as floats."""
    return all(node.op in ("source", "reshape", "slice", "transpose") for node in topological([index]))


def is_chosen(index: Tensor, depth: int) -> Tensor:
    """Integers [...] to bool [..., depth]."""
    each = constant(np.arange(depth), index.dtype.as_numpy_dtype)
    return compare("Equal", reshape(index, (*index.shape, 1)), each)


def bucket(r: Reading) -> Found:
    """How many boundaries are not above it; all of them for a NaN."""
    (x,) = r.inputs
    boundaries = constant(np.asarray(r.attr("boundaries")), np.float32)
    if x.is_free or x.dtype != tf.float32 or boundaries.size == 0:
        return None
    return cast(_not_above(reshape(x, (*x.shape, 1)), boundaries), r.specs[0].dtype)


def place_in_order(r: Reading) -> Found:
    """LowerBound, UpperBound: how many of a row's ascending numbers stand before each value of that row."""
    ordered, values = r.inputs
    if values.is_free or values.dtype != tf.float32 or ordered.shape[-1] > MOST_ROWS:
        return None
    if ordered.shape[0] == 1:  # Mostly a row of all items' values is looked for in one row.
        values = reshape(values, (values.size, 1))
    else:
        values = reshape(values, (*values.shape, 1))
        ordered = reshape(ordered, (ordered.shape[0], 1, ordered.shape[1]))
    if r.operation.type == "LowerBound":
        count = reduce_(cast(compare("Greater", values, ordered)), "Sum", [-1])
    else:
        count = _not_above(values, ordered)
    return reshape(cast(count, r.specs[0].dtype), r.shape)


def _not_above(values: Tensor, ordered: Tensor) -> Tensor:
    """How many of the last axis of `ordered` are not above: as in TensorFlow, no number is above a NaN."""
    are_above = reduce_(cast(compare("Less", values, ordered)), "Sum", [-1])
    return add(constant(np.float32(ordered.shape[-1])), negated(are_above))


def largest_index(r: Reading) -> Found:
    """ArgMax, ArgMin: the first where there are several, and of the numbers only, beside a NaN."""
    x, axes = r.inputs[0], integers(r.inputs[1])
    numbers = _as_float(x)
    if x.is_free or axes is None or numbers is None:
        return None
    x = negated(numbers) if r.operation.type == "ArgMin" else numbers
    axis = axes[0] % x.rank
    last = transpose(x, axis_last(x.rank, axis)[0])
    is_number = compare("Equal", last, last)
    ((_, index),) = largest(select(is_number, last, constant(np.float32(-np.inf))), 1)
    return cast(reshape(index, r.shape), r.specs[0].dtype)


def top_k(r: Reading) -> Found:
    x, k = _as_float(r.inputs[0]), r.inputs[1].value
    if x is None or x.is_free or k is None:
        return None
    if k > 1 and not r.attr("sorted"):
        return None  # In TensorFlow's own order, which a model may depend on.
    are_many = k <= _MOST_COMPARED and math.prod(x.shape[1:]) * x.shape[-1] > _MOST_PAIRS
    if k > 0 and (k <= _MOST_FOUND or are_many) and x.shape[-1] <= _MOST_SEARCHED:
        values, indices = (concat(each, x.rank - 1) for each in zip(*largest(x, int(k)), strict=True))
    elif k > _MOST_FOUND and x.shape[-1] <= _MOST_COMPARED:
        values, indices = _in_order(x, int(k))
    else:
        return None
    values = values if values.dtype == r.specs[0].dtype else cast(values, r.specs[0].dtype)
    return [values, cast(indices, r.specs[1].dtype)]


def largest(x: Tensor, k: int) -> list[tuple[Tensor, Tensor]]:
    """The k largest [..., 1] of [..., n] and where they are, as floats; equal ones in their order."""
    n, found = x.shape[-1], list[tuple[Tensor, Tensor]]()
    places = each = constant(np.arange(n), np.float32)
    none, least = constant(np.float32(n)), constant(np.float32(-np.inf))
    for _ in range(k):
        value = reduce_kept(x, "Max", -1)
        place = reduce_kept(select(compare("Equal", x, value), places, none), "Min", -1)
        found.append((value, place))
        is_place = compare("Equal", each, place)
        x, places = select(is_place, least, x), select(is_place, none, places)
    return found


def _in_order(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of [..., n] and where they are, by how many stand before each; equal ones in order."""
    n = x.shape[-1]
    own, other = reshape(x, (*x.shape, 1)), reshape(x, (*x.shape[:-1], 1, n))
    is_earlier = constant(np.tri(n, k=-1, dtype=bool))
    stands_before = either(compare("Greater", other, own), both(compare("Equal", other, own), is_earlier))
    rank = reduce_(cast(stands_before), "Sum", [-1])
    each = constant(np.arange(k)[:, np.newaxis], np.float32)
    is_here = compare("Equal", reshape(rank, other.shape), each)
    values = reduce_(select(is_here, other, constant(np.float32(-np.inf))), "Max", [-1])
    places = dot(cast(is_here), constant(np.arange(n)[:, np.newaxis], np.float32))
    return values, reshape(places, values.shape)


def chosen_rows(r: Reading) -> Found:
    """GatherV2 by the item's index: of a table's rows, or of the item's own numbers."""
    x, axes = r.inputs[0], integers(r.inputs[2])
    is_of_each = r.attr("batch_dims") != 0 and not x.is_free
    index = index_of(r.inputs[1], x, may_be_free=is_of_each and r.inputs[1].value is None)
    numbers = _as_float(x)
    if index is None and r.inputs[1].is_item_only and numbers not in (None, x):
        return gathered(r) or _stored_rows(r, numbers)
    if index is None or axes is None or numbers is None:
        return gathered(r)
    if numbers != x:
        found = chosen_rows(replace(r, inputs=(numbers, *r.inputs[1:])))
        return cast(found, x.dtype) if isinstance(found, Tensor) else None
    axis, within = axes[0] % x.rank, r.attr("batch_dims") % (index.rank + 1)
    table = _same_for_all(x, within) if x.is_free and not index.is_free else None
    if table is not None and (within == 0 or axis > within):
        return _along(table, index, axis, within)
    if within == 0 or within != axis:
        return None
    index = reshape(index, (*index.shape[:axis], math.prod(index.shape[axis:])))
    found = rows_of_items(x, index, axis)
    return None if found is None else reshape(found, r.shape)


def _stored_rows(r: Reading, table: Tensor) -> Tensor:
    """By TensorFlow, of the item alone, as floats: an item table holds no others."""
    attrs = {name: attr.SerializeToString() for name, attr in r.operation.node_def.attr.items()}
    attrs["Tparams"] = tf.compat.v1.AttrValue(type=table.dtype.as_datatype_enum).SerializeToString()
    found = Tensor(make("GatherV2", [table, *r.inputs[1:]], [Spec(table.dtype, r.shape)], attrs))
    return cast(found, r.specs[0].dtype)


def _along(table: Tensor, index: Tensor, axis: int, within: int) -> Tensor | None:
    """What is chosen along an axis of [a, n, b], which all items have: [leading, a, index, b].

    within: how many of the index's axes lead.
    """
    at = axis - within
    others = [each for each in range(table.rank) if each != at]
    found = rows_of_table(transpose(table, [at, *others]), index)
    if found is None or at == 0:
        return found
    leading, chosen = list(range(within)), list(range(within, index.rank))
    before, behind = range(index.rank, index.rank + at), range(index.rank + at, found.rank)
    return transpose(found, [*leading, *before, *chosen, *behind])


def rows_of_table(table: Tensor, index: Tensor) -> Tensor | None:
    """[n, ...] at numbers [...]."""
    rows, row = table.shape[0], table.shape[1:]
    if rows > _MOST_TABLE_ROWS:
        return None
    table = reshape(table, (rows, math.prod(row)))
    # Rows that are not chosen, times 0, would make a NaN of what is not finite.
    if rows <= _MOST_ONE_HOT and not may_be_infinite(table):
        found = dot(cast(is_chosen(index, rows)), table)
    else:
        found = gather(table, index if index.dtype == tf.float32 else cast(index))
    return reshape(found, (*index.shape, *row))


def rows_of_items(x: Tensor, index: Tensor, axis: int) -> Tensor | None:
    """x [leading, n, row] at integers [leading, k] -> [leading, k, row]."""
    n, row, k = x.shape[axis], math.prod(x.shape[axis + 1 :]), index.shape[-1]
    table = _same_for_all(x, axis) if x.is_free and not index.is_free else None
    if table is not None and n > _MOST_ONE_HOT:
        return rows_of_table(table, index)
    if n > MOST_ROWS:
        return None
    if row > 1:
        x = reshape(x, (*x.shape[: axis + 1], row))
        return (
            summed_where(is_chosen(index, n), x)
            if may_be_infinite(x)
            else matmul(cast(is_chosen(index, n)), x)
        )
    x = reshape(x, x.shape[: axis + 1])
    before = behind_reshape(x)
    if before.shape[-1:] == (n,) and before.shape[0] > 1:  # Leading axes that were made one.
        x = before
    index = reshape(index, (*x.shape[:-1], k))
    narrow = narrow_of(rewrite(index, (narrowed,), free_rules=(narrowed,)))
    is_product = x.rank > 2 and not may_be_infinite(x)
    if is_product and narrow.shape[-2] < x.shape[-2]:  # The same for all columns: rows are what is chosen.
        *leading, columns, _ = x.shape
        chosen = cast(is_chosen(broadcast(narrow, (*leading, 1, k)), n))
        rows = matmul(reshape(chosen, (*leading, k, n)), turned(x))
        assert rows.shape == (*leading, k, columns)
        return turned(rows)
    chosen = is_chosen(index, n)
    numbers = select(chosen, reshape(x, (*x.shape[:-1], 1, n)), constant(np.float32(0)))
    return reduce_(numbers, "Sum", [-1])


def summed_where(chosen: Tensor, x: Tensor) -> Tensor:
    """Rows [..., n, row] that are chosen by [..., k, n], without a product with those that are not."""
    k, (n, row) = chosen.shape[-2], x.shape[-2:]
    numbers = select(
        reshape(chosen, (*chosen.shape, 1)),
        reshape(x, (*x.shape[:-2], 1, n, row)),
        constant(np.float32(0)),
    )
    return reshape(reduce_(numbers, "Sum", [-2]), (*numbers.shape[:-3], k, row))


def cross_entropy(r: Reading) -> Found:
    """SoftmaxCrossEntropyWithLogits, and its gradient. A label of 0 counts nothing, whatever its logit."""
    logits, labels = r.inputs
    if logits.is_free and labels.is_free:
        return None
    logits, labels = (broadcast(each, r.specs[1].shape or ()) for each in r.inputs)
    if all(
        each.op == "reshape" and each.inputs[0].shape[-1:] == each.shape[-1:] for each in (logits, labels)
    ):
        before = (logits.inputs[0], labels.inputs[0])  # TensorFlow makes rows of all that leads.
        logits, labels = before if before[0].shape == before[1].shape else (logits, labels)
    terms = where_not_zero(labels, mul(labels, unary("LogSoftmax", logits)))
    found = (negated(reduce_(terms, "Sum", [-1])), add(unary("Softmax", logits), negated(labels)))
    return [reshape(each, spec.shape or ()) for each, spec in zip(found, r.specs, strict=True)]


def cross_entropy_of_class(r: Reading) -> Found:
    """SparseSoftmaxCrossEntropyWithLogits, and its gradient."""
    logits, label = r.inputs
    index = index_of(label, logits, may_be_free=True)
    if (logits.is_free and label.is_free) or index is None or logits.dtype != tf.float32:
        return None
    is_label, none = is_chosen(index, logits.shape[-1]), constant(np.float32(0))
    of_label = select(is_label, unary("LogSoftmax", logits), none)
    return [
        negated(reduce_(of_label, "Sum", [-1])),
        add(unary("Softmax", logits), negated(cast(is_label))),
    ]


def _same_for_all(x: Tensor, axis: int) -> Tensor | None:
    """[n, ...] of what repeats it along the axes before."""
    narrow = narrow_of(rewrite(x, (narrowed,), free_rules=(narrowed,)), kept=range(axis, x.rank))
    return reshape(narrow, x.shape[axis:]) if math.prod(narrow.shape[:axis]) == 1 else None


CHOICES: dict[str, Callable[[Reading], Found]] = {
    "ArgMax": largest_index,
    "ArgMin": largest_index,
    "Bucketize": bucket,
    "GatherV2": chosen_rows,
    "LowerBound": place_in_order,
    "OneHot": one_hot,
    "SoftmaxCrossEntropyWithLogits": cross_entropy,
    "SparseSoftmaxCrossEntropyWithLogits": cross_entropy_of_class,
    "TopKV2": top_k,
    "UpperBound": place_in_order,
}
