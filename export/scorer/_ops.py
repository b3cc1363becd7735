"""The operations that rewrites work with. Constants fold, and what changes nothing is left out.

add, mul      two or more tensors, broadcast as in NumPy
dot           [..., k] times a free matrix [k, m]: the product over the last axis
transpose, reshape, broadcast, concat, slice    static
reduce        Sum, Mean, Max, ... over given axes, which it drops
matmul        a product of matrices within leading axes: BatchMatMulV2 without its flags
gather        rows of a free matrix [n, k] at float32 [...]: [..., k]; zeros at what is none of its rows
prelu         x where x > 0, else slope * x, with a constant slope
unary         TensorFlow's elementwise functions of one tensor, such as Relu

Every function returns a tensor that holds the same values as the operation asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from nann.export.scorer._ir import Array, Node, Shape, Spec, Tensor, constant, make

# Operations of ours that only put numbers elsewhere.
MOVED = ("broadcast", "concat", "reshape", "slice", "transpose")
# Larger results are left to be computed: a model is not to grow by its broadcasts.
MAX_FOLDED_BYTES = 2**20

_REDUCE: dict[str, Callable[..., Any]] = {
    "Sum": np.sum, "Mean": np.mean, "Max": np.max, "Min": np.min,
    "Prod": np.prod, "All": np.all, "Any": np.any,
}  # fmt: skip
# Of no numbers at all: NumPy has no answer, or warns.
_OF_NOTHING = {"Max": -np.inf, "Min": np.inf, "Mean": np.nan}
_UNARY: dict[str, Callable[[Array], Any]] = {
    "Neg": np.negative,
    "Reciprocal": np.reciprocal,
    "Relu": lambda x: np.maximum(x, 0),
}


def add(*terms: Tensor) -> Tensor:
    return _broadcasting("add", terms, np.add, 0)


def mul(*factors: Tensor) -> Tensor:
    return _broadcasting("mul", factors, np.multiply, 1)


def negated(x: Tensor) -> Tensor:
    return x.inputs[0] if is_negation(x) else scaled(x, -1.0)


def is_negation(x: Tensor) -> bool:
    if x.op != "mul" or len(x.inputs) != 2:
        return False
    factor = x.inputs[1]
    return factor.value is not None and factor.rank == 0 and bool(factor.value == -1)


def scaled(x: Tensor, factor: float) -> Tensor:
    return mul(x, constant(factor, x.dtype.as_numpy_dtype))


def dot(x: Tensor, matrix: Tensor) -> Tensor:
    assert x.shape[-1:] == matrix.shape[:1], (x, matrix)
    shape = (*x.shape[:-1], matrix.shape[1])
    folded = _fold([x, matrix], shape, np.matmul)
    return folded or Tensor(make("dot", [x, matrix], [Spec(x.dtype, shape)]))


def matmul(x: Tensor, y: Tensor) -> Tensor:
    """[..., n, k] times [..., k, m], as BatchMatMulV2: what is left of products that no `dot` is."""
    shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
    no = tf.compat.v1.AttrValue(b=False).SerializeToString()
    attrs = {"T": _type_attr(x.dtype), "adj_x": no, "adj_y": no}
    return Tensor(make("BatchMatMulV2", [x, y], [Spec(x.dtype, shape)], attrs))


def is_matmul(x: Tensor) -> bool:
    """Whether it is of that form; TensorFlow's own may have flags, in types that are not re-arranged."""
    return x.op == "BatchMatMulV2" and not (flag(x.node, "adj_x") or flag(x.node, "adj_y"))


def flag(node: Node, name: str) -> bool:
    """An attribute of TensorFlow's."""
    return bool(tf.compat.v1.AttrValue.FromString(node.attrs[name]).b)


def behind_reshape(x: Tensor) -> Tensor:
    """What a reshape is of; `x` itself where it is none."""
    return x.inputs[0] if x.op == "reshape" else x


