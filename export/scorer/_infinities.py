"""Infinities that a model has by itself, as masks, and large numbers in place of them.

A product with ones and zeros would make NaNs of infinities. A small number is lost in a large one that is
added to it.
"""

from __future__ import annotations

import weakref

import numpy as np

from nann.export.scorer._ir import Node, Tensor, topological
from nann.export.scorer._ops import MOVED, is_extreme

# Of minus infinity these make numbers, as of what is masked.
_ABSORB = frozenset(["Erf", "Exp", "Relu", "Sigmoid", "Softmax", "Softplus", "Tanh"])
# Of this size a float has steps of 2e-5: what is added to it is rounded to more than scores may differ.
_LARGE = 256
# Of this size it has steps of 8: nothing is left of the others, in whatever order they are added.
_OVERWHELMING = 1e8
# The numbers of a result are those of the operands, products with them, and sums of such.
_OF_OPERANDS = frozenset(["BatchMatMulV2", "Neg", "Select", "SelectV2", "dot", "gather", "mul", *MOVED])
# Its numbers are those of the operands, but for their scale.
_SCALED = frozenset(["broadcast", "mul", "reshape", "slice", "transpose"])
_largest_of: weakref.WeakKeyDictionary[Node, float] = weakref.WeakKeyDictionary()


def is_large(x: Tensor) -> bool:
    """Whether a large constant, such as the -1e9 of a mask, is among its numbers, or a factor of them."""
    return _largest(x) > _LARGE


def adds_large(x: Tensor) -> bool:
    """Whether a large number is added to others: in which order, and what is done to the sum, then matters.

    Where a user has no events at all, a mask by -1e4 leaves steps of 1e-3 of all logits. Of one by -1e9 that
    is the same for all items no order leaves anything.
    """
    return x.op == "add" and any(
        is_large(each) and not (each.is_free and _largest(each) > _OVERWHELMING) for each in x.inputs
    )


def is_of_sum_with_large(x: Tensor) -> bool:
    """Whether such a sum is a factor of its numbers, whose last bits are then more than scores may differ."""

    def is_made(each: Tensor) -> bool:
        return each.op not in _SCALED

    factors = [each for node in topological([x], stop=is_made) for each in node.inputs]
    return any(adds_large(each) for each in (x, *factors))


def may_be_infinite(x: Tensor) -> bool:
    """Whether a constant that is not finite, such as the -inf of a mask, may be among its numbers.

    So may the logarithm of a mask, which is added to what it masks. The user's and the item's own numbers are
    taken for finite (docs/scorer-split.md#what-is-proven).
    """

    def is_finite(each: Tensor) -> bool:
        # The largest of some numbers is none of those that are masked: so numbers are sorted.
        return not each.dtype.is_floating or each.op in _ABSORB or is_extreme(each)

    return any(_is_infinite(node) for node in topological([x], stop=is_finite))


def _largest(x: Tensor) -> float:
    """The size of the largest constant among what its numbers are made of."""

    def is_known(each: Tensor) -> bool:
        return each.node in _largest_of

    for node in topological([x], stop=is_known):
        if node.value is not None:
            is_number = node.value.dtype.kind == "f" and node.value.size
            _largest_of[node] = float(np.abs(node.value).max()) if is_number else 0.0
        else:
            inputs = node.inputs if _is_of_operands(node) else ()
            _largest_of[node] = max((_largest_of[each.node] for each in inputs), default=0.0)
    return _largest_of[x.node]


def _is_of_operands(node: Node) -> bool:
    is_sum = node.op == "reduce" and node.attrs["function"] in ("Sum", "Mean")
    return is_sum or node.op in _OF_OPERANDS


def _is_infinite(node: Node) -> bool:
    if node.value is not None:
        return node.value.dtype.kind == "f" and not bool(np.isfinite(node.value).all())
    return node.op == "Log" and node.inputs[0].op == "Cast"
