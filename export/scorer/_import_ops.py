"""TensorFlow's operations in our form: names that differ in spelling only become one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from nann.export.scorer._contract import product_of_free
from nann.export.scorer._einsum import einsum, outer
from nann.export.scorer._infinities import is_of_sum_with_large
from nann.export.scorer._ir import Shape, Spec, Tensor, constant
from nann.export.scorer._ops import (
    add,
    arithmetic,
    broadcast,
    columns,
    concat,
    matmul,
    mul,
    negated,
    prelu,
    reduce_,
    reshape,
    scaled,
    select,
    slice_,
    transpose,
    unary,
)

# Sums and products of these may be re-ordered; lower precisions would show it.
_EXACT_ENOUGH = (tf.float32, tf.float64)


@dataclass(frozen=True)
class Reading:
    """An operation that is being read; all shapes are known. inputs: ours already."""

    operation: Any
    inputs: tuple[Tensor, ...]
    specs: tuple[Spec, ...]

    def attr(self, name: str) -> Any:
        return self.operation.get_attr(name)

    @property
    def shape(self) -> Shape:
        """Of the first output."""
        shape = self.specs[0].shape
        assert shape is not None
        return shape

    @property
    def is_exact_enough(self) -> bool:
        return self.specs[0].dtype in _EXACT_ENOUGH


Found = Tensor | list[Tensor] | None


def first_of(*forms: Callable[[Reading], Found]) -> Callable[[Reading], Found]:
    """The first form that there is."""
    return lambda r: next((found for form in forms if (found := form(r)) is not None), None)


_Import = Callable[[Reading], Found]
IMPORTS: dict[str, _Import] = {}


def _reads(*ops: str) -> Callable[[_Import], _Import]:
    def register(function: _Import) -> _Import:
        IMPORTS.update(dict.fromkeys(ops, function))
        return function

    return register


def _reads_arithmetic(*ops: str) -> Callable[[_Import], _Import]:
    def register(function: _Import) -> _Import:
        IMPORTS.update(dict.fromkeys(ops, lambda r: function(r) if r.is_exact_enough else None))
        return function

    return register


def integers(tensor: Tensor) -> list[int] | None:
    """A constant's integers as a list, None of anything else."""
    return None if tensor.value is None else [int(value) for value in tensor.value.flat]


@_reads(
    "CheckNumerics",
    "CheckNumericsV2",
    "EnsureShape",
    "Identity",
    "PreventGradient",
    "Print",
    "Snapshot",
    "StopGradient",
)
def _passed(r: Reading) -> Found:
    return r.inputs[0] if r.inputs[0].shape == r.shape else None


@_reads("Cast")
def _cast(r: Reading) -> Found:
    return r.inputs[0] if r.inputs[0].dtype == r.specs[0].dtype else None


@_reads("IdentityN")
def _all_passed(r: Reading) -> Found:
    return list(r.inputs)


@_reads("Shape", "Size", "Rank")
def _static(r: Reading) -> Found:
    x = r.inputs[0]
    value = {"Shape": x.shape, "Size": x.size, "Rank": x.rank}[r.operation.type]
    return constant(value, r.specs[0].dtype.as_numpy_dtype)


@_reads("ZerosLike", "OnesLike")
def _filled(r: Reading) -> Found:
    value = constant(int(r.operation.type == "OnesLike"), r.specs[0].dtype.as_numpy_dtype)
    return broadcast(value, r.shape)


@_reads("Fill", "BroadcastTo")
def _broadcast(r: Reading) -> Found:
    return broadcast(r.inputs[1] if r.operation.type == "Fill" else r.inputs[0], r.shape)


@_reads("Reshape", "Squeeze", "ExpandDims")
def _reshape(r: Reading) -> Found:
    return reshape(r.inputs[0], r.shape)


@_reads("Transpose")
def _transpose(r: Reading) -> Found:
    perm = integers(r.inputs[1])
    return None if perm is None else transpose(r.inputs[0], perm)


