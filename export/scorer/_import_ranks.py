"""Which place a number has among others, in our form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from nann.export.scorer._import_choices import MOST_ROWS, index_of, is_chosen, largest
from nann.export.scorer._import_ops import Found, Reading, integers
from nann.export.scorer._ir import constant
from nann.export.scorer._ops import both, cast, compare, negated, reduce_, reshape, select, unary

# Of numbers that are found one after the other.
_MOST_FOUND = 16


def is_among_largest(r: Reading) -> Found:
    """InTopKV2: whether fewer than k numbers of a row are above the target's; never beside one not finite."""
    x, target, k = r.inputs[0], r.inputs[1], integers(r.inputs[2])
    index = None if x.is_free else index_of(target, x, may_be_free=True)
    if index is None or k is None or x.dtype != tf.float32 or x.shape[1] > MOST_ROWS:
        return None
    is_target = is_chosen(index, x.shape[1])
    value = reduce_(select(is_target, x, constant(np.float32(0))), "Sum", [1])
    above = reduce_(cast(compare("Greater", x, reshape(value, (*value.shape, 1)))), "Sum", [1])
    is_finite = compare("LessEqual", unary("Abs", x), constant(np.finfo(np.float32).max))
    can_say = both(reduce_(is_finite, "All", [1]), reduce_(is_target, "Any", [1]))
    return both(can_say, compare("Less", above, constant(np.float32(k[0]))))


def nth(r: Reading) -> Found:
    """NthElement: the n-th smallest of a row, or the n-th largest."""
    x, n = r.inputs[0], integers(r.inputs[1])
    if x.is_free or n is None or x.dtype != tf.float32 or not 0 <= n[0] < _MOST_FOUND:
        return None
    if r.attr("reverse"):
        return reshape(largest(x, n[0] + 1)[-1][0], r.shape)
    return reshape(negated(largest(negated(x), n[0] + 1)[-1][0]), r.shape)


RANKS: dict[str, Callable[[Reading], Found]] = {"InTopKV2": is_among_largest, "NthElement": nth}
