"""Layers over the rows of an item: products from the left, in place of transposes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nann.export.scorer._ir import Tensor, constant, count_uses
from nann.export.scorer._mixed_rows import (
    MIXED_ROWS,
    late_transpose_of_operands,
    late_transpose_of_slice,
    matrix_from_left,
)
from nann.export.scorer._ops import add, dot, mul, slice_, transpose, unary
from nann.export.scorer._rewrite import Rule, rewrite
from support.splitting import TILE, item, ops_of, user, value_of, weights

X = item(5, 8)


def swapped(x: Tensor) -> Tensor:
    """Rows as columns."""
    return transpose(x, (0, 2, 1))


CASES: dict[str, tuple[Rule, Callable[[], Tensor], list[str] | None]] = {
    "a layer over the rows": (
        matrix_from_left, lambda: dot(swapped(X), weights(5, 3)), ["BatchMatMulV2", "transpose"]
    ),
    "a layer over the columns": (matrix_from_left, lambda: dot(X, weights(8, 3)), None),
    "bias and residual": (
        late_transpose_of_operands,
        lambda: add(swapped(X), user(5, name="bias"), swapped(unary("Tanh", X))),
        ["reshape", "Tanh", "add", "transpose"],
    ),
    "a number for all": (
        late_transpose_of_operands, lambda: mul(swapped(X), constant(np.float32(3))), ["mul", "transpose"]
    ),
    "an operand that lies otherwise": (
        late_transpose_of_operands, lambda: mul(swapped(X), unary("Tanh", item(8, 5))), None
    ),
    "a part": (
        late_transpose_of_slice,
        lambda: slice_(swapped(X), (0, 2, 1), (TILE, 4, 3)),
        ["slice", "transpose"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    rule, make, ops = CASES[name]
    before = make()
    after = rule(before, count_uses([before]))
    if ops is None:
        assert after is None
        return
    assert after is not None
    assert ops_of(after) == ops
    np.testing.assert_allclose(value_of(after), value_of(before), rtol=1e-5, atol=1e-5)


def test_a_mixer_has_no_transposes() -> None:
    """Two layers over the rows with a gate and a residual, as a mixer has them."""
    hidden = add(dot(swapped(X), weights(5, 7)), weights(7, seed=1))
    gated = mul(hidden, unary("Sigmoid", hidden))
    before = add(X, swapped(add(dot(gated, weights(7, 5, seed=2)), weights(5, seed=3))))
    after = rewrite(before, MIXED_ROWS)
    assert ops_of(after) == ["BatchMatMulV2", "add", "Sigmoid", "mul", "BatchMatMulV2", "add", "add"]
    np.testing.assert_allclose(value_of(after), value_of(before), rtol=1e-5, atol=1e-5)
