"""Positions in an order that keeps near items near in memory.

A walk gathers the rows of neighbours, which are near in embedding space. With their rows on the same pages,
a gather meets fewer page-table walks and more open DRAM rows. Item ids and answers stay the same.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from nann.export.index.files import GraphIndex, Level, check_graph_fits, read_index, write_index
from nann.export.items import CHUNK_ROWS, Items, read_items, write_part_of_run
from nann.progress import OnProgress

_ITEMS_A_CLUSTER = 256
_MAX_CLUSTERS = 4096
_TRAINING_POINTS_A_CLUSTER = 64


def locality_order(items: Items, *, on_progress: OnProgress | None = None) -> npt.NDArray[np.int64]:
    """Rows [N] in the order of their k-means clusters; a corpus of one cluster stays as it is."""
    clusters = min(items.num_items // _ITEMS_A_CLUSTER, _MAX_CLUSTERS)
    if clusters < 2:
        return np.arange(items.num_items)
    drawn = np.random.default_rng(0).permutation(items.num_items)[: clusters * _TRAINING_POINTS_A_CLUSTER]
    kmeans = faiss.Kmeans(items.dim, clusters, niter=6, seed=1)
    kmeans.train(np.asarray(items.embs[np.sort(drawn)], np.float32))
    cluster = np.empty(items.num_items, np.int32)
    for start, chunk in items.chunks():
        _, nearest = kmeans.index.search(np.asarray(chunk, np.float32), 1)
        cluster[start : start + len(chunk)] = nearest[:, 0]
        if on_progress is not None:
            on_progress("order items", start + len(chunk), items.num_items)
    return np.argsort(cluster, kind="stable")


def reordered(graph: GraphIndex, order: npt.NDArray[np.int64]) -> GraphIndex:
    """The same graph with position p for what was row order[p]."""
    position = np.empty(order.size, np.int32)
    position[order] = np.arange(order.size, dtype=np.int32)
    levels = tuple(_reordered_level(level, order, position) for level in graph.levels)
    return GraphIndex(graph.meta, np.sort(position[graph.enter_points]), levels)


@contextlib.contextmanager
def reordered_run(run_dir: Path, beside: Path, *, on_progress: OnProgress | None = None) -> Iterator[Path]:
    """A temporary run in the folder `beside`: `run_dir` in `locality_order`, as far as an export reads it.

    Raises InvalidFileError when the run's embeddings or index are damaged or do not fit each other.
    """
    items, graph = read_items(run_dir, on_progress=on_progress), read_index(run_dir / "index")
    check_graph_fits(run_dir / "index", graph, items)
    beside.mkdir(parents=True, exist_ok=True)
    # Hidden, so that no server takes it for a version; an export links its files before they go.
    with tempfile.TemporaryDirectory(dir=beside, prefix=".run-") as folder:
        order = locality_order(items, on_progress=on_progress)
        write_part_of_run(Path(folder), run_dir, items, order)
        write_index(Path(folder) / "index", reordered(graph, order))
        yield Path(folder)


def _reordered_level(level: Level, order: npt.NDArray[np.int64], position: npt.NDArray[Any]) -> Level:
    lengths = np.diff(level.row_splits)[order]
    row_splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.empty(row_splits[-1], np.int32)
    for start in range(0, order.size, CHUNK_ROWS):
        rows = order[start : start + CHUNK_ROWS]
        begin, end = row_splits[start], row_splits[start + rows.size]
        # Where each value of these rows stood: its row's start, and how far it is into the row.
        into = np.arange(begin, end) - np.repeat(
            row_splits[start : start + rows.size], lengths[start : start + rows.size]
        )
        old = np.repeat(level.row_splits[rows], lengths[start : start + rows.size]) + into
        values[begin:end] = position[level.values[old]]
    return Level(values, row_splits)
