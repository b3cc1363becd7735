"""Infinities that a model has by itself, as masks: a product with ones and zeros would make NaNs of them."""

from __future__ import annotations

import numpy as np

from nann.export.scorer._ir import Node, Tensor, topological
from nann.export.scorer._ops import is_extreme

# Of minus infinity these make numbers, as of what is masked.
_ABSORB = frozenset(["Erf", "Exp", "Relu", "Sigmoid", "Softmax", "Softplus", "Tanh"])


def may_be_infinite(x: Tensor) -> bool:
    """Whether a constant that is not finite, such as the -inf of a mask, may be among its numbers.

    So may the logarithm of a mask, which is added to what it masks. The user's and the item's own numbers are
    taken for finite (docs/scorer-split.md#what-is-proven).
    """

    def is_finite(each: Tensor) -> bool:
        # The largest of some numbers is none of those that are masked: so numbers are sorted.
        return not each.dtype.is_floating or each.op in _ABSORB or is_extreme(each)

    return any(_is_infinite(node) for node in topological([x], stop=is_finite))


def _is_infinite(node: Node) -> bool:
    if node.value is not None:
        return node.value.dtype.kind == "f" and not bool(np.isfinite(node.value).all())
    return node.op == "Log" and node.inputs[0].op == "Cast"
