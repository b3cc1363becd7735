"""Converting an HNSW graph of faiss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.export.index.entry_points import choose_entry_points
from nann.export.index.files import GraphIndex, Level
from nann.export.items import CHUNK_ROWS, Items, repeated_ids, some_ids
from nann.ops.index_meta import FORMAT_VERSION, IndexMeta, default_hops
from nann.progress import OnProgress

# Walks enter at some of the nodes of the start level, and reach the others by the links of the level below.
MOST_ENTER_POINTS = 2048
# The original NANN's.
_LEAST_START_LEVEL = 2
# Spread over the corpus: enough to notice other embeddings or another order, few enough to take no time.
_COMPARED_ROWS = 1024
FAISS_METRICS = {"l2": faiss.METRIC_L2, "ip": faiss.METRIC_INNER_PRODUCT}
_METRICS = {metric: name for name, metric in FAISS_METRICS.items()}


def convert_faiss_index(
    index: Any,
    items: Items,
    *,
    start_level: int | None = None,
    choose: bool | None = None,
    hops_per_level: tuple[int, ...] | None = None,
    on_progress: OnProgress | None = None,
    name: str = "faiss index",
) -> GraphIndex:
    """Convert an `IndexHNSWFlat`, or an `IndexIDMap` around one, over the vectors of `items`.

    start_level:    S; None is the smallest S >= 2 at which at most 2,048 nodes live.
    choose:         whether 64 to 128 entry points are chosen, spread over the corpus; False takes all nodes
                    at level S or above, as the original does. None chooses where `start_level` is None.
    hops_per_level: hops of levels 0..S-1; None is three at level 0 and one at each level above.
    name:           the name of the index in messages, for example its path.

    A plain index must hold the items in the order of `items.ids`. The rows of an `IndexIDMap` may have any
    order. Raises InvalidInputError when the index is of another kind, metric, dimension, size or content.

    Example:
      >>> import faiss
      >>> items = read_items("RUN")
      >>> faiss_index = faiss.IndexHNSWFlat(items.dim, 16)
      >>> faiss_index.add(items.embs)
      >>> graph = convert_faiss_index(faiss_index, items)
      >>> graph.meta.num_items, graph.meta.m
      (500, 16)
    """
    hnsw_index, id_map = _unwrap(index, name)
    _check_against_items(hnsw_index, items, name)
    node_of_position = None if id_map is None else _match_ids(id_map, items, name)
    _check_vectors(hnsw_index, items, node_of_position, name)

    graph = _FaissGraph(hnsw_index.hnsw, node_of_position)
    choose = start_level is None if choose is None else choose
    start_level = _auto_start_level(graph.node_levels) if start_level is None else start_level
    hops = default_hops(start_level) if hops_per_level is None else tuple(hops_per_level)
    meta = IndexMeta(
        format_version=FORMAT_VERSION,
        num_items=items.num_items,
        dim=items.dim,
        metric=_METRICS[hnsw_index.metric_type],
        m=graph.neighbors_at(1) or graph.neighbors_at(0) // 2,
        ef_construction=int(hnsw_index.hnsw.efConstruction),
        start_level=start_level,
        hops_per_level=hops,
        chosen_entry_points=choose,
    )
    levels = tuple(graph.level(level, on_progress) for level in range(start_level))
    if choose:
        return GraphIndex(meta, choose_entry_points(graph.node_levels, start_level, items), levels)
    return GraphIndex(meta, graph.enter_points(start_level), levels)


def read_faiss_index(path: str | Path) -> Any:
    """Read an index file of faiss; InvalidFileError when it is missing or of another kind."""
    path = Path(path)
    if not path.is_file():
        raise InvalidFileError(
            f"{path}: expected an index file of faiss, found no such file. Check the path."
        )
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise InvalidFileError(
            f"{path}: expected an index file of faiss, found a file that faiss cannot read ({error}). "
            f"Write it with faiss.write_index."
        ) from error


class _FaissGraph:
    """The graph of a faiss index, by positions in the order of the items.

    faiss stores `level + 1` for each node, and one array of neighbours with a slot of fixed width for each
    node and level. A slot is filled from the left; -1 is empty.
    """

    def __init__(self, hnsw: Any, node_of_position: npt.NDArray[np.int64] | None) -> None:
        self._hnsw = hnsw  # Owns the memory of the views below.
        self._neighbors = _view(hnsw.neighbors)
        self._offsets = _view(hnsw.offsets)
        self._cumulated = faiss.vector_to_array(hnsw.cum_nneighbor_per_level).astype(np.int64)
        levels = _view(hnsw.levels)
        self._node_of_position = node_of_position
        self._position_of_node: npt.NDArray[np.int32] | None = None
        if node_of_position is not None:
            self._position_of_node = np.empty(levels.size, np.int32)
            self._position_of_node[node_of_position] = np.arange(levels.size, dtype=np.int32)
            levels = levels[node_of_position]
        self.node_levels: npt.NDArray[np.int32] = levels

    def neighbors_at(self, level: int) -> int:
        """Width of a slot at `level`; 0 for a level without slots."""
        if level + 1 >= self._cumulated.size:
            return 0
        return int(self._cumulated[level + 1] - self._cumulated[level])

    def enter_points(self, start_level: int) -> npt.NDArray[np.int32]:
        """Positions of the nodes present at `start_level`; without any, the graph's own entry point."""
        present = np.flatnonzero(self.node_levels > start_level).astype(np.int32)
        if present.size:
            return present
        return self._to_positions(np.array([self._hnsw.entry_point], np.int32))

    def level(self, level: int, on_progress: OnProgress | None) -> Level:
        """Neighbour lists of one level; two passes, so that the values are in memory only once."""
        num_items = self.node_levels.size
        row_splits = np.zeros(num_items + 1, np.int64)
        stage = f"convert level {level}"
        for start in range(0, num_items, CHUNK_ROWS):
            nodes, block = self._slots(level, start)
            row_splits[1 + nodes] = (block >= 0).sum(axis=1)
            if on_progress is not None:
                on_progress(stage, min(start + CHUNK_ROWS, num_items), 2 * num_items)
        np.cumsum(row_splits, out=row_splits)
        values = np.empty(row_splits[-1], np.int32)
        for start in range(0, num_items, CHUNK_ROWS):
            _, block = self._slots(level, start)
            stop = min(start + CHUNK_ROWS, num_items)
            values[row_splits[start] : row_splits[stop]] = self._to_positions(block[block >= 0])
            if on_progress is not None:
                on_progress(stage, num_items + stop, 2 * num_items)
        return Level(values, row_splits)

    def _slots(self, level: int, start: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """The positions of a chunk that are present at `level`, and their slots [present, width]."""
        present = start + np.flatnonzero(self.node_levels[start : start + CHUNK_ROWS] > level)
        width = self.neighbors_at(level)
        if present.size == 0 or width == 0:
            return present[:0], np.zeros((0, width), np.int32)
        nodes = present if self._node_of_position is None else self._node_of_position[present]
        first = self._offsets[nodes].astype(np.int64) + self._cumulated[level]
        return present, self._neighbors[first[:, None] + np.arange(width)]

    def _to_positions(self, nodes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        return nodes if self._position_of_node is None else self._position_of_node[nodes]


def _view(vector: Any) -> npt.NDArray[Any]:
    """A faiss vector as an array, without a copy; valid as long as its owner exists."""
    view: npt.NDArray[Any] = faiss.rev_swig_ptr(vector.data(), vector.size())
    return view


def _auto_start_level(node_levels: npt.NDArray[np.int32]) -> int:
    """The smallest S >= 2 at which at most 2,048 nodes live."""
    nodes_with = np.bincount(node_levels, minlength=_LEAST_START_LEVEL + 2)
    present = node_levels.size - np.cumsum(nodes_with)  # present[s]: nodes whose number is > s
    return int(np.flatnonzero(present[_LEAST_START_LEVEL:] <= MOST_ENTER_POINTS)[0]) + _LEAST_START_LEVEL


def _unwrap(index: Any, name: str) -> tuple[Any, npt.NDArray[np.int64] | None]:
    """The HNSW index, and the ids of an `IndexIDMap`. The caller keeps `index`, which owns both, alive."""
    id_map = None
    inner: Any = index
    if isinstance(index, faiss.IndexIDMap):
        id_map = faiss.vector_to_array(index.id_map)
        inner = faiss.downcast_index(index.index)
    if not isinstance(inner, faiss.IndexHNSWFlat):
        raise InvalidInputError(
            f"{name}: expected IndexHNSWFlat, or IndexIDMap around it, found {type(inner).__name__}. "
            f"Build one with faiss, or let `nann index` build the graph."
        )
    if inner.metric_type not in _METRICS:
        raise InvalidInputError(
            f"{name}: expected the metric L2 or inner product, found faiss metric {inner.metric_type}. "
            f"Build it with faiss.METRIC_L2, or let `nann index` build the graph."
        )
    return inner, id_map


def _check_against_items(index: Any, items: Items, name: str) -> None:
    if index.d != items.dim:
        raise InvalidInputError(
            f"{name}: expected dimension {items.dim} as in {items.embs_path}, found {index.d}. "
            f"Build the index over these embeddings."
        )
    if index.ntotal != items.num_items:
        raise InvalidInputError(
            f"{name}: expected {items.num_items} vectors as in {items.embs_path}, found {index.ntotal}. "
            f"Build the index over these embeddings."
        )


def _match_ids(id_map: npt.NDArray[np.int64], items: Items, name: str) -> npt.NDArray[np.int64]:
    """The node of the index that holds the item of each position, int64 [N]."""
    by_id, by_map = np.argsort(items.ids), np.argsort(id_map)
    if not np.array_equal(items.ids[by_id], id_map[by_map]):
        # There are as many vectors as items, so an id is missing for each foreign or repeated one.
        differences = {
            "missing": np.setdiff1d(items.ids, id_map),
            "foreign": np.setdiff1d(id_map, items.ids),
            "repeated": repeated_ids(id_map),
        }
        found = ", ".join(
            f"{ids.size} {what} ({some_ids(ids)})" for what, ids in differences.items() if ids.size
        )
        raise InvalidInputError(
            f"{name}: expected the ids of {items.ids_path}, each once, found {found}. "
            f"Build the index over these items."
        )
    nodes = np.empty(items.num_items, np.int64)
    nodes[by_id] = by_map
    return nodes


def _check_vectors(
    index: Any, items: Items, node_of_position: npt.NDArray[np.int64] | None, name: str
) -> None:
    """Compare a sample of the vectors: walks over the graph of other embeddings find nothing."""
    count = min(_COMPARED_ROWS, items.num_items)
    positions = np.linspace(0, items.num_items - 1, count).astype(np.int64)
    nodes = positions if node_of_position is None else node_of_position[positions]
    found = index.storage.reconstruct_batch(nodes)
    expected = np.asarray(items.embs[positions], np.float32)
    tolerance = 1e-2 * np.abs(expected).max(axis=1, keepdims=True) + 1e-6  # Equal up to float16.
    wrong = np.flatnonzero((np.abs(found - expected) > tolerance).any(axis=1))
    if wrong.size:
        raise InvalidInputError(
            f"{name}: expected the vectors of {items.embs_path}, found others in {wrong.size} of {count} "
            f"compared rows, first at row {positions[wrong[0]]}. Build the index over these embeddings, "
            f"in their order, or with their ids (IndexIDMap)."
        )
