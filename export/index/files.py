"""The files of an index: an HNSW graph, level by level, memory-mapped.

A folder holds `index.json`, `enter_points.npy` and, for each walked level l, the neighbour lists of
all N nodes as `neighbors_level_{l}_values.npy` and `neighbors_level_{l}_row_splits.npy`.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError
from nann.export.items import Items
from nann.files import describe_array, load_array, staged_directory, write_json
from nann.ops.index_meta import (
    BUILD_INDEX,
    ENTER_POINTS,
    INDEX_JSON,
    IndexMeta,
    read_meta,
    row_splits_name,
    values_name,
)


@dataclass(frozen=True)
class Level:
    """Neighbour lists of one level: those of node i are `values[row_splits[i]:row_splits[i + 1]]`.

    values:     int32 [edges], positions 0..N-1.
    row_splits: int64 [N + 1], from 0 to `edges`, never decreasing.

    Example:
      >>> level = read_index("RUN/index").levels[0]
      >>> bool((level.neighbors(3) < 500).all())
      True
    """

    values: npt.NDArray[np.int32]
    row_splits: npt.NDArray[np.int64]

    def neighbors(self, node: int) -> npt.NDArray[np.int32]:
        """The list of one node, int32 [degree]."""
        return self.values[self.row_splits[node] : self.row_splits[node + 1]]


def with_links(level: Level, sources: npt.NDArray[np.int32], targets: npt.NDArray[np.int32]) -> Level:
    """The level with a link from each of `sources` to that of `targets`, added to the end of its list.

    Links of one list are added in the order of `targets`.

    Example:
      >>> level = Level(np.array([1], np.int32), np.array([0, 1, 1]))
      >>> with_links(level, np.array([1], np.int32), np.array([0], np.int32)).values
      array([1, 0], dtype=int32)
    """
    order = np.argsort(sources, kind="stable")
    sources, targets = sources[order], targets[order]
    values = np.insert(level.values, level.row_splits[1 + sources.astype(np.int64)], targets)
    added = np.cumsum(np.bincount(1 + sources.astype(np.int64), minlength=level.row_splits.size))
    return Level(values, level.row_splits + added)


@dataclass(frozen=True)
class GraphIndex:
    """The HNSW graph of an index.

    meta:         the content of index.json.
    enter_points: int32 [P], P >= 1, positions, each once.
    levels:       levels 0..start_level-1, the bottom one first.

    Example:
      >>> graph = read_index("RUN/index")
      >>> graph.meta.num_items, len(graph.levels), graph.enter_points.dtype
      (500, 2, dtype('int32'))
    """

    meta: IndexMeta
    enter_points: npt.NDArray[np.int32]
    levels: tuple[Level, ...]

    @property
    def level_topn_length(self) -> int:
        """Number of values of a request's `level_topn`: entry beam, one beam per hop, final k."""
        return self.meta.level_topn_length


def read_index(index_dir: str | os.PathLike[str]) -> GraphIndex:
    """Memory-map and fully validate the index in `index_dir`.

    Raises InvalidFileError, naming file, expected and actual, when a file is missing, has another type or
    shape, or holds a position outside of the graph.

    Example:
      >>> read_index("RUN/index").level_topn_length
      6
    """
    folder = Path(index_dir)
    meta = read_meta(folder)
    enter_points = _read_vector(folder / ENTER_POINTS, np.dtype(np.int32))
    _check_enter_points(folder / ENTER_POINTS, enter_points, meta.num_items)
    levels = tuple(_read_level(folder, level, meta.num_items) for level in range(meta.start_level))
    return GraphIndex(meta, enter_points, levels)


def write_index(index_dir: str | os.PathLike[str], graph: GraphIndex) -> None:
    """Write `graph` as the folder `index_dir`, replacing an older one.

    The folder is written beside and renamed: a reader sees the old index, then the new one. The written files
    are validated before that; InvalidFileError names what is wrong with `graph`.

    Example:
      >>> write_index("COPY/index", read_index("RUN/index"))
      >>> read_index("COPY/index").meta == read_index("RUN/index").meta
      True
    """
    with staged_directory(index_dir) as staged:
        write_json(staged / INDEX_JSON, dataclasses.asdict(graph.meta))
        np.save(staged / ENTER_POINTS, graph.enter_points)
        for number, level in enumerate(graph.levels):
            np.save(staged / values_name(number), level.values)
            np.save(staged / row_splits_name(number), level.row_splits)
        read_index(staged)


def _read_vector(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    array = load_array(path, next_step=BUILD_INDEX)
    if array.dtype != dtype or array.ndim != 1:
        raise InvalidFileError(
            f"{path}: expected {dtype} of rank 1, found {describe_array(array)}. {BUILD_INDEX}"
        )
    return array


def _check_enter_points(path: Path, enter_points: npt.NDArray[np.int32], num_items: int) -> None:
    if enter_points.size == 0:
        raise InvalidFileError(f"{path}: expected at least one entry point, found none. {BUILD_INDEX}")
    _check_positions(path, enter_points, num_items)
    if np.unique(enter_points).size != enter_points.size:
        raise InvalidFileError(f"{path}: expected each entry point once, found duplicates. {BUILD_INDEX}")


def _check_positions(path: Path, positions: npt.NDArray[np.int32], num_items: int) -> None:
    """Check that all positions are 0..num_items-1; allocates memory of their size only when one is not."""
    if positions.size and (positions.min() < 0 or positions.max() >= num_items):
        first = int(np.flatnonzero((positions < 0) | (positions >= num_items))[0])
        raise InvalidFileError(
            f"{path}: expected positions 0..{num_items - 1}, found {int(positions[first])} at [{first}]. "
            f"{BUILD_INDEX}"
        )


def _read_level(folder: Path, level: int, num_items: int) -> Level:
    values_path, splits_path = folder / values_name(level), folder / row_splits_name(level)
    values = _read_vector(values_path, np.dtype(np.int32))
    row_splits = _read_vector(splits_path, np.dtype(np.int64))
    _check_row_splits(splits_path, row_splits, num_items=num_items, edges=values.size)
    _check_positions(values_path, values, num_items)
    return Level(values, row_splits)


def _check_row_splits(path: Path, row_splits: npt.NDArray[np.int64], *, num_items: int, edges: int) -> None:
    if row_splits.size != num_items + 1:
        raise InvalidFileError(
            f"{path}: expected {num_items + 1} offsets (one more than the items), found {row_splits.size}. "
            f"{BUILD_INDEX}"
        )
    if row_splits[0] != 0 or row_splits[-1] != edges:
        raise InvalidFileError(
            f"{path}: expected offsets from 0 to {edges}, the number of neighbours, found "
            f"{int(row_splits[0])} to {int(row_splits[-1])}. {BUILD_INDEX}"
        )
    falling = np.flatnonzero(row_splits[1:] < row_splits[:-1])
    if falling.size:
        at = int(falling[0])
        raise InvalidFileError(
            f"{path}: expected offsets that never decrease, found {int(row_splits[at])} at [{at}] and "
            f"{int(row_splits[at + 1])} at [{at + 1}]. {BUILD_INDEX}"
        )


def check_graph_fits(index_dir: Path, graph: GraphIndex, items: Items) -> None:
    """Raise InvalidFileError when the index was built over another corpus."""
    expected, found = (items.num_items, items.dim), (graph.meta.num_items, graph.meta.dim)
    if expected != found:
        raise InvalidFileError(
            f"{index_dir}: expected an index over {expected[0]} items of dimension {expected[1]} as in "
            f"{items.embs_path}, found {found[0]} of {found[1]}. Build it again with `nann index`."
        )
