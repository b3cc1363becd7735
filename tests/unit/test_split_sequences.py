"""Rules for sequences and heads: the same values, in a form that costs less."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from nann.export.scorer import _ops
from nann.export.scorer._beside import late_rows
from nann.export.scorer._ir import Tensor, constant
from nann.export.scorer._rewrite import Rule
from nann.export.scorer._sequences import (
    bias_of_heads,
    items_apart,
    scalar_before_transpose,
    scale_into_matmul,
)
from support.splitting import TILE, item, user, value_of, weights

_HEADS = _ops.reshape(item(3, 8), (TILE, 3, 2, 4))
_TURNED = _ops.transpose(_HEADS, (0, 2, 1, 3))
_TWO = constant(np.float32(2))


def _with_user_rows() -> Tensor:
    return _ops.concat([_ops.broadcast(user(2, 8), (TILE, 2, 8)), item(3, 8)], 1)


@pytest.mark.parametrize(
    ("rule", "before", "form"),
    [
        (bias_of_heads, _ops.add(_HEADS, weights(2, 4)), ["reshape", "add"]),
        (bias_of_heads, _ops.mul(_HEADS, user(2, 4), _TWO), ["reshape", "mul"]),
        (scalar_before_transpose, _ops.mul(_TURNED, _TWO), ["transpose", "mul"]),
        (scale_into_matmul, _ops.mul(_ops.matmul(item(3, 3), item(3, 3)), _TWO), ["BatchMatMulV2", "mul"]),
        (
            items_apart,
            _ops.dot(_ops.reshape(_HEADS, (TILE * 3, 8)), weights(8, 5)),
            ["reshape", "dot"],
        ),
    ],
)
def test_a_rule_keeps_the_values(rule: Rule, before: Tensor, form: list[str]) -> None:
    after = rule(before, Counter())
    assert after is not None
    found, names = after, []
    for _ in form:
        names.append(found.op)
        found = found.inputs[0]
    assert names == form
    np.testing.assert_allclose(value_of(after), value_of(before), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "x"),
    [
        (bias_of_heads, _ops.add(_HEADS, weights(3, 1, 4))),
        (bias_of_heads, _ops.add(_HEADS, weights(4))),
        (scale_into_matmul, _ops.mul(_ops.matmul(item(3, 3), item(3, 3)), weights(3))),
        (items_apart, _ops.dot(_ops.reshape(item(3, 8), (TILE, 24)), weights(24, 5))),
    ],
)
def test_a_rule_leaves_other_forms(rule: Rule, x: Tensor) -> None:
    assert rule(x, Counter()) is None


def test_rows_of_the_user_are_multiplied_once() -> None:
    before = _ops.dot(_with_user_rows(), weights(8, 5))
    after = late_rows(before, Counter())
    assert after is not None
    assert [each.op for each in (after, *after.inputs)] == ["concat", "dot", "dot"]
    np.testing.assert_allclose(value_of(after), value_of(before), rtol=1e-5, atol=1e-6)
    of_items = _ops.dot(_ops.concat([item(3, 8), item(3, 8)], 1), weights(8, 5))
    assert late_rows(of_items, Counter()) is None
