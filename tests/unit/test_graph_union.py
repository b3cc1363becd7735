"""The union of two graphs against Python's sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nann.export.index import union
from nann.export.index.files import GraphIndex, Level
from nann.export.index.union import union_of_graphs
from nann.ops.index_meta import IndexMeta

Links = list[set[int]]


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[Links, Links]:
    """Neighbours of every node in two graphs over the same nodes."""
    items = draw(st.integers(1, 12))
    node = st.sets(st.integers(0, items - 1), max_size=items)
    links = st.lists(node, min_size=items, max_size=items)
    return draw(links), draw(links)


def _graph(links: Links, m: int) -> GraphIndex:
    row_splits = np.cumsum([0, *map(len, links)]).astype(np.int64)
    # Neighbour lists come in no order.
    values = np.array([node for row in links for node in sorted(row, reverse=True)], np.int32)
    level = Level(values, row_splits)
    return GraphIndex(IndexMeta(1, len(links), 2, "ip", m, 40, 1, (3,)), np.zeros(1, np.int32), (level,))


@given(_pairs())
def test_every_link_of_both_is_there_once(pair: tuple[Links, Links]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(union, "CHUNK_ROWS", 5)
        united = union_of_graphs(_graph(pair[0], 4), _graph(pair[1], 6))
    level = united.levels[0]
    rows = np.split(level.values, level.row_splits[1:-1])
    assert [sorted(row.tolist()) for row in rows] == [sorted(a | b) for a, b in zip(*pair, strict=True)]
    assert (level.values.dtype, level.row_splits.dtype) == (np.int32, np.int64)
    assert (united.meta.m, united.meta.metric, united.meta.ef_construction) == (10, "ip", 40)
