"""Operations on tensors whose axes are as long as the user makes them, in our form (`_open_axes.py`).

So `tf.boolean_mask(user["events"], user["mask"])` and `user["events"][: user["length"]]` are scored by the
native executor, whose tensors have one shape for all users.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_ops import Reading, integers
from nann.export.scorer._import_user_places import numbers
from nann.export.scorer._ir import Shape, Spec, Tensor, constant
from nann.export.scorer._open_axes import Opened, Places, aligned, full_shape, order_of, regrouped, sizes_of
from nann.export.scorer._ops import (
    arithmetic,
    broadcast,
    cast,
    concat,
    mul,
    reduce_,
    reshape,
    transpose,
)
from nann.export.scorer._rows import ELEMENTWISE

# Grids of places that are looked at one by one.
_MOST_PLACES = 1024
_PASSED = frozenset(
    ["EnsureShape", "Identity", "OnesLike", "PreventGradient", "Snapshot", "StopGradient", "ZerosLike"]
)
_ELEMENTWISE = (ELEMENTWISE | _PASSED) - {"Bucketize", "Select"}
_PRODUCTS = frozenset(["MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"])
_LEAST = float(np.finfo(np.float32).min)
# What changes no result of a reduction.
_NEUTRAL = {"All": True, "Any": False, "Max": -np.inf, "Mean": 0.0, "Min": np.inf, "Prod": 1.0, "Sum": 0.0}


@dataclass(frozen=True)
class OpenReading:
    """An operation of which operands or results have open axes.

    read: the form of an operation whose shapes are all known.
    """

    operation: Reading
    inputs: tuple[Opened, ...]
    read: Callable[[Reading], list[Tensor]]

    @property
    def type(self) -> str:
        name: str = self.operation.operation.type
        return name

    @property
    def dtype(self) -> tf.DType:
        return self.operation.specs[0].dtype

    def attr(self, name: str) -> object:
        return self.operation.attr(name)

    def constants(self, at: int) -> list[int] | None:
        return integers(self.inputs[at].full)

    def numbers(self, at: int) -> list[int | Tensor] | None:
        return numbers(self.inputs[at].full)

    def of(self, inputs: Sequence[Tensor], shape: Shape) -> Tensor:
        """The operation on all that there may be of its operands."""
        spec = Spec(self.dtype, shape)
        return self.read(replace(self.operation, inputs=tuple(inputs), specs=(spec,)))[0]


Rule = Callable[[OpenReading], Opened | None]
_RULES: dict[str, Rule] = {}


def rule_of(op: str) -> Rule | None:
    """None of an operation that has no such form."""
    return _RULES.get(op, _elementwise if op in _ELEMENTWISE else None)


def _reads(*ops: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(ops, function))
        return function

    return register


def _elementwise(r: OpenReading) -> Opened | None:
    axes = aligned(r.inputs[:1] if r.type == "EnsureShape" else r.inputs)
    if axes is None:
        return None
    shape = np.broadcast_shapes(*(each.full.shape for each in r.inputs))
    if r.type in ("EnsureShape", "Identity", "PreventGradient", "Snapshot", "StopGradient"):
        return r.inputs[0]
    return Opened(r.of([each.full for each in r.inputs], shape), axes)


@_reads("BiasAdd")
def _bias(r: OpenReading) -> Opened | None:
    x, bias = r.inputs
    is_of_columns = r.attr("data_format") == b"NHWC" and x.rank - 1 not in x.axes and not bias.axes
    return Opened(r.of([x.full, bias.full], x.full.shape), x.axes) if is_of_columns else None


@_reads("Shape")
def _shape(r: OpenReading) -> Opened | None:
    sizes = [reshape(each, (1,)) for each in sizes_of(r.inputs[0], r.dtype)]
    return Opened(concat(sizes, 0)) if sizes else None


@_reads("Size")
def _count(r: OpenReading) -> Opened | None:
    sizes = sizes_of(r.inputs[0], r.dtype)
    return Opened(functools.reduce(lambda x, y: arithmetic("Mul", x, y), sizes)) if sizes else None


@_reads("Where")
def _places(r: OpenReading) -> Opened | None:
    """Which of the user's flags are set: rows of their places, in order."""
    (flags,) = r.inputs
    x = flags.full
    if flags.axes or not x.is_free or x.dtype != tf.bool or not 0 < x.size <= _MOST_PLACES:
        return None
    every = np.argwhere(np.ones(x.shape, bool))
    return Opened(constant(every, np.int64), {0: Places(reshape(x, (x.size,)))})


