"""Reordering positions, so that near items are near in memory.

A walk gathers the rows of neighbours, which are near in embedding space. When these rows share pages, a
gather has fewer page-table walks and more open DRAM rows. Item ids and answers stay the same.
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

# Rows of 64 floats: 64 KB, sixteen pages.
_ITEMS_PER_CLUSTER = 256
# k-means compares every item with every centroid: more would make large exports slow.
_MAX_CLUSTERS = 4096
# faiss warns below 39.
_TRAINING_POINTS_PER_CLUSTER = 64


def locality_order(items: Items, *, on_progress: OnProgress | None = None) -> npt.NDArray[np.int64]:
    """The rows 0..N-1 ordered by k-means cluster; a corpus of one cluster keeps its order."""
    clusters = min(items.num_items // _ITEMS_PER_CLUSTER, _MAX_CLUSTERS)
    if clusters < 2:
        return np.arange(items.num_items)
    drawn = np.random.default_rng(0).permutation(items.num_items)[: clusters * _TRAINING_POINTS_PER_CLUSTER]
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
    """The same graph, in which the node `order[p]` gets the position p."""
    position = np.empty(order.size, np.int32)
    position[order] = np.arange(order.size, dtype=np.int32)
    levels = tuple(_reordered_level(level, order, position) for level in graph.levels)
    return GraphIndex(graph.meta, np.sort(position[graph.enter_points]), levels)


@contextlib.contextmanager
def reordered_run(run_dir: Path, beside: Path, *, on_progress: OnProgress | None = None) -> Iterator[Path]:
    """Yield a temporary run, in the folder `beside`, with the items of `run_dir` in `locality_order`.

    It holds what an export reads: embeddings, vocabularies and index. Raises InvalidFileError when embeddings
    or index are damaged or do not fit each other.
    """
    items, graph = read_items(run_dir, on_progress=on_progress), read_index(run_dir / "index")
    check_graph_fits(run_dir / "index", graph, items)
    beside.mkdir(parents=True, exist_ok=True)
    # Hidden, so that no server takes it for a version. An export links its files before they are deleted.
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
        # The old place of each value: the start of its row plus its offset within the row.
        into = np.arange(begin, end) - np.repeat(
            row_splits[start : start + rows.size], lengths[start : start + rows.size]
        )
        old = np.repeat(level.row_splits[rows], lengths[start : start + rows.size]) + into
        values[begin:end] = position[level.values[old]]
    return Level(values, row_splits)
