"""Between which bounds numbers lie. In a program whole ones are floats, which are exact up to 2^24."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from nann.export.scorer._ir import Node, Spec, Tensor, make, topological

MOST_EXACT = 2**24
# Quotients of larger numbers may be rounded to the next whole one.
_MOST_DIVIDED = 2**22
_DIVISIONS = frozenset(["FloorDiv", "FloorMod", "TruncateDiv", "TruncateMod"])
BYTES = (tf.int8, tf.int16, tf.uint8, tf.uint16)
_KEEP_WHOLE = frozenset(
    ["AddV2", "Mul", "Neg", "Sub", "add", "broadcast", "mul", "reshape", "slice", "transpose"]
)
# An attribute of what is computed elsewhere, as a column of a table: TensorFlow ignores it.
_BOUNDS = "_nann_bounds"

Bounds = tuple[float, float]
_EVERYTHING: Bounds = (-math.inf, math.inf)
_BoundsOf = Callable[[Tensor, list[Bounds]], Bounds]


def is_exact_arithmetic(x: Tensor) -> bool:
    """Whether all that an operation of integers reads and makes is a float, for every user and item."""
    limit = _MOST_DIVIDED if x.op in _DIVISIONS else MOST_EXACT
    known: dict[Tensor, Bounds] = {}
    return _is_within(_found(x, known), x.dtype) and all(
        _most(each, known) <= limit for each in (x, *x.inputs)
    )


def fits(x: Tensor, dtype: tf.DType) -> bool:
    """Whether an integer type holds all that a tensor can be: those of 8 and 16 bits wrap around."""
    return _is_within(bounds_of(x, {}), dtype)


def _is_within(bounds: Bounds, dtype: tf.DType) -> bool:
    return dtype not in BYTES or (dtype.min <= bounds[0] and bounds[1] <= dtype.max)


def is_exact(x: Tensor) -> bool:
    """Whether a float holds each number that a tensor of integers can have, for every user and item."""
    return _most(x, {}) <= MOST_EXACT


def with_bounds_of(x: Tensor, computed: Tensor) -> Tensor:
    """`computed`, which holds the numbers of `x`, with their bounds where these are whole numbers."""
    if not is_whole(x) or not is_exact(x):
        return computed
    least, most = bounds_of(x, {})
    attrs = {
        "T": tf.compat.v1.AttrValue(type=x.dtype.as_datatype_enum),
        _BOUNDS: tf.compat.v1.AttrValue(list=tf.compat.v1.AttrValue.ListValue(f=[least, most])),
    }
    serialized = {name: attr.SerializeToString() for name, attr in attrs.items()}
    return Tensor(make("Identity", [computed], [Spec(x.dtype, x.shape)], serialized))


def is_whole(x: Tensor) -> bool:
    """Whether it holds whole numbers: integers, as floats too, and sums and products of them."""

    def is_known(each: Tensor) -> bool:
        if each.value is not None and each.dtype.is_floating:
            return bool((each.value == np.rint(each.value)).all())
        types = [each.dtype, *(was.dtype for was in each.inputs if each.op == "Cast")]
        return any(dtype.is_integer or dtype == tf.bool for dtype in types)

    return all(_keeps_whole(node) for node in topological([x], stop=is_known))


def _keeps_whole(node: Node) -> bool:
    return node.op in _KEEP_WHOLE or (node.op == "reduce" and bool(node.attrs["function"] == "Sum"))


def _most(x: Tensor, known: dict[Tensor, Bounds]) -> float:
    return max(map(abs, bounds_of(x, known)))


def bounds_of(x: Tensor, known: dict[Tensor, Bounds]) -> Bounds:
    """The least and the most that a tensor's numbers can be. known: what was found before."""
    if x not in known:
        known[x] = _within_type(x, _found(x, known))
    return known[x]


def _found(x: Tensor, known: dict[Tensor, Bounds]) -> Bounds:
    if x.value is not None:
        return (float(x.value.min()), float(x.value.max())) if x.size else (0.0, 0.0)
    rule = _RULES.get(x.op)
    if rule is None or any(each.known_shape is None for each in x.inputs):
        return _EVERYTHING
    least, most = rule(x, [bounds_of(each, known) for each in x.inputs])
    return _EVERYTHING if math.isnan(least) or math.isnan(most) else (least, most)


def _within_type(x: Tensor, bounds: Bounds) -> Bounds:
    if x.dtype == tf.bool:
        return 0.0, 1.0
    if x.dtype in BYTES:
        return max(bounds[0], float(x.dtype.min)), min(bounds[1], float(x.dtype.max))
    return bounds


def _rectified(_: Tensor, inputs: list[Bounds]) -> Bounds:
    return max(0.0, inputs[0][0]), max(0.0, inputs[0][1])


def _reciprocal(_: Tensor, inputs: list[Bounds]) -> Bounds:
    return (0.0, math.inf) if inputs[0][0] >= 0 else _EVERYTHING


def _first(_: Tensor, inputs: list[Bounds]) -> Bounds:
    return inputs[0]


def _passed(x: Tensor, inputs: list[Bounds]) -> Bounds:
    if _BOUNDS not in x.node.attrs:
        return inputs[0]
    least, most = tf.compat.v1.AttrValue.FromString(x.node.attrs[_BOUNDS]).list.f
    return float(least), float(most)


def _any(_: Tensor, inputs: list[Bounds]) -> Bounds:
    return min(least for least, _ in inputs), max(most for _, most in inputs)


def _selected(x: Tensor, inputs: list[Bounds]) -> Bounds:
    return _any(x, inputs[1:])