@_reads("Range")
def _range(r: OpenReading) -> Opened | None:
    """From 0 to a count: the number of each place that is present."""
    start, limit, delta = (each.full for each in r.inputs)
    found = full_shape([limit]) if limit.rank == 0 and limit.value is None else None
    if found is None or (integers(start), integers(delta)) != ([0], [1]):
        return None
    _, axes = found
    return Opened(cast(order_of(axes[0].present), r.dtype), axes)


@_reads("Reshape")
def _reshaped(r: OpenReading) -> Opened | None:
    sizes = r.numbers(1)
    return None if sizes is None else regrouped(r.inputs[0], sizes)


@_reads("ExpandDims", "Squeeze")
def _of_other_rank(r: OpenReading) -> Opened | None:
    x, shape = r.inputs[0], list(r.inputs[0].full.shape)
    kept = list(range(x.rank))
    if r.type == "ExpandDims":
        at = r.constants(1)
        if at is None:
            return None
        kept.insert(at[0] % (x.rank + 1), -1)
    else:
        dropped = r.attr("squeeze_dims")
        assert isinstance(dropped, list)
        if not dropped:
            return None
        kept = [each for each in kept if each not in [at % x.rank for at in dropped]]
    full = reshape(x.full, [1 if each < 0 else shape[each] for each in kept])
    return x.moved(full, {each: at for at, each in enumerate(kept)})


@_reads("Transpose")
def _transposed(r: OpenReading) -> Opened | None:
    perm = r.constants(1)
    if perm is None:
        return None
    x = r.inputs[0]
    return x.moved(transpose(x.full, perm), {axis: at for at, axis in enumerate(perm)})


@_reads("ReverseV2")
def _reversed(r: OpenReading) -> Opened | None:
    x, axes = r.inputs[0], r.constants(1)
    if axes is None or any(axis % x.rank in x.axes for axis in axes):
        return None
    return Opened(r.of([x.full, r.inputs[1].full], x.full.shape), x.axes)


