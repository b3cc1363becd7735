"""Infinities that a model has by itself, as masks, and large numbers in place of them.

A product with ones and zeros would make NaNs of infinities. A small number is lost in a large one that is
added to it.
"""

from __future__ import annotations

import numpy as np

from nann.export.scorer._ir import Node, Tensor, topological
from nann.export.scorer._ops import is_extreme

# Of minus infinity these make numbers, as of what is masked.
_ABSORB = frozenset(["Erf", "Exp", "Relu", "Sigmoid", "Softmax", "Softplus", "Tanh"])
# Of this size a float has steps of 2e-5: what is added to it is rounded to more than scores may differ.
_LARGE = 256
# The numbers of a result are those of the operands, but for their sign.
_OF_OPERANDS = frozenset(["Neg", "broadcast", "mul", "reshape", "slice", "transpose"])


def is_large(x: Tensor) -> bool:
    """Whether a large constant, such as the -1e9 of a mask, is a factor of its numbers."""

    def is_made(each: Tensor) -> bool:
        return each.value is None and each.op not in _OF_OPERANDS

    return any(_is_large(node) for node in topological([x], stop=is_made))


def adds_large(x: Tensor) -> bool:
    """Whether a large number of each item is added to others."""
    return x.op == "add" and any(is_large(each) for each in x.inputs if not each.is_free)


def may_be_infinite(x: Tensor) -> bool:
    """Whether a constant that is not finite, such as the -inf of a mask, may be among its numbers.

    So may the logarithm of a mask, which is added to what it masks. The user's and the item's own numbers are
    taken for finite (docs/scorer-split.md#what-is-proven).
    """

    def is_finite(each: Tensor) -> bool:
        # The largest of some numbers is none of those that are masked: so numbers are sorted.
        return not each.dtype.is_floating or each.op in _ABSORB or is_extreme(each)

    return any(_is_infinite(node) for node in topological([x], stop=is_finite))


def _is_large(node: Node) -> bool:
    value = node.value
    return value is not None and value.dtype.kind == "f" and bool(np.any(np.abs(value) > _LARGE))


def _is_infinite(node: Node) -> bool:
    if node.value is not None:
        return node.value.dtype.kind == "f" and not bool(np.isfinite(node.value).all())
    return node.op == "Log" and node.inputs[0].op == "Cast"