def _cast(_: Tensor, inputs: list[Bounds]) -> Bounds:
    """Fractions are cut off, towards 0."""
    return tuple(map(_cut, inputs[0]))  # type: ignore[return-value]


def _cut(bound: float) -> float:
    return float(math.trunc(bound)) if math.isfinite(bound) else bound


def _sum(_: Tensor, inputs: list[Bounds]) -> Bounds:
    return sum(least for least, _ in inputs), sum(most for _, most in inputs)


def _difference(_: Tensor, inputs: list[Bounds]) -> Bounds:
    (least, most), (least_taken, most_taken) = inputs
    return least - most_taken, most - least_taken


def _product(_: Tensor, inputs: list[Bounds]) -> Bounds:
    bounds = inputs[0]
    for each in inputs[1:]:
        # Bounds may be infinite; numbers are not, and 0 times any of them is 0.
        corners = [a * b if a and b else 0.0 for a in bounds for b in each]
        bounds = (min(corners), max(corners))
    return bounds


def _largest(_: Tensor, inputs: list[Bounds]) -> Bounds:
    return max(least for least, _ in inputs), max(most for _, most in inputs)


def _smallest(_: Tensor, inputs: list[Bounds]) -> Bounds:
    return min(least for least, _ in inputs), min(most for _, most in inputs)


def _clipped(x: Tensor, inputs: list[Bounds]) -> Bounds:
    return _largest(x, [_smallest(x, [inputs[0], inputs[2]]), inputs[1]])


def _negated(_: Tensor, inputs: list[Bounds]) -> Bounds:
    return -inputs[0][1], -inputs[0][0]


def _magnitude(_: Tensor, inputs: list[Bounds]) -> Bounds:
    return 0.0, max(map(abs, inputs[0]))


def _square(x: Tensor, inputs: list[Bounds]) -> Bounds:
    return 0.0, _magnitude(x, inputs)[1] ** 2


def _remainder(_: Tensor, inputs: list[Bounds]) -> Bounds:
    least, most = inputs[1]
    return (0.0, most - 1) if least > 0 else _EVERYTHING


def _cut_remainder(_: Tensor, inputs: list[Bounds]) -> Bounds:
    """It has the sign of what is divided."""
    (least, most), by = inputs
    rest = max(map(abs, by)) - 1
    return max(-rest, min(least, 0.0)), min(rest, max(most, 0.0))


def _common_bits(_: Tensor, inputs: list[Bounds]) -> Bounds:
    """What is not negative has no more bits in common with any number."""
    limits = [most for least, most in inputs if least >= 0]
    return (0.0, min(limits)) if limits else _EVERYTHING


def _quotient(_: Tensor, inputs: list[Bounds]) -> Bounds:
    """By a positive number no number gets larger, and none but a negative one smaller than -1."""
    (least, most), by = inputs
    return (min(least, 0.0), max(most, 0.0)) if by[0] >= 1 else _EVERYTHING


def _summed_products(x: Tensor, inputs: list[Bounds]) -> Bounds:
    depth, (least, most) = x.inputs[0].shape[-1], _product(x, inputs)
    return least * depth, most * depth


def _reduced(x: Tensor, inputs: list[Bounds]) -> Bounds:
    if x.node.attrs["function"] != "Sum":
        return inputs[0] if x.node.attrs["function"] in ("All", "Any", "Max", "Mean", "Min") else _EVERYTHING
    factors = x.inputs[0].inputs if x.inputs[0].op == "mul" else ()
    weights = [each.value for each in factors if each.value is not None and (each.value >= 0).all()]
    if x.node.attrs["axes"] == (x.inputs[0].rank - 1,) and [each.ndim for each in weights] == [1]:
        numbers = [bounds_of(each, {}) for each in factors if each.value is None]
        least, most = _product(x, numbers)
        return least * float(weights[0].sum()), most * float(weights[0].sum())
    count = int(np.prod([x.inputs[0].shape[axis] for axis in x.node.attrs["axes"]]))
    return inputs[0][0] * count, inputs[0][1] * count


def _not_negative(_: Tensor, inputs: list[Bounds]) -> Bounds:
    return 0.0, math.inf


def _share(_: Tensor, inputs: list[Bounds]) -> Bounds:
    return 0.0, 1.0


def _divided(_: Tensor, inputs: list[Bounds]) -> Bounds:
    """Of what is not negative; of other numbers nothing is known."""
    return (0.0, math.inf) if min(inputs[0][0], inputs[1][0]) >= 0 else _EVERYTHING


_RULES: dict[str, _BoundsOf] = {
    **dict.fromkeys(("Sigmoid", "Softmax"), _share),
    **dict.fromkeys(("Exp", "Rsqrt", "Softplus", "Sqrt", "SquaredDifference"), _not_negative),
    **dict.fromkeys(("EnsureShape", "Floor", "broadcast", "reshape", "slice", "transpose"), _first),
    **dict.fromkeys(("Add", "AddV2", "add"), _sum),
    **dict.fromkeys(("Mul", "mul"), _product),
    "Abs": _magnitude,
    "BitwiseAnd": _common_bits,
    "Cast": _cast,
    "ClipByValue": _clipped,
    "FloorDiv": _quotient,
    "FloorMod": _remainder,
    "Identity": _passed,
    "Maximum": _largest,
    "Minimum": _smallest,
    "Neg": _negated,
    "Reciprocal": _reciprocal,
    "RealDiv": _divided,
    "Relu": _rectified,
    "SelectV2": _selected,
    "Square": _square,
    "Sub": _difference,
    "TruncateDiv": _quotient,
    "TruncateMod": _cut_remainder,
    "concat": _any,
    "dot": _summed_products,
    "reduce": _reduced,
}