@_reads("Fill", "BroadcastTo", "Tile")
def _repeated(r: OpenReading) -> Opened | None:
    x, sizes = (r.inputs[1], r.numbers(0)) if r.type == "Fill" else (r.inputs[0], r.numbers(1))
    found = None if sizes is None else full_shape(sizes)
    if found is None or sizes is None:
        return None
    shape, axes = found
    if r.type == "Tile":
        if any(isinstance(n, Tensor) and x.full.shape[axis] != 1 for axis, n in enumerate(sizes)):
            return None
        if any(shape[axis] != 1 for axis in x.axes):
            return None
        shape = tuple(own * times for own, times in zip(x.full.shape, shape, strict=True))
        counts = constant([n // own for own, n in zip(x.full.shape, shape, strict=True)], np.int32)
        return Opened(r.of([x.full, counts], shape), {**x.axes, **axes})
    lead = len(shape) - x.rank
    if {axis + lead: places for axis, places in x.axes.items()}.items() - axes.items():
        return None
    if any(axis - lead not in x.axes and _size(x.full, axis - lead) != 1 for axis in axes):
        return None
    return Opened(broadcast(x.full, shape), axes)


def _size(x: Tensor, axis: int) -> int:
    return 1 if axis < 0 else x.shape[axis]


@_reads("Pack")
def _packed(r: OpenReading) -> Opened | None:
    axis = r.attr("axis")
    assert isinstance(axis, int)
    at, axes = axis % (r.inputs[0].rank + 1), r.inputs[0].axes
    if any(each.axes != axes for each in r.inputs):
        return None
    rows = [reshape(each.full, [*each.full.shape[:at], 1, *each.full.shape[at:]]) for each in r.inputs]
    return Opened(concat(rows, at), {own + (own >= at): places for own, places in axes.items()})


@_reads("ConcatV2")
def _joined(r: OpenReading) -> Opened | None:
    where = r.constants(len(r.inputs) - 1)
    if where is None:
        return None
    parts, axis = r.inputs[:-1], where[0] % r.inputs[0].rank
    others = [{own: places for own, places in each.axes.items() if own != axis} for each in parts]
    if any(each != others[0] for each in others):
        return None
    axes = others[0]
    if any(axis in each.axes for each in parts):
        masks = [
            each.axes[axis].mask() if axis in each.axes else constant(np.ones(each.full.shape[axis], bool))
            for each in parts
        ]
        axes = {**axes, axis: Places(concat(masks, 0))}
    return Opened(concat([each.full for each in parts], axis), axes)


@_reads(*_NEUTRAL)
def _reduced(r: OpenReading) -> Opened | None:
    x, axes = r.inputs[0], r.constants(1)
    if axes is None or (r.type in ("Max", "Mean", "Min") and x.full.dtype != tf.float32):
        return None
    reduced = sorted({axis % x.rank for axis in axes})
    kept = [axis for axis in range(x.rank) if axis not in reduced]
    open_ones = [axis for axis in reduced if axis in x.axes]
    keeps = bool(r.attr("keep_dims"))
    shape = [1 if axis in reduced else n for axis, n in enumerate(x.full.shape) if keeps or axis in kept]
    full = x.where_present(open_ones, _NEUTRAL[r.type])
    if r.type == "Mean" and open_ones:
        counts = [x.axes[axis].count(tf.float32) for axis in open_ones]
        others = math.prod(x.full.shape[axis] for axis in reduced if axis not in open_ones)
        total = reshape(reduce_(full, "Sum", reduced), shape)
        found = arithmetic("RealDiv", total, mul(*counts, constant(others, np.float32)))
    else:
        found = r.of([full, r.inputs[1].full], tuple(shape))
    return _without(x, found, reduced, keeps=keeps)


def _without(x: Opened, full: Tensor, reduced: Sequence[int], *, keeps: bool) -> Opened:
    """What is left of the open axes of `x` in `full`, which has not those that were reduced."""
    kept = [axis for axis in range(x.rank) if keeps or axis not in reduced]
    return Opened(full, {kept.index(a): places for a, places in x.axes.items() if a not in reduced})


@_reads("Softmax", "LogSoftmax")
def _softmax(r: OpenReading) -> Opened | None:
    (x,) = r.inputs
    if x.full.dtype != tf.float32:
        return None
    return Opened(r.of([x.where_present([x.rank - 1], _LEAST)], x.full.shape), x.axes)


@_reads(*_PRODUCTS)
def _product(r: OpenReading) -> Opened | None:
    flags = ("transpose_a", "transpose_b") if r.type == "MatMul" else ("adj_x", "adj_y")
    (x, y), turned = r.inputs, [bool(r.attr(flag)) for flag in flags]
    inner = [x.rank - 1 - turned[0], y.rank - 2 + turned[1]]
    outer = [x.rank - 2 + turned[0], y.rank - 1 - turned[1]]
    if x.axes.get(inner[0]) != y.axes.get(inner[1]):
        return None
    leading = [_leading(each) for each in r.inputs]
    axes = aligned([each for each in leading if each.rank]) if any(each.rank for each in leading) else {}
    if axes is None:
        return None
    rank = max(x.rank, y.rank)
    shape = (
        *np.broadcast_shapes(*(each.full.shape[:-2] for each in r.inputs)),
        x.full.shape[outer[0]],
        y.full.shape[outer[1]],
    )
    for at, each in enumerate(r.inputs):
        if outer[at] in each.axes:
            axes[rank - 2 + at] = each.axes[outer[at]]
    operands = [each.where_present([axis], 0.0) for each, axis in zip(r.inputs, inner, strict=True)]
    return Opened(r.of(operands, shape), axes)


def _leading(x: Opened) -> Opened:
    """Of matrices the axes before, of numbers that nobody reads."""
    axes = {axis: places for axis, places in x.axes.items() if axis < x.rank - 2}
    return Opened(broadcast(constant(np.float32(0)), x.full.shape[:-2]), axes)


@_reads("Einsum")
def _einsum(r: OpenReading) -> Opened | None:
    equation = r.attr("equation")
    assert isinstance(equation, bytes)
    operands, result = equation.decode().replace(" ", "").split("->")
    if "." in equation.decode():
        return None
    sizes: dict[str, int] = {}
    found: dict[str, Places | None] = {}
    for letters, x in zip(operands.split(","), r.inputs, strict=True):
        for axis, letter in enumerate(letters):
            places = x.axes.get(axis)
            if found.setdefault(letter, places) != places:
                return None
            sizes[letter] = x.full.shape[axis]
    fulls = [
        x.where_present([axis for axis, letter in enumerate(letters) if letter not in result], 0.0)
        for letters, x in zip(operands.split(","), r.inputs, strict=True)
    ]
    shape = tuple(sizes[letter] for letter in result)
    axes = {axis: places for axis, letter in enumerate(result) if (places := found[letter]) is not None}
    return Opened(r.of(fulls, shape), axes)


@_reads("TopKV2")
def _largest(r: OpenReading) -> Opened | None:
    """The values alone: where they are counts only what is present."""
    x, k = r.inputs[0], r.constants(1)
    if k is None or x.full.dtype != tf.float32 or r.operation.operation.outputs[1].consumers():
        return None
    full = x.where_present([x.rank - 1], -np.inf)
    axes = {axis: places for axis, places in x.axes.items() if axis != x.rank - 1}
    shape = (*x.full.shape[:-1], k[0])
    places = Spec(r.operation.specs[1].dtype, shape)
    reading = replace(r.operation, inputs=(full, r.inputs[1].full), specs=(Spec(r.dtype, shape), places))
    return Opened(r.read(reading)[0], axes)


@_reads("Cumsum")
def _cumulative(r: OpenReading) -> Opened | None:
    x, where = r.inputs[0], r.constants(1)
    if where is None:
        return None
    full = x.where_present([where[0] % x.rank], 0)
    return Opened(r.of([full, r.inputs[1].full], x.full.shape), x.axes)


@_reads("GatherV2")
def _gathered(r: OpenReading) -> Opened | None:
    (x, index), where = r.inputs[:2], r.constants(2)
    if where is None or r.attr("batch_dims"):
        return None
    axis = where[0] % x.rank
    if axis in x.axes:
        return None
    to = {each: each if each < axis else each + index.rank - 1 for each in range(x.rank)}
    places = {axis + each: own for each, own in index.axes.items()}
    value, n = index.full.value, x.full.shape[axis]
    if index.axes and value is not None and value.size == n and (value.reshape(-1) == np.arange(n)).all():
        full = reshape(x.full, [*x.full.shape[:axis], *index.full.shape, *x.full.shape[axis + 1 :]])
    else:  # What is not present may be an index of nothing.
        inside = Opened(index.where_present(index.axes, 0)).full
        shape = (*x.full.shape[:axis], *index.full.shape, *x.full.shape[axis + 1 :])
        full = r.of([x.full, inside, r.inputs[2].full], shape)
    return Opened(full, {**x.moved(full, to).axes, **places})
