"""Pairs of the item and each row of the user are one product of the item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer._ir import Tensor, constant, count_uses
from nann.export.scorer._lower import lower
from nann.export.scorer._ops import add, columns, dot, mul, prelu, reshape
from nann.export.scorer._pairs import pairs_into_matrix, slopes_of_pairs, summands_into_pairs
from nann.export.scorer._program import Opcode
from nann.export.scorer._rewrite import Rule
from support.splitting import item, ops_of, split, user, value_of, weights

ITEM = item(8)
OTHER = columns(ITEM, 0, 4)
ROW = reshape(ITEM, (6, 1, 8))
EVENTS = user(5, 8, name="events")
W = weights(8, 4)
FLAT = dot(ITEM, user(8, 20, name="matrix"))
PAIRS = reshape(FLAT, (6, 5, 4))
SLOPE = constant(np.linspace(0.1, 0.8, 4), np.float32)

CASES: dict[str, tuple[Rule, Callable[[], Tensor], int]] = {
    "pairs": (pairs_into_matrix, lambda: dot(mul(ROW, EVENTS), W), 1),
    "pairs of one column": (pairs_into_matrix, lambda: dot(mul(ROW, EVENTS), weights(8, 1)), 1),
    "pairs with two factors": (
        pairs_into_matrix,
        lambda: dot(mul(ROW, EVENTS, reshape(user(5, name="mask"), (5, 1))), W),
        1,
    ),
    "a summand of the user and one of the item": (
        summands_into_pairs,
        lambda: add(PAIRS, reshape(dot(ITEM, W), (6, 1, 4)), user(5, 4, name="bias"), weights(4)),
        1,
    ),
    "a summand of another row stays outside": (
        summands_into_pairs,
        lambda: add(PAIRS, reshape(dot(OTHER, weights(4, 4)), (6, 1, 4)), weights(4)),
        2,
    ),
    "slopes": (slopes_of_pairs, lambda: prelu(PAIRS, SLOPE), 1),
    "slopes of each row": (
        slopes_of_pairs,
        lambda: prelu(PAIRS, constant(np.ones((1, 5, 4)), np.float32)),
        1,
    ),
}
LEFT_ALONE: dict[str, tuple[Rule, Callable[[], Tensor]]] = {
    "rows of the item": (pairs_into_matrix, lambda: dot(mul(item(5, 8), EVENTS), W)),
    "a row of the user": (pairs_into_matrix, lambda: dot(mul(item(5, 8), user(8, name="row")), W)),
    "one event": (pairs_into_matrix, lambda: dot(mul(ROW, user(1, 8, name="one")), W)),
    "another product": (summands_into_pairs, lambda: add(reshape(item(20), (6, 5, 4)), weights(4))),
    "nothing to add": (
        summands_into_pairs,
        lambda: add(PAIRS, reshape(dot(OTHER, weights(4, 4)), (6, 1, 4))),
    ),
    "slopes of a matrix": (slopes_of_pairs, lambda: prelu(item(5, 4), SLOPE)),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_rule_makes(name: str) -> None:
    rule, before, products = CASES[name]
    found = rule(before(), count_uses([before()]))
    assert found is not None
    assert ops_of(found).count("dot") == products
    assert (found.shape, found.dtype) == (before().shape, before().dtype)
    np.testing.assert_allclose(value_of(found), value_of(before()), rtol=1e-4, atol=1e-5)
    again = rule(found, count_uses([found]))
    assert again is None or again == found


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_a_rule_leaves_alone(name: str) -> None:
    rule, before = LEFT_ALONE[name]
    assert rule(before(), count_uses([before()])) is None


@pytest.mark.parametrize("batch", [True, False])
def test_a_network_of_pairs_is_a_product_and_a_dot_product(batch: bool) -> None:
    """As in DIN, with the rows of the item broadcast or repeated."""
    first, second = (tf.constant(np.random.default_rng(0).normal(size=shape), tf.float32) for shape in
                     ((32, 12), (12, 1)))  # fmt: skip

    def score(state: Any, rows: tf.Tensor) -> tf.Tensor:
        n = rows.shape[0]
        events = tf.repeat(state["events"][tf.newaxis], n, 0) if batch else state["events"]
        query = tf.repeat(rows[:, tf.newaxis], 5, 1)
        events = tf.broadcast_to(events, query.shape)
        pairs = tf.concat([query, events, query - events, query * events], -1)
        hidden = tf.nn.leaky_relu(tf.tensordot(pairs, first, 1) + 0.1, 0.2)
        return tf.reduce_sum(tf.tensordot(hidden, second, 1)[..., 0] * state["mask"], -1)

    result = split(score, events=[5, 8], mask=[5])
    assert result.ir is not None
    views = (Opcode.TABLE, Opcode.SLICE, Opcode.REARRANGE, Opcode.RESHAPE)
    instructions = lower(result.ir).instructions
    found = [each.opcode.name for each in instructions if each.shape.per_item and each.opcode not in views]
    assert found.count("GEMM") == 1
    assert set(found) <= {"GEMM", "SIMILARITY", "BINARY"}


def test_a_large_matrix_is_of_the_user() -> None:
    """What is too large for a constant is computed once per request."""
    result = split(
        lambda state, rows: tf.reduce_sum(
            tf.nn.relu(tf.tensordot(rows[:, tf.newaxis] * state["events"], weights(8, 700).value, 1)), [1, 2]
        ),
        events=[60, 8],
    )
    assert [8, 42_000] in [each["shape"] for each in result.report.user_tensors]