def dot_along(x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """`dot` with the axis in place of the last: [..., n, ...] times [n, m] -> [..., m, ...]."""
    perm, back = axis_last(x.rank, axis)
    return transpose(dot(transpose(x, perm), matrix), back)


def axis_last(rank: int, axis: int) -> tuple[list[int], list[int]]:
    """The permutation that brings an axis to the end, and the one that brings it back."""
    perm = [each for each in range(rank) if each != axis] + [axis]
    return perm, [perm.index(each) for each in range(rank)]


def transpose(x: Tensor, perm: Sequence[int]) -> Tensor:
    perm = tuple(perm)
    if x.op == "transpose":
        inner: Shape = x.node.attrs["perm"]
        return transpose(x.inputs[0], [inner[axis] for axis in perm])
    shape = tuple(x.shape[axis] for axis in perm)
    if [axis for axis in perm if x.shape[axis] != 1] == [a for a in range(x.rank) if x.shape[a] != 1]:
        return reshape(x, shape)
    if x.op == "reshape" and _undoes(x, perm):
        return reshape(x.inputs[0].inputs[0], shape)
    folded = _fold([x], shape, lambda value: value.transpose(perm))
    return folded or Tensor(make("transpose", [x], [Spec(x.dtype, shape)], {"perm": perm}))


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    shape = tuple(shape)
    assert math.prod(shape) == x.size, (x, shape)
    if x.op == "reshape":
        return reshape(x.inputs[0], shape)
    if x.shape == shape:
        return x
    folded = _fold([x], shape, lambda value: value.reshape(shape))
    return folded or Tensor(make("reshape", [x], [Spec(x.dtype, shape)]))


def broadcast(x: Tensor, shape: Sequence[int]) -> Tensor:
    shape = tuple(shape)
    assert np.broadcast_shapes(x.shape, shape) == shape, (x, shape)
    if x.shape == shape:
        return x
    if x.op == "broadcast":
        return broadcast(x.inputs[0], shape)
    folded = _fold([x], shape, lambda value: np.broadcast_to(value, shape))
    return folded or Tensor(make("broadcast", [x], [Spec(x.dtype, shape)]))


def concat(parts: Sequence[Tensor], axis: int) -> Tensor:
    parts = [part for part in parts if part.shape[axis]] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    axis %= parts[0].rank
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    if len(set(parts)) == 1 and parts[0].shape[axis] == 1:
        return broadcast(parts[0], shape)
    folded = _fold(parts, tuple(shape), lambda *values: np.concatenate(values, axis))
    return folded or Tensor(make("concat", parts, [Spec(parts[0].dtype, tuple(shape))], {"axis": axis}))


def slice_(x: Tensor, begin: Sequence[int], shape: Sequence[int]) -> Tensor:
    begin, shape = tuple(begin), tuple(shape)
    if shape == x.shape:
        return x
    if x.op == "slice":
        inner: Shape = x.node.attrs["begin"]
        return slice_(x.inputs[0], [b + i for b, i in zip(begin, inner, strict=True)], shape)
    part = _part_of_concat(x, begin, shape)
    if part is not None:
        return part
    index = tuple(slice(b, b + n) for b, n in zip(begin, shape, strict=True))
    folded = _fold([x], shape, lambda value: value[index])
    return folded or Tensor(make("slice", [x], [Spec(x.dtype, shape)], {"begin": begin}))


def columns(x: Tensor, begin: int, end: int) -> Tensor:
    """x[..., begin:end]."""
    return slice_(x, [0] * (x.rank - 1) + [begin], [*x.shape[:-1], end - begin])


def reduce_kept(x: Tensor, function: str, axis: int) -> Tensor:
    """A reduction over an axis, which stays."""
    shape = list(x.shape)
    shape[axis] = 1
    return reshape(reduce_(x, function, [axis]), shape)


def reduce_(x: Tensor, function: str, axes: Sequence[int]) -> Tensor:
    axes = tuple(sorted(axis % x.rank for axis in axes))
    if not axes:
        return x
    shape = tuple(n for axis, n in enumerate(x.shape) if axis not in axes)
    if function in _REDUCE and all(x.shape[axis] == 1 for axis in axes):
        return reshape(x, shape)
    folded = None
    if function in _OF_NOTHING and not x.size:
        if x.dtype.is_floating:
            folded = constant(np.full(shape, _OF_NOTHING[function], x.dtype.as_numpy_dtype))
    elif function in _REDUCE:
        folded = _fold([x], shape, lambda value: _REDUCE[function](value, axis=axes))
    return folded or Tensor(make("reduce", [x], [Spec(x.dtype, shape)], {"function": function, "axes": axes}))


def gather(table: Tensor, index: Tensor) -> Tensor:
    assert table.is_free, table
    return Tensor(make("gather", [table, index], [Spec(table.dtype, (*index.shape, table.shape[1]))]))


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    assert slope.value is not None
    if not slope.value.any():
        return unary("Relu", x)
    return Tensor(make("prelu", [x, slope], [Spec(x.dtype, x.shape)]))


def unary(op: str, x: Tensor) -> Tensor:
    folded = _fold([x], x.shape, _UNARY[op]) if op in _UNARY else None
    attrs = {"T": _type_attr(x.dtype)}
    return folded or Tensor(make(op, [x], [Spec(x.dtype, x.shape)], attrs))


def cast(x: Tensor, dtype: tf.DType = tf.float32) -> Tensor:
    attrs = {"SrcT": _type_attr(x.dtype), "DstT": _type_attr(dtype)}
    return Tensor(make("Cast", [x], [Spec(dtype, x.known_shape)], attrs))


def select(condition: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    shape = np.broadcast_shapes(condition.shape, positive.shape, negative.shape)
    spec = Spec(positive.dtype, shape)
    return Tensor(make("SelectV2", [condition, positive, negative], [spec], {"T": _type_attr(spec.dtype)}))


def compare(op: str, x: Tensor, y: Tensor) -> Tensor:
    """TensorFlow's comparison `op`."""
    return _of_two(op, x, y, tf.bool, {"T": _type_attr(x.dtype)})


def arithmetic(op: str, x: Tensor, y: Tensor) -> Tensor:
    """TensorFlow's `op` of two tensors of a type. Rules for sums and products in our form leave it alone."""
    return _of_two(op, x, y, x.dtype, {"T": _type_attr(x.dtype)})


def maximum(x: Tensor, y: Tensor) -> Tensor:
    return arithmetic("Maximum", x, y)


def both(x: Tensor, y: Tensor) -> Tensor:
    return _of_two("LogicalAnd", x, y, tf.bool, {})


def either(x: Tensor, y: Tensor) -> Tensor:
    return _of_two("LogicalOr", x, y, tf.bool, {})


def divide(x: Tensor, by: Tensor) -> Tensor:
    return arithmetic("RealDiv", x, by)


def squared_difference(x: Tensor, y: Tensor) -> Tensor:
    return arithmetic("SquaredDifference", x, y)


def complex_of(real: Tensor, imaginary: Tensor) -> Tensor:
    """Complex numbers of these parts."""
    shape = np.broadcast_shapes(real.shape, imaginary.shape)
    types = {"T": _type_attr(real.dtype), "Tout": _type_attr(tf.complex64)}
    return _of_two("Complex", broadcast(real, shape), broadcast(imaginary, shape), tf.complex64, types)


def _of_two(op: str, x: Tensor, y: Tensor, dtype: tf.DType, attrs: dict[str, bytes]) -> Tensor:
    return Tensor(make(op, [x, y], [Spec(dtype, np.broadcast_shapes(x.shape, y.shape))], attrs))


def turned(x: Tensor) -> Tensor:
    """Matrices [..., n, m] -> [..., m, n]."""
    return transpose(x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])


def is_turned(x: Tensor) -> bool:
    """Whether it is what `turned` makes."""
    if x.op != "transpose":  # Which has a known shape.
        return False
    last = x.rank - 1
    return bool(x.node.attrs["perm"] == (*range(last - 1), last, last - 1))


def is_extreme(x: Tensor) -> bool:
    """Whether it is the largest or the least of some numbers, and so one of them."""
    return x.op == "reduce" and x.node.attrs["function"] in ("Max", "Min")


def widened(x: Tensor, width: int) -> Tensor:
    """`x` as a tensor of rank 1 or more whose last axis has `width`, by broadcasting."""
    x = reshape(x, x.shape or (1,))
    return broadcast(x, (*x.shape[:-1], width))


def is_row(x: Tensor) -> bool:
    """Whether it varies along the last axis only, if at all."""
    return x.size == (x.shape[-1] if x.rank else 1)


def rebuilt(tensor: Tensor, inputs: Sequence[Tensor]) -> Tensor | None:
    """Our operation `tensor` on other inputs, of the same shapes; None for TensorFlow's operations."""
    attrs = tensor.node.attrs
    make_again: dict[str, Callable[[], Tensor]] = {
        "add": lambda: add(*inputs),
        "mul": lambda: mul(*inputs),
        "dot": lambda: dot(*inputs),
        "transpose": lambda: transpose(inputs[0], attrs["perm"]),
        "reshape": lambda: reshape(inputs[0], tensor.shape),
        "broadcast": lambda: broadcast(inputs[0], tensor.shape),
        "concat": lambda: concat(inputs, attrs["axis"]),
        "slice": lambda: slice_(inputs[0], attrs["begin"], tensor.shape),
        "reduce": lambda: reduce_(inputs[0], attrs["function"], attrs["axes"]),
        "prelu": lambda: prelu(*inputs),
        "gather": lambda: gather(*inputs),
    }
    return make_again[tensor.op]() if tensor.op in make_again else None


def _type_attr(dtype: tf.DType) -> bytes:
    serialized: bytes = tf.compat.v1.AttrValue(type=dtype.as_datatype_enum).SerializeToString()
    return serialized


def _undoes(x: Tensor, perm: Sequence[int]) -> bool:
    """Whether transpose(x, perm) has the numbers of `a` in their order again: x = reshape(transpose(a)).

    The reshape adds or drops axes of size 1 only.
    """
    before = x.inputs[0]
    if before.op != "transpose" or [n for n in before.shape if n != 1] != [n for n in x.shape if n != 1]:
        return False
    sources = (a for a, n in zip(before.node.attrs["perm"], before.shape, strict=True) if n != 1)
    source = dict(zip((axis for axis, n in enumerate(x.shape) if n != 1), sources, strict=True))
    order = [source[axis] for axis in perm if axis in source]
    return order == sorted(order)


def _fold(inputs: Sequence[Tensor], shape: Shape, function: Callable[..., Any]) -> Tensor | None:
    values = [tensor.value for tensor in inputs]
    limit = max(MAX_FOLDED_BYTES, *(tensor.size * tensor.dtype.size for tensor in inputs))
    if any(value is None for value in values) or math.prod(shape) * inputs[0].dtype.size > limit:
        return None
    with np.errstate(all="ignore"):  # what is computed at serving time warns neither
        return constant(np.asarray(function(*values), inputs[0].dtype.as_numpy_dtype))


def _broadcasting(op: str, operands: Sequence[Tensor], function: Any, neutral: int) -> Tensor:
    shape = np.broadcast_shapes(*(each.shape for each in operands))
    kept = [each for each in operands if each.value is None or (each.value != neutral).any()]
    kept = kept or list(operands[:1])
    if len(kept) == 1 and kept[0].value is None:
        return broadcast(kept[0], shape)
    folded = _fold(kept, shape, lambda *values: _all(function, values, shape))
    return folded or _of_shape(Tensor(make(op, kept, [Spec(kept[0].dtype, _shape(kept))])), shape)


def _all(function: Any, values: Sequence[Array], shape: Shape) -> Array:
    result = values[0]
    for value in values[1:]:
        result = function(result, value)
    return np.broadcast_to(result, shape)


def _shape(tensors: Sequence[Tensor]) -> Shape:
    return np.broadcast_shapes(*(each.shape for each in tensors))


def _of_shape(tensor: Tensor, shape: Shape) -> Tensor:
    """An operand that changed no value may have widened the shape."""
    return broadcast(tensor, shape)


def _part_of_concat(x: Tensor, begin: Shape, shape: Shape) -> Tensor | None:
    """The slice of a concatenation that lies within one of its parts."""
    if x.op != "concat":
        return None
    axis, start = x.node.attrs["axis"], 0
    for part in x.inputs:
        end = start + part.shape[axis]
        if start <= begin[axis] and begin[axis] + shape[axis] <= end:
            inside = list(begin)
            inside[axis] -= start
            return slice_(part, inside, shape)
        start = end
    return None
