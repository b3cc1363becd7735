"""Joining the links of two graphs over the same items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nann.export.index.files import GraphIndex, Level
from nann.export.items import CHUNK_ROWS


def union_of_graphs(first: GraphIndex, second: GraphIndex) -> GraphIndex:
    """A graph with every link of both, each once.

    Both must be over the same items and have the same levels. Entry points, metric and ef_construction are
    those of `first`; m is the sum.
    """
    meta = replace(first.meta, m=first.meta.m + second.meta.m)
    levels = tuple(_union(*levels) for levels in zip(first.levels, second.levels, strict=True))
    return GraphIndex(meta, first.enter_points, levels)


def _union(first: Level, second: Level) -> Level:
    num_items = first.row_splits.size - 1
    row_splits = np.zeros(num_items + 1, np.int64)
    values = []
    for start in range(0, num_items, CHUNK_ROWS):
        stop = min(start + CHUNK_ROWS, num_items)
        links = np.unique(np.concatenate([_links(level, start, stop) for level in (first, second)]))
        row_splits[1 + start : 1 + stop] = np.bincount(links // num_items, minlength=stop - start)
        values.append((links % num_items).astype(np.int32))
    np.cumsum(row_splits, out=row_splits)
    return Level(np.concatenate(values), row_splits)


def _links(level: Level, start: int, stop: int) -> npt.NDArray[np.int64]:
    """The links of the nodes start..stop-1, each as one number: (node - start) * N + neighbour."""
    num_items = level.row_splits.size - 1
    nodes = np.repeat(np.arange(stop - start), np.diff(level.row_splits[start : stop + 1]))
    return nodes * num_items + level.values[level.row_splits[start] : level.row_splits[stop]]
