"""Einsum and batched products in our form: the same numbers, by operations of which there are few."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer._cleanup import CLEANUP
from nann.export.scorer._einsum import einsum
from nann.export.scorer._ir import Tensor
from nann.export.scorer._ops import broadcast
from nann.export.scorer._rewrite import rewrite
from support.splitting import item, ops_of, split, user, value_of

SIZES = {"b": 6, "l": 5, "m": 3, "h": 2, "d": 4, "e": 4}
SHAPED = ("reshape", "transpose")


def operand(labels: str, *, of_item: bool, name: str) -> Tensor:
    shape = [SIZES[label] for label in labels]
    return item(*shape[1:]) if of_item else user(*shape, name=name)


@pytest.mark.parametrize(
    ("equation", "ops"),
    [
        ("bd,de->be", ["dot"]),  # a layer
        ("bld,de->ble", ["dot"]),  # a layer on rows
        ("bd,ld->bl", ["dot"]),  # attention to events of the user
        ("bld,bd->bl", ["BatchMatMulV2"]),
        ("bl,bld->bd", ["BatchMatMulV2"]),
        ("blhd,bmhd->bhlm", ["BatchMatMulV2"]),  # heads
        ("bhlm,bmhd->blhd", ["BatchMatMulV2"]),
        ("bd,be->bde", ["mul"]),  # an outer product
        ("bd,bd->bd", ["mul"]),
        ("bd,bd->b", ["BatchMatMulV2"]),
        ("bld,bmd->b", ["reduce", "reduce", "BatchMatMulV2"]),
        ("bld->bd", ["reduce"]),
        ("bld->dbl", []),
        ("bd,de,em->bm", ["dot", "dot"]),
        ("b...d,bde->b...e", ["BatchMatMulV2"]),
        ("...d,de->...e", ["dot"]),
        ("bll->bl", ["slice", "slice", "slice", "concat"]),  # a diagonal
        ("bldl,bd->b", ["slice", "slice", "slice", "concat", "reduce", "BatchMatMulV2"]),
    ],
)
def test_an_equation(equation: str, ops: list[str]) -> None:
    hidden = {"b...d": "bld", "...d": "bd", "b...e": "ble"}
    labels = [hidden.get(each, each) for each in equation.split("->")[0].split(",")]
    operands = [
        operand(each, of_item=each.startswith("b") and at == 0, name=f"operand_{at}")
        for at, each in enumerate(labels)
    ]
    found = einsum(equation, operands)
    assert found is not None
    assert [op for op in ops_of(found) if op not in SHAPED] == ops
    expected = np.einsum(equation, *(value_of(each) for each in operands))
    np.testing.assert_allclose(value_of(found), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("equation", ["llb->llb", "bd,be->bbd", "ld,dl"])
def test_what_has_no_form_of_ours(equation: str) -> None:
    labels = re.split(",", equation.split("->")[0])
    operands = [operand(each, of_item=False, name=f"operand_{at}") for at, each in enumerate(labels)]
    assert einsum(equation, operands) is None


def test_a_user_that_is_repeated_is_multiplied_once() -> None:
    """Attention over a batch: the events of the user, repeated, become the matrix of a product."""
    events = broadcast(user(5, 4, name="events"), (6, 5, 4))
    for equation, operands in (("bld,bd->bl", [events, item(4)]), ("bl,bld->bd", [item(5), events])):
        product = einsum(equation, operands)
        assert product is not None
        rewritten = rewrite(product, CLEANUP, free_rules=CLEANUP)
        assert [op for op in ops_of(rewritten) if op not in SHAPED] == ["dot"]
        np.testing.assert_allclose(value_of(rewritten), value_of(product), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True), (True, True)])
def test_products_of_integers_are_left_as_they_are(flags: tuple[bool, bool]) -> None:
    """They have flags of their own, which are no transposes of ours."""

    def score(state: Any, x: tf.Tensor) -> tf.Tensor:
        numbers = tf.cast(4.0 * x, tf.int32)
        left = tf.reshape(numbers, [-1, 4, 2] if flags[0] else [-1, 2, 4])
        right = tf.reshape(state["right"], [1, 2, 4] if flags[1] else [1, 4, 2])
        product = tf.matmul(left, right, transpose_a=flags[0], transpose_b=flags[1])
        return tf.reduce_sum(tf.cast(product, tf.float32) * 0.1, [1, 2])

    split(score, right=tf.TensorSpec([8], tf.int32))
