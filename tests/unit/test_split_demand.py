"""What nothing reads is not computed: the values stay, and less of them is made."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from nann.export.scorer._demand import only_what_is_read
from nann.export.scorer._ir import Tensor, topological
from nann.export.scorer._ops import (
    add,
    broadcast,
    concat,
    dot,
    matmul,
    mul,
    reduce_,
    reshape,
    select,
    slice_,
    transpose,
    unary,
)
from support.splitting import item, user, value_of, weights

DEEP = unary("Tanh", item(5, 8))  # [6, 5, 8]
HEADS = unary("Tanh", item(2, 5, 4))  # [6, 2, 5, 4]
W = weights(8, 4)


def last_row(x: Tensor) -> Tensor:
    """[..., rows, columns] -> [..., 1, columns]."""
    return slice_(x, [*[0] * (x.rank - 2), x.shape[-2] - 1, 0], [*x.shape[:-2], 1, x.shape[-1]])


def attention() -> Tensor:
    """[6, 2, 5, 4]."""
    weights_ = unary("Softmax", matmul(HEADS, transpose(HEADS, (0, 1, 3, 2))))
    return matmul(weights_, HEADS)


# Each ends in a part of something; that part is all that is computed.
CASES: dict[str, Callable[[], Tensor]] = {
    "a row of a layer": lambda: last_row(dot(DEEP, W)),
    "a row of a sum": lambda: last_row(add(DEEP, user(5, 1, name="bias"))),
    "a row of softmax": lambda: last_row(unary("Softmax", DEEP)),
    "a row of a product": lambda: last_row(matmul(DEEP, transpose(DEEP, (0, 2, 1)))),
    "a column of a product": lambda: slice_(matmul(DEEP, transpose(DEEP, (0, 2, 1))), (0, 0, 1), (6, 5, 1)),
    "a row of a transpose": lambda: last_row(transpose(DEEP, (0, 2, 1))),
    "a row of heads": lambda: slice_(reshape(DEEP, (6, 5, 2, 4)), (0, 4, 0, 0), (6, 1, 2, 4)),
    "a row of what has an axis more": lambda: last_row(reshape(DEEP, (6, 1, 5, 8))),
    "a row of an axis in two": lambda: slice_(reshape(DEEP, (6, 5, 4, 2)), (0, 1, 2, 0), (6, 1, 1, 2)),
    "a number of each": lambda: slice_(reduce_(item(3, 5, 8), "Max", [1]), (0, 2, 0), (6, 1, 8)),
    "a row of where": lambda: last_row(
        select(user(5, 1, name="flags", dtype=tf.bool), DEEP, unary("Exp", DEEP))
    ),
    "a row of two, side by side": lambda: last_row(concat([DEEP, unary("Exp", DEEP)], 2)),
    "a row of two, one above the other": lambda: last_row(concat([DEEP, unary("Exp", DEEP)], 1)),
    "a row of a broadcast": lambda: last_row(broadcast(unary("Tanh", item(5, 1)), (6, 5, 8))),
    "a row and some columns": lambda: slice_(unary("Exp", DEEP), (0, 2, 3), (6, 1, 2)),
    "a row of attention": lambda: last_row(attention()),
    "a row of attention, head by head": lambda: last_row(
        concat([slice_(attention(), (0, head, 0, 0), (6, 1, 5, 4)) for head in range(2)], 3)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_part_is_computed_of_parts(name: str) -> None:
    before = CASES[name]()
    after = only_what_is_read(before)
    assert after.shape == before.shape
    np.testing.assert_allclose(value_of(after), value_of(before), rtol=1e-5, atol=1e-5)
    assert _made_of(after) < _made_of(before)
    assert only_what_is_read(after) == after


def _made_of(output: Tensor) -> int:
    """The numbers that are computed, without copies."""
    nodes = topological([output])
    moved = {"slice", "reshape", "transpose", "concat", "broadcast"}
    computed = [each for each in nodes if each.inputs and each.op not in moved]
    copied = [each for each in nodes if each.op in moved]
    return sum(Tensor(each).size for each in computed or copied)


def test_attention_has_queries_for_what_is_read() -> None:
    after = only_what_is_read(last_row(attention()))
    products = [Tensor(each).shape for each in topological([after]) if each.op == "BatchMatMulV2"]
    assert products == [(6, 2, 1, 5), (6, 2, 1, 4)]


def test_two_parts_are_computed_together() -> None:
    whole = dot(DEEP, W)
    parts = [slice_(whole, (0, row, 0), (6, 1, 4)) for row in (1, 3)]
    after = only_what_is_read(mul(*parts))
    products = [Tensor(each).shape for each in topological([after]) if each.op == "dot"]
    assert products == [(6, 3, 4)]
    np.testing.assert_allclose(value_of(after), value_of(mul(*parts)), rtol=1e-5)


LEFT_ALONE: dict[str, Callable[[], Tensor]] = {
    "softmax along the cut": lambda: slice_(unary("Softmax", item(3, 5)), (0, 0, 2), (6, 3, 2)),
    "columns of a layer": lambda: slice_(dot(DEEP, W), (0, 0, 1), (6, 5, 2)),
    "what is read elsewhere": lambda: mul(last_row(dot(DEEP, W)), dot(DEEP, W)),
    "all of it, in parts": lambda: mul(
        *(slice_(dot(DEEP, W), (0, 0, column), (6, 5, 2)) for column in (0, 2))
    ),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_is_left_alone(name: str) -> None:
    before = LEFT_ALONE[name]()
    assert only_what_is_read(before) == before


@given(st.data())
def test_a_part_of_any_reshape(data: st.DataObject) -> None:
    factors = data.draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=5))
    before = unary("Neg", item(*_merged(data, factors)))
    seen = reshape(before, (6, *_merged(data, factors)))
    begins, sizes = [0], [6]
    for n in seen.shape[1:]:
        begins.append(data.draw(st.integers(0, n - 1)))
        sizes.append(data.draw(st.integers(1, n - begins[-1])))
    part = slice_(seen, begins, sizes)
    after = only_what_is_read(part)
    np.testing.assert_array_equal(value_of(after), value_of(part))


def _merged(data: st.DataObject, factors: list[int]) -> list[int]:
    """Some axes of as many elements as the product of the factors, each the product of some neighbours."""
    cuts = sorted(data.draw(st.sets(st.integers(1, len(factors)), max_size=len(factors))) | {len(factors)})
    return [math.prod(factors[a:b]) for a, b in zip([0, *cuts], cuts, strict=False)]
