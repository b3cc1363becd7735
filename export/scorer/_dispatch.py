"""Items that are dealt out to networks and put back in their order: each network then scores all items.

`tf.dynamic_partition` with `tf.dynamic_stitch`, and `tf.boolean_mask` or `tf.where` with a scatter, make
parts of a tile whose lengths no graph knows. A score depends on its own item alone. What a network makes of
an item is therefore the same beside any others, and `tf.where` chooses it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from nann.export.replaced import Call, Compute
from nann.export.scorer._anyhow import has_same_results, replaced_if_it_runs
from nann.export.scorer._guards import risks_of
from nann.export.scorer._known import constants_of, operations_of

_STITCHES = frozenset(["DynamicStitch", "ParallelDynamicStitch"])
# What puts rows at their numbers, and which input these are.
_SCATTERS = {"ScatterNd": 0, "TensorScatterAdd": 1, "TensorScatterUpdate": 1}
_PASS_ON = frozenset(["Cast", "ExpandDims", "Identity", "Reshape", "Squeeze"])

# Bool [items] by the name of a tensor: which items it has rows of, or the numbers of.
Masks = dict[str, Any]


def without_dispatch(function: Any) -> Any:
    """A frozen function whose networks score all items; `function` where it deals none out, or otherwise."""
    operations = function.graph.get_operations()
    deals = {each.name for each in operations if _deals(each, function.inputs[-1])}
    if not deals:
        return function
    masks: Masks = {}
    replacements: list[tuple[Any, Compute]] = []
    for each in operations:
        if each.name in deals:
            replacements.append((each, partial(_dealt, each, masks)))
        elif each.type in _STITCHES or each.type in _SCATTERS:
            numbers = [_origin(x) for x in _numbers_of(each)]
            if all(_are_numbers(x, deals) for x in numbers):
                replacements.append((each, partial(_joined, each, [x.name for x in numbers], masks)))
        elif _may_fail(each, deals):
            return function
    found = replaced_if_it_runs(function, *replacements)
    return found if found is not None and has_same_results(function, found) else function


def _deals(operation: Any, item: Any) -> bool:
    """Whether it chooses among the items of a tile, by what they are."""
    if operation.type not in ("DynamicPartition", "Where"):
        return False
    choice = operation.inputs[-1]
    is_of_items = choice.shape.is_fully_defined() and choice.shape == item.shape[:1]
    return is_of_items and any(each.name == item.op.name for each in operations_of([choice]))


def _may_fail(operation: Any, deals: Container[str]) -> bool:
    """Whether it may fail for items that a network is not meant for, which its table may have no row for."""
    operands = [risky.inputs[at] for risky, at, _ in risks_of(operation)]
    return any(
        not _are_numbers(_origin(each), deals)
        and any(before.name in deals for before in operations_of([each]))
        for each in operands
    )


def _numbers_of(join: Any) -> Sequence[Any]:
    if join.type in _SCATTERS:
        return [join.inputs[_SCATTERS[join.type]]]
    return list(join.inputs)[: len(join.inputs) // 2]


def _origin(x: Any) -> Any:
    """The tensor before what changes only its type or its axes."""
    while x.op.type in _PASS_ON or _keeps_rows(x.op):
        x = x.op.inputs[0]
    return x


def _keeps_rows(operation: Any) -> bool:
    """Whether it is `x[:, 0]` or `x[:, None]`: all of the first axis."""
    if operation.type != "StridedSlice":
        return False
    is_whole = operation.get_attr("begin_mask") & operation.get_attr("end_mask") & 1
    others = ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    strides = constants_of(operation, [3])
    is_in_order = strides is not None and strides[3][0] == 1
    return bool(is_whole and is_in_order) and not any(operation.get_attr(each) & 1 for each in others)


def _are_numbers(x: Any, deals: Container[str]) -> bool:
    """Whether they are the numbers of a part's rows: of `tf.where`, or a partition of `tf.range`."""
    if x.op.name not in deals:
        return False
    if x.op.type == "Where":
        return True
    values = constants_of(x.op, [0])
    return values is not None and np.array_equal(values[0], np.arange(len(values[0])))


def _dealt(deal: Any, masks: Masks, inputs: Sequence[Any], _: Call) -> Sequence[Any]:
    """All items in place of each part."""
    choice = inputs[-1]
    if deal.type == "Where":
        masks[deal.outputs[0].name] = tf.cast(choice, tf.bool)
        return [tf.range(choice.shape[0], dtype=tf.int64)[:, tf.newaxis]]
    masks.update({each.name: tf.equal(choice, at) for at, each in enumerate(deal.outputs)})
    return [inputs[0]] * len(deal.outputs)


def _joined(join: Any, numbers: Sequence[str], masks: Masks, inputs: Sequence[Any], _: Call) -> Sequence[Any]:
    """Each item's row of the last part that has it."""
    if join.type in _STITCHES:
        parts = list(inputs[len(numbers) :])
        found = tf.zeros_like(parts[0])
    else:
        found, parts = inputs[0], [inputs[2]]
        if join.type == "ScatterNd":
            found, parts = tf.zeros_like(inputs[1]), [inputs[1]]
    for name, part in zip(numbers, parts, strict=True):
        row = found + part if join.type == "TensorScatterAdd" else part
        found = tf.where(tf.reshape(masks[name], [-1] + [1] * (len(part.shape) - 1)), row, found)
    return [found]
