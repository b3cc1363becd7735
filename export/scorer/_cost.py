"""What a scorer costs for each item, as a model: arithmetic and bytes gathered from tables."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import tensorflow as tf

from nann.export.scorer._ir import Node, Tensor

# Measured with the reference attention scorer, 100k items, tiles of 128, one core with AVX-512 (issue 4):
# 10.8k items took 7.2 ms of arithmetic for 40 kFLOP each, and 2.6 ms to gather 1.5 kB each.
NS_PER_FLOP = 0.017
NS_PER_BYTE = 0.16
# An elementwise operation is bound by what it reads and writes in the cache, not by its arithmetic.
NS_PER_ELEMENT = 0.06
# Numbers that a processor writes at once.
_STRIP = 16
# To start one takes about 1,000 ns in TensorFlow, and much less in the native executor.
NS_PER_OPERATION = 250
# The user's part runs once for all items of a request: 8k to 16k with the default beams.
ITEMS_PER_REQUEST = 8192

# Elementary functions take tens of FLOPs an element.
_FLOPS_PER_ELEMENT = {
    "Softmax": 16, "LogSoftmax": 16, "Exp": 12, "Expm1": 12, "Log": 12, "Log1p": 12, "Pow": 24, "Sigmoid": 14,
    "Tanh": 14, "Erf": 20, "Erfc": 20, "Elu": 12, "Selu": 12, "Softplus": 24, "Sqrt": 4, "Rsqrt": 4,
    "Sin": 20, "Cos": 20, "Tan": 24, "Asin": 24, "Acos": 24, "Atan": 20, "Atan2": 20,
    "RealDiv": 4, "Reciprocal": 4, "SelectV2": 4, "prelu": 3,
}  # fmt: skip
_FREE = frozenset(["const", "source", "reshape"])
_MOVES = frozenset(["broadcast", "concat", "gather", "slice", "transpose"])
_PRODUCTS = frozenset(["BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "MatMul", "dot"])


@dataclass(frozen=True)
class Work:
    """Arithmetic of some nodes, for a whole tile.

    products: FLOPs of matrix products.
    others:   FLOPs of everything else.
    elements: elements that everything else writes.
    operations: how many there are.
    """

    products: float = 0.0
    others: float = 0.0
    elements: float = 0.0
    operations: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.products + other.products,
            self.others + other.others,
            self.elements + other.elements,
            self.operations + other.operations,
        )

    @property
    def flops(self) -> float:
        return self.products + self.others

    @property
    def ns(self) -> float:
        return self.flops * NS_PER_FLOP + self.elements * NS_PER_ELEMENT + self.operations * NS_PER_OPERATION


def work_of(nodes: Iterable[Node]) -> Work:
    """The sum over `nodes`; control flow counts as what it returns."""
    total = Work()
    begun: set[object] = set()
    for node in nodes:
        total += _work(node, begun)
    return total


def _work(node: Node, begun: set[object]) -> Work:
    """`begun`: the beginnings of sums and products so far; a function computes each once."""
    if node.op in _FREE:
        return Work()
    if any(
        spec.shape is None
        for spec in (*node.outputs, *(each.node.outputs[each.index] for each in node.inputs))
    ):
        return Work(operations=1)
    elements = sum(math.prod(spec.shape or ()) for spec in node.outputs)
    if node.op in _PRODUCTS:
        return Work(products=2.0 * elements * _depth(node), operations=1)
    if node.op == "Einsum":
        return Work(products=2.0 * _einsum_size(node), operations=1)
    if node.op in _MOVES:
        return Work(elements=elements + _written_alone(node), operations=1)
    if node.op in ("add", "mul"):
        beginnings = {(node.op, node.inputs[:count]) for count in range(2, len(node.inputs) + 1)}
        times = len(beginnings - begun)
        begun |= beginnings
        return Work(others=elements * times, elements=elements * times, operations=times)
    read = max([elements, *(each.size for each in node.inputs if each.known_shape is not None)])
    return Work(others=read * _FLOPS_PER_ELEMENT.get(node.op, 1), elements=read, operations=1)


def _written_alone(node: Node) -> int:
    """What it takes more to put columns of rows side by side: each number is written alone, not by strips."""
    if node.op != "concat" or len(node.outputs[0].shape or ()) < 3:
        return 0
    columns = [each for each in node.inputs if each.shape[-1] == 1 and node.attrs["axis"] == each.rank - 1]
    return (_STRIP - 1) * sum(each.size for each in columns)


def _depth(node: Node) -> int:
    x = node.inputs[0]
    for name in ("transpose_a", "adj_x"):
        if name in node.attrs and tf.compat.v1.AttrValue.FromString(node.attrs[name]).b:
            return x.shape[-2]
    return x.shape[-1]


def _einsum_size(node: Node) -> int:
    """Product of the sizes of all labels."""
    equation = tf.compat.v1.AttrValue.FromString(node.attrs["equation"]).s.decode()
    sizes: dict[str, int] = {}
    for labels, tensor in zip(equation.split("->")[0].split(","), node.inputs, strict=True):
        sizes.update(zip(reversed(labels.replace("...", "")), reversed(tensor.shape), strict=False))
    return math.prod(sizes.values())


def bytes_per_item(tensors: Iterable[Tensor], tile_rows: int) -> float:
    """What one item's part of float32 tensors takes."""
    return sum(4.0 * tensor.size / tile_rows for tensor in tensors)
