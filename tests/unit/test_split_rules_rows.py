"""Rewrites of rows: outer products, rows that are taken twice, rows of the user beside one of the item."""

from __future__ import annotations

import pytest

from nann.export.scorer import _beside, _cleanup, _outer, _taken
from nann.export.scorer._ir import Tensor
from nann.export.scorer._ops import (
    add,
    broadcast,
    columns,
    concat,
    dot,
    matmul,
    mul,
    reduce_,
    reshape,
    slice_,
    transpose,
    unary,
)
from support.rewrites import Case, check
from support.splitting import item, user, weights

FIELDS = unary("Tanh", item(3, 8))
EVENTS = broadcast(user(1, 4, 8, name="events"), (6, 4, 8))
MORE = broadcast(user(1, 4, 2, name="more"), (6, 4, 2))
BESIDE = concat([EVENTS, item(1, 8)], 1)


COLUMNS = reshape(transpose(FIELDS, (0, 2, 1)), (6, 1, 8, 3))
FIRST = slice_(FIELDS, (0, 0, 0), (6, 1, 8))


def row(at: int) -> Tensor:
    """A field, [n, 1, 8]."""
    return slice_(FIELDS, (0, at, 0), (6, 1, 8))


_BOTH = 2 * ["slice", "reshape"]


def stacked_heads() -> Tensor:
    """Two heads of the events above the item, [n, 2, 5, 4]."""
    heads = [concat([columns(part, at, at + 4) for part in BESIDE.inputs], 1) for at in (0, 4)]
    return concat([reshape(each, (6, 1, 5, 4)) for each in heads], 1)


CASES = {
    "an outer product of rows": Case(
        _outer.outer_into_matrix,
        lambda: dot(
            reshape(
                mul(reshape(item(3, 8), (6, 3, 8, 1)), reshape(columns(item(3, 8), 0, 4), (6, 3, 1, 4))),
                (6, 3, 32),
            ),
            weights(32, 5),
        ),
        ["reshape", "slice", "dot", "reshape", "BatchMatMulV2", "reshape"],
    ),
    "an outer product of a row of the user": Case(
        _outer.outer_into_matrix,
        lambda: dot(reshape(mul(item(3, 8, 1), user(3, 1, 4)), (6, 3, 32)), weights(32, 5)),
        None,
    ),
    "an outer product that is transposed": Case(
        _outer.outer_into_matrix,
        lambda: dot(
            reshape(transpose(mul(reshape(FIELDS, (6, 3, 8, 1)), COLUMNS), (0, 2, 1, 3)), (6, 8, 9)),
            weights(9, 5),
        ),
        [
            "Tanh",
            "reshape",
            "transpose",
            "reshape",
            "transpose",
            "dot",
            "reshape",
            "BatchMatMulV2",
            "reshape",
        ],
    ),
    "a product of fields for each pair": Case(
        _taken.product_of_taken,
        lambda: dot(concat([broadcast(row(0), (6, 2, 8)), row(1), row(2)], 1), weights(8, 5)),
        ["Tanh", "dot", "slice", "broadcast", "slice", "slice", "concat"],
    ),
    "a product of fields that are taken once": Case(
        _taken.product_of_taken, lambda: dot(concat([row(2), row(0), row(1)], 1), weights(8, 5)), None
    ),
    "products of pairs": Case(
        _taken.elementwise_of_parts,
        lambda: mul(
            concat([broadcast(row(0), (6, 2, 8)), row(1)], 1),
            concat([slice_(FIELDS, (0, 1, 0), (6, 2, 8)), row(2)], 1),
        ),
        ["Tanh", "slice", "broadcast", "slice", "mul", "slice", "slice", "mul", "concat"],
    ),
    "parts that were cut otherwise": Case(
        _taken.elementwise_of_parts,
        lambda: mul(
            concat([broadcast(row(0), (6, 2, 8)), row(1)], 1),
            concat([row(1), slice_(FIELDS, (0, 1, 0), (6, 2, 8))], 1),
        ),
        None,
    ),
    "columns beside columns of user and item": Case(
        _beside.late_rows,
        lambda: concat([BESIDE, concat([MORE, columns(item(1, 8), 0, 2)], 1)], 2),
        ["broadcast", "broadcast", "concat", "slice", "concat", "concat"],
    ),
    "a row times keys of user and item": Case(
        _beside.product_of_rows,
        lambda: matmul(FIRST, concat([transpose(EVENTS, (0, 2, 1)), reshape(item(1, 8), (6, 8, 1))], 2)),
        ["Tanh", "slice", "broadcast", "transpose", "BatchMatMulV2", "reshape", "BatchMatMulV2", "concat"],
    ),
    "a row of weights times values of user and item": Case(
        _beside.product_of_rows,
        lambda: matmul(columns(item(1, 8), 0, 5), BESIDE),
        ["slice", "broadcast", "BatchMatMulV2", "slice", "BatchMatMulV2", "add"],
    ),
    "a row times stacked heads of keys": Case(
        _beside.product_of_rows,
        lambda: matmul(
            reshape(item(1, 8), (6, 2, 1, 4)),
            transpose(
                stacked_heads(),
                (0, 1, 3, 2),
            ),
        ),
        [
            "reshape",
            "broadcast",
            *_BOTH,
            "concat",
            "transpose",
            "BatchMatMulV2",
            *_BOTH,
            "concat",
            "reshape",
            "BatchMatMulV2",
            "concat",
        ],
    ),
    "a row of weights times stacked heads of values": Case(
        _beside.product_of_rows,
        lambda: matmul(
            reshape(concat([item(1, 8), columns(item(1, 8), 0, 2)], 2), (6, 2, 1, 5)),
            stacked_heads(),
        ),
        [
            "slice",
            "concat",
            "reshape",
            "slice",
            "broadcast",
            *_BOTH,
            "concat",
            "BatchMatMulV2",
            "slice",
            *_BOTH,
            "concat",
            "BatchMatMulV2",
            "add",
        ],
    ),
    "a norm of groups of one channel": Case(
        _cleanup.without_last_axis,
        lambda: add(reshape(item(3, 8), (6, 3, 8, 1)), weights(3, 1, 1)),
        ["add", "reshape"],
    ),
    "a mean of groups of one channel": Case(
        _cleanup.without_last_axis,
        lambda: reduce_(reshape(item(3, 8), (6, 3, 8, 1)), "Mean", [1, 3]),
        ["reduce"],
    ),
    "a number for each event": Case(
        _cleanup.without_last_axis, lambda: mul(columns(item(3, 8), 0, 1), weights(3, 1)), None
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    check(CASES[name])