@_reads("ConcatV2")
def _concat(r: Reading) -> Found:
    axis = integers(r.inputs[-1])
    return None if axis is None else concat(r.inputs[:-1], axis[0])


@_reads("Pack")
def _pack(r: Reading) -> Found:
    axis = r.attr("axis") % len(r.shape)
    shape = [*r.shape[:axis], 1, *r.shape[axis + 1 :]]
    return concat([reshape(each, shape) for each in r.inputs], axis)


@_reads("Unpack")
def _unpack(r: Reading) -> Found:
    axis = r.attr("axis") % r.inputs[0].rank
    parts = _cut(r.inputs[0], axis, [1] * len(r.specs))
    return [reshape(part, r.shape) for part in parts]


@_reads("Split", "SplitV")
def _split(r: Reading) -> Found:
    x, axis = (r.inputs[1], r.inputs[0]) if r.operation.type == "Split" else (r.inputs[0], r.inputs[2])
    where = integers(axis)
    if where is None or any(spec.shape is None for spec in r.specs):
        return None
    at = where[0] % x.rank
    return _cut(x, at, [spec.shape[at] for spec in r.specs if spec.shape is not None])


def _cut(x: Tensor, axis: int, sizes: list[int]) -> list[Tensor]:
    parts, start = [], 0
    for size in sizes:
        begin = [0] * x.rank
        begin[axis] = start
        parts.append(slice_(x, begin, [*x.shape[:axis], size, *x.shape[axis + 1 :]]))
        start += size
    return parts


@_reads("Slice")
def _slice(r: Reading) -> Found:
    begin = integers(r.inputs[1])
    return None if begin is None else slice_(r.inputs[0], begin, r.shape)


@_reads("Select")
def _select(r: Reading) -> Found:
    condition, positive, negative = r.inputs
    return select(condition, positive, negative) if condition.shape == r.shape else None


@_reads_arithmetic("Add", "AddV2", "AddN")
def _add(r: Reading) -> Found:
    return add(*r.inputs)


@_reads_arithmetic("BiasAdd")
def _bias_add(r: Reading) -> Found:
    return add(r.inputs[0], bias_of(r))


def bias_of(r: Reading) -> Tensor:
    """What BiasAdd adds, as it is broadcast."""
    x, bias = r.inputs
    if r.attr("data_format") == b"NCHW":  # Along the second axis; so Keras adds a column [L, 1] to rows.
        return reshape(bias, (bias.size, *(1,) * (x.rank - 2)))
    return bias


def plain_arithmetic(r: Reading) -> Tensor | None:
    """A sum, product or quotient as the model has it: by an operation of TensorFlow that is left alone.

    None of a layer over several numbers: it is one already.
    """
    op = r.operation.type
    if len(r.inputs) == 1:
        return r.inputs[0] if op == "AddN" else unary(op, r.inputs[0])
    if op == "Einsum":
        return outer(r.attr("equation").decode(), r.inputs)
    if op == "MatMul":  # Of a column and a row.
        x, y = r.inputs
        return (
            None
            if (x.size, y.size) != (r.shape[0], r.shape[1])
            else arithmetic("Mul", reshape(x, (x.size, 1)), reshape(y, (1, y.size)))
        )
    terms = (r.inputs[0], bias_of(r)) if op == "BiasAdd" else r.inputs
    named = {"Add": "AddV2", "AddN": "AddV2", "BiasAdd": "AddV2", "Div": "RealDiv"}.get(op, op)
    return functools.reduce(lambda x, y: arithmetic(named, x, y), terms)


@_reads_arithmetic("Sub")
def _subtract(r: Reading) -> Found:
    return add(r.inputs[0], negated(r.inputs[1]))


@_reads_arithmetic("Neg")
def _negate(r: Reading) -> Found:
    return negated(r.inputs[0])


@_reads_arithmetic("Mul")
def _multiply(r: Reading) -> Found:
    return mul(*r.inputs)


@_reads_arithmetic("RealDiv", "Div")
def _divide(r: Reading) -> Found:
    """As a product with the reciprocal, which differs in the last bit: that is much of a large number."""
    x, by = r.inputs
    return mul(x, unary("Reciprocal", by)) if by.is_free and not is_of_sum_with_large(x) else None


