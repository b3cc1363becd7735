"""Rules for pairs of the item and each row of the user, as in DIN: a product of all pairs is one of the item.

Row e of `(item * events) @ W` is `item @ (events[e] * W)`: the matrices of all events, side by side, are of
the user alone. The item is then multiplied once, and no pair is ever written.
"""

from __future__ import annotations

import math

import numpy as np

from nann.export.scorer._algebra import merged_products
from nann.export.scorer._ir import Tensor, Uses, constant
from nann.export.scorer._ops import add, broadcast, dot, mul, prelu, reshape, transpose
from nann.export.scorer._rewrite import Rule


def pairs_into_matrix(x: Tensor, _: Uses) -> Tensor | None:
    """dot(item [n, 1, k] * free [e, k], W) -> item [n, k] times a free matrix [k, e * m]."""
    if x.op != "dot" or x.rank != 3 or x.inputs[0].op != "mul":
        return None
    pairs, matrix = x.inputs
    free = [each for each in pairs.inputs if each.is_free]
    rest = [each for each in pairs.inputs if not each.is_free]
    if not free or not rest:
        return None
    item, events = mul(*rest), mul(*free)
    (n, e, m), k = x.shape, pairs.shape[-1]
    if e == 1 or item.shape != (n, 1, k) or math.prod(events.shape[:-2]) != 1 or events.shape[-2:] != (e, k):
        return None
    by_column = reshape(transpose(reshape(events, (e, k)), (1, 0)), (k, e, 1))
    of_all = reshape(mul(by_column, reshape(matrix, (k, 1, m))), (k, e * m))
    return reshape(dot(reshape(item, (n, k)), of_all), x.shape)


def summands_into_pairs(x: Tensor, _: Uses) -> Tensor | None:
    """[n, e * m] seen as [n, e, m] + free + dot(item, W) [n, 1, m] -> the sum of all, seen so."""
    if x.op != "add" or x.rank != 3 or x.shape[1] == 1:
        return None
    pairs = [each.inputs[0] for each in x.inputs if _is_of_pairs(each, x)]
    items = {term.inputs[0] for each in pairs for term in _terms(each) if term.op == "dot"}
    if not items:
        return None
    inside, outside = list[Tensor](), list[Tensor]()
    for each in x.inputs:
        found = _inside(each, x, items)
        (outside if found is None else inside).append(each if found is None else found)
    if len(inside) < 2:
        return None
    together = merged_products(term for each in inside for term in _terms(each))
    return add(reshape(add(*together), x.shape), *outside)


def _is_of_pairs(each: Tensor, x: Tensor) -> bool:
    """Whether it is [n, e * m] seen as [n, e, m]."""
    if each.is_free or each.op != "reshape" or each.shape != x.shape:
        return False
    return each.inputs[0].shape == (x.shape[0], x.shape[1] * x.shape[2])


def _terms(x: Tensor) -> tuple[Tensor, ...]:
    return x.inputs if x.op == "add" else (x,)


def _inside(each: Tensor, x: Tensor, items: set[Tensor]) -> Tensor | None:
    """A summand of [n, e, m] as one of [n, e * m]; None where it would have to be copied."""
    n, e, m = x.shape
    if _is_of_pairs(each, x):
        return each.inputs[0]
    if each.is_free:
        once = each if each.rank < 3 else reshape(each, each.shape[1:]) if each.shape[0] == 1 else None
        return None if once is None else reshape(broadcast(once, (e, m)), (e * m,))
    of_item = each.inputs[0] if each.op == "reshape" and each.shape == (n, 1, m) else each
    if of_item.op != "dot" or of_item.shape != (n, m) or of_item.inputs[0] not in items:
        return None
    item, matrix = of_item.inputs
    k = matrix.shape[0]
    return dot(item, reshape(broadcast(reshape(matrix, (k, 1, m)), (k, e, m)), (k, e * m)))


def slopes_of_pairs(x: Tensor, _: Uses) -> Tensor | None:
    """prelu([n, e * m] seen as [n, e, m], slopes [m]) -> prelu of [n, e * m], seen so."""
    if x.op != "prelu" or x.rank != 3 or not _is_of_pairs(x.inputs[0], x):
        return None
    flat, slope = x.inputs[0].inputs[0], x.inputs[1].value
    assert slope is not None
    if math.prod(slope.shape[:-2]) != 1:
        return None
    slopes = np.broadcast_to(slope.reshape(slope.shape[-2:]), x.shape[1:])
    return reshape(prelu(flat, constant(np.ascontiguousarray(slopes.reshape(-1)))), x.shape)


PAIRS: tuple[Rule, ...] = (pairs_into_matrix, summands_into_pairs, slopes_of_pairs)
