"""The choice of what to store: against trying every choice, and within the budget."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
import pytest

from nann.export.scorer._cost import NS_PER_BYTE, work_of
from nann.export.scorer._cut import cheapest_cut, table_width
from nann.export.scorer._ir import Tensor, topological
from nann.export.scorer._ops import add, concat, dot, mul, reshape, unary
from nann.export.scorer._rows import RowAnalysis
from support.splitting import TILE, item, user, weights

ITEM = item(8)


def _random_graph(seed: int) -> Tensor:
    """Some item-only tensors, of which some are read together with the user."""
    random = np.random.default_rng(seed)
    tensors = [ITEM]
    for number in range(6):
        x = tensors[random.integers(len(tensors))]
        y = tensors[random.integers(len(tensors))]
        width = int(random.choice([2, 4, 16, 48]))
        kinds = [
            lambda x=x, n=number, width=width: dot(x, weights(x.shape[1], width, seed=n)),
            lambda x=x: unary("Tanh", x),
            lambda x=x, y=y: concat([x, y], -1),
            lambda x=x, n=number: add(x, weights(x.shape[1], seed=n)),
        ]
        tensors.append(kinds[random.integers(len(kinds))]())
    read = [tensors[at] for at in sorted({int(at) for at in random.integers(1, len(tensors), 3)})]
    products = [dot(each, user(each.shape[1], 1, name=f"user{at}")) for at, each in enumerate(read)]
    return reshape(add(*products) if len(products) > 1 else products[0], (TILE,))


def _cost(output: Tensor, stored: tuple[Tensor, ...]) -> float | None:
    """ns an item when exactly `stored` is gathered; None when one of them is not needed then."""
    left = topological([output], stop=stored.__contains__)
    read = {each for node in left for each in node.inputs if each.is_item_only and each in stored}
    if read != set(stored) or any(node is ITEM.node for node in left):
        return None
    work = work_of(node for node in left if Tensor(node).is_item_only)
    return work.ns / TILE + sum(4 * each.size // TILE * NS_PER_BYTE for each in stored)


def _best_by_trying(output: Tensor, max_width: int) -> float:
    candidates = [Tensor(node) for node in topological([output]) if Tensor(node).is_item_only]
    subsets = chain.from_iterable(combinations(candidates, count) for count in range(1, len(candidates) + 1))
    costs = [
        cost
        for stored in subsets
        if table_width([each for each in stored if each != ITEM], TILE) <= max_width
        if (cost := _cost(output, stored)) is not None
    ]
    return min(costs)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("max_width", [10_000, 32, 16, 0])
def test_no_choice_is_cheaper(seed: int, max_width: int) -> None:
    output = _random_graph(seed)
    found = cheapest_cut(output, ITEM, RowAnalysis(ITEM), max_width=max_width)
    assert table_width([each for each in found if each != ITEM], TILE) <= max_width
    cost = _cost(output, tuple(found))
    assert cost is not None
    assert cost == pytest.approx(_best_by_trying(output, max_width), rel=1e-4)


def test_a_wide_product_is_computed_again_where_that_is_cheaper_than_reading_it() -> None:
    wide = dot(ITEM, weights(8, 512))
    output = reshape(dot(wide, user(512, 1)), (TILE,))
    assert cheapest_cut(output, ITEM, RowAnalysis(ITEM), max_width=10_000) == [ITEM]


def test_what_mixes_items_is_not_stored_nor_what_is_made_of_it() -> None:
    mixed = unary("Tanh", mul(ITEM, weights(TILE, 1)))
    output = reshape(dot(mixed, user(8, 1)), (TILE,))
    assert cheapest_cut(output, ITEM, RowAnalysis(ITEM), max_width=10_000) == [ITEM]


def test_rows_start_cache_lines() -> None:
    assert table_width([ITEM], TILE) == 16
    assert table_width([dot(ITEM, weights(8, 16)), dot(ITEM, weights(8, 1))], TILE) == 32
    assert table_width([], TILE) == 0