@_reads_arithmetic("Maximum", "Minimum")
def _clip(r: Reading) -> Found:
    """max(x, 0) is relu(x), min(x, 0) is -relu(-x)."""
    zeros = [each.value is not None and not each.value.any() for each in r.inputs]
    if not any(zeros) or all(zeros):
        return None
    x = broadcast(r.inputs[zeros.index(False)], r.shape)
    if r.operation.type == "Maximum":
        return unary("Relu", x)
    return negated(unary("Relu", negated(x)))


@_reads_arithmetic("LeakyRelu")
def _leaky_relu(r: Reading) -> Found:
    return prelu(r.inputs[0], constant(r.attr("alpha"), r.specs[0].dtype.as_numpy_dtype))


@_reads_arithmetic("Selu")
def _selu(r: Reading) -> Found:
    """A multiple of x where it is positive, another of exp(x) - 1 where not."""
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    kinked = prelu(unary("Elu", r.inputs[0]), constant(alpha, r.specs[0].dtype.as_numpy_dtype))
    return scaled(kinked, scale)


@_reads_arithmetic("Softsign")
def _softsign(r: Reading) -> Found:
    (x,) = r.inputs
    one = constant(1, x.dtype.as_numpy_dtype)
    return mul(x, unary("Reciprocal", add(one, unary("Abs", x))))


@_reads_arithmetic("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def _matmul(r: Reading) -> Found:
    if any(each.dtype != r.specs[0].dtype for each in r.inputs):
        return None
    flags = ("transpose_a", "transpose_b") if r.operation.type == "MatMul" else ("adj_x", "adj_y")
    x, y = (_turned(each) if r.attr(flag) else each for each, flag in zip(r.inputs, flags, strict=True))
    if len(r.shape) == 2 and x.size == r.shape[0]:  # A column times a row.
        return mul(reshape(x, (r.shape[0], 1)), reshape(y, (1, r.shape[1])))
    product = matmul(x, y)
    # Leading axes may turn out to be repetitions of the user: what to do with them is for the rules to say.
    return (product_of_free(product) if product.rank == 2 else None) or product


def _turned(x: Tensor) -> Tensor:
    last = x.rank - 1
    return transpose(x, [*range(last - 1), last, last - 1])


@_reads_arithmetic("Cross")
def _cross(r: Reading) -> Found:
    """Of vectors of three numbers."""
    x, y = ([columns(each, at, at + 1) for at in range(3)] for each in r.inputs)
    parts = [(1, 2), (2, 0), (0, 1)]
    return concat([add(mul(x[a], y[b]), negated(mul(x[b], y[a]))) for a, b in parts], len(r.shape) - 1)


@_reads_arithmetic("Einsum")
def _einsum(r: Reading) -> Found:
    return einsum(r.attr("equation").decode(), r.inputs)


@_reads("Sum", "Mean", "Max", "Min", "All", "Any")
def _reduce(r: Reading) -> Found:
    axes, x = integers(r.inputs[1]), r.inputs[0]
    if axes is None:
        return None
    if r.operation.type == "Mean" and x.dtype.is_integer:
        return _whole_mean(r, axes)
    return reshape(reduce_(x, r.operation.type, axes), r.shape)


def _whole_mean(r: Reading, axes: list[int]) -> Found:
    """Of integers: their sum, divided as integers are, whose fractions are cut off."""
    total = reshape(reduce_(r.inputs[0], "Sum", axes), r.shape)
    if total.size == 0 or not 0 < (count := r.inputs[0].size // total.size) <= total.dtype.max:
        return None
    return arithmetic("TruncateDiv", total, constant(count, total.dtype.as_numpy_dtype))


@_reads_arithmetic("EuclideanNorm")
def _norm(r: Reading) -> Found:
    axes = integers(r.inputs[1])
    if axes is None:
        return None
    return unary("Sqrt", reshape(reduce_(unary("Square", r.inputs[0]), "Sum", axes), r.shape))
