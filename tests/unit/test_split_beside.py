"""Rows of the user above a row of the item are computed once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer._beside import late_rows
from nann.export.scorer._ir import Tensor, count_uses
from nann.export.scorer._ops import (
    add,
    broadcast,
    concat,
    dot,
    mul,
    reduce_,
    reshape,
    select,
    unary,
)
from nann.export.scorer._rewrite import Rule
from support.splitting import item, user, value_of, weights

EVENTS = broadcast(user(1, 5, 8, name="events"), (6, 5, 8))
STACK = concat([EVENTS, reshape(item(8), (6, 1, 8))], 1)  # [6, 6, 8]
OTHER = concat(
    [broadcast(user(5, 8, name="other"), (6, 5, 8)), reshape(unary("Tanh", item(8)), (6, 1, 8))], 1
)
FLAGS = user(6, 1, name="flags", dtype=tf.bool)
W = weights(8, 4)


CASES: dict[str, tuple[Rule, Callable[[], Tensor]]] = {
    "a layer": (late_rows, lambda: dot(STACK, W)),
    "softmax of rows": (late_rows, lambda: unary("Softmax", STACK)),
    "a function": (late_rows, lambda: unary("Sigmoid", STACK)),
    "a sum of two": (late_rows, lambda: add(STACK, OTHER)),
    "a factor of each row": (late_rows, lambda: mul(STACK, user(6, 1, name="factor"))),
    "where": (late_rows, lambda: select(FLAGS, STACK, OTHER)),
    "a mean of each row": (late_rows, lambda: reduce_(STACK, "Mean", [2])),
    "heads": (late_rows, lambda: reshape(STACK, (6, 6, 2, 4))),
}

LEFT_ALONE: dict[str, tuple[Rule, Callable[[], Tensor]]] = {
    "a layer of columns side by side": (
        late_rows,
        lambda: dot(concat([broadcast(user(8, name="row"), (6, 8)), item(8)], 1), weights(16, 4)),
    ),
    "a sum with rows of the item": (late_rows, lambda: add(STACK, item(6, 8))),
    "a product with the item": (late_rows, lambda: mul(STACK, item(1, 8))),
    "a mean over the rows": (late_rows, lambda: reduce_(STACK, "Mean", [1])),
    "rows of items alone": (late_rows, lambda: dot(concat([item(2, 8), item(1, 8)], 1), W)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_values_stay(name: str) -> None:
    rule, make = CASES[name]
    before = make()
    after = rule(before, count_uses([before]))
    assert after is not None
    assert after.shape == before.shape
    assert after.op == "concat"
    np.testing.assert_allclose(value_of(after), value_of(before), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_is_left_alone(name: str) -> None:
    rule, make = LEFT_ALONE[name]
    before = make()
    assert rule(before, count_uses([before])) is None
