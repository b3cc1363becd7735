"""The files of an index: an HNSW graph cut into levels, as arrays that are memory-mapped.

A folder holds `index.json`, `enter_points.npy` and, for each walked level l, the neighbour lists of
all N nodes as `neighbors_level_{l}_values.npy` and `neighbors_level_{l}_row_splits.npy`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.ops._publish import staged_directory

FORMAT_VERSION = 1
MAX_BEAM = 65_536
INDEX_JSON = "index.json"
METRICS = ("l2", "ip")
ENTER_POINTS = "enter_points.npy"

_BUILD_AGAIN = "Build the index again with `nann index`."


@dataclass(frozen=True)
class IndexMeta:
    """What `index.json` holds.

    `metric` says by which closeness of embeddings nodes were linked: one of `METRICS`, Euclidean distance, or
    inner product (alone, or beside links by distance). The walk itself asks the scorer only.
    `hops_per_level[l]` is the number of hops of level l, for l = 0..start_level-1.
    """

    format_version: int
    num_items: int
    dim: int
    metric: str
    m: int
    ef_construction: int
    start_level: int
    hops_per_level: tuple[int, ...]

    @property
    def level_topn_length(self) -> int:
        """Number of values of a request's `level_topn`: entry beam, one a hop, final k."""
        return 1 + sum(self.hops_per_level) + 1


@dataclass(frozen=True)
class Level:
    """Neighbour lists of one level: those of node i are `values[row_splits[i]:row_splits[i + 1]]`.

    values:     int32 [edges], positions 0..N-1.
    row_splits: int64 [N + 1], from 0 to `edges`, never decreasing.
    """

    values: npt.NDArray[np.int32]
    row_splits: npt.NDArray[np.int64]


@dataclass(frozen=True)
class GraphIndex:
    """A graph ready to be walked.

    enter_points: int32 [P], P >= 1, positions, each once.
    levels:       `levels[l]` for l = 0..start_level-1.
    """

    meta: IndexMeta
    enter_points: npt.NDArray[np.int32]
    levels: tuple[Level, ...]

    @property
    def level_topn_length(self) -> int:
        """Number of values of a request's `level_topn`: entry beam, one a hop, final k."""
        return self.meta.level_topn_length


def values_name(level: int) -> str:
    """File name of a level's neighbour positions."""
    return f"neighbors_level_{level}_values.npy"


def row_splits_name(level: int) -> str:
    """File name of a level's offsets."""
    return f"neighbors_level_{level}_row_splits.npy"


def index_file_names(meta: IndexMeta) -> list[str]:
    """Every file of an index folder, `index.json` first."""
    names = [INDEX_JSON, ENTER_POINTS]
    for level in range(meta.start_level):
        names += [values_name(level), row_splits_name(level)]
    return names


def default_hops(start_level: int) -> tuple[int, ...]:
    """Hops of levels 0..start_level-1: three at level 0, one at each level above."""
    return (3,) + (1,) * (start_level - 1)


def default_level_topn(meta: IndexMeta) -> npt.NDArray[np.int32]:
    """The default beams, int32 [1 + hops + 1]: 100 entry points, 200 a hop, final k 200."""
    return np.array([100] + [200] * (meta.level_topn_length - 1), np.int32)


def read_index(index_dir: str | os.PathLike[str]) -> GraphIndex:
    """Memory-map and fully validate the index in `index_dir`.

    Raises InvalidFileError, naming the file, what was expected and what was found, when a file is
    missing, is not what its name says, or points outside of the graph.
    """
    folder = Path(index_dir)
    meta = read_meta(folder)
    enter_points = _read_vector(folder / ENTER_POINTS, np.dtype(np.int32))
    _check_enter_points(folder / ENTER_POINTS, enter_points, meta.num_items)
    levels = tuple(_read_level(folder, level, meta.num_items) for level in range(meta.start_level))
    return GraphIndex(meta, enter_points, levels)


def write_index(index_dir: str | os.PathLike[str], graph: GraphIndex) -> None:
    """Write `graph` as the folder `index_dir`, replacing one that is there.

    The folder is written beside and renamed: a reader sees the old index, then the new one. What was
    written is validated before it is published (InvalidFileError).
    """
    with staged_directory(index_dir) as staged:
        document = dataclasses.asdict(graph.meta)
        (staged / INDEX_JSON).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        np.save(staged / ENTER_POINTS, graph.enter_points)
        for number, level in enumerate(graph.levels):
            np.save(staged / values_name(number), level.values)
            np.save(staged / row_splits_name(number), level.row_splits)
        read_index(staged)


def load_array(path: str | os.PathLike[str], *, next_step: str) -> npt.NDArray[Any]:
    """Memory-map an .npy file read-only; InvalidFileError ends with `next_step` when it cannot be read."""
    path = Path(path)
    if not path.is_file():
        raise InvalidFileError(f"{path}: expected an .npy file, found none. {next_step}")
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (
        ValueError,
        OSError,
        EOFError,
        OverflowError,
        SyntaxError,
        MemoryError,
        tokenize.TokenError,
    ) as error:
        raise InvalidFileError(
            f"{path}: expected a whole .npy file, found {path.stat().st_size} bytes that cannot be "
            f"read as one ({error}). {next_step}"
        ) from error
    if not isinstance(array, np.ndarray):
        raise InvalidFileError(f"{path}: expected one .npy array, found an archive. {next_step}")
    return array


def read_meta(index_dir: str | os.PathLike[str]) -> IndexMeta:
    """Read `index.json` of the index in `index_dir`.

    Raises InvalidFileError when it is missing, is not JSON, or does not describe an index.
    """
    path = Path(index_dir) / INDEX_JSON
    if not path.is_file():
        raise InvalidFileError(
            f"{path}: expected the description of an index, found no such file. {_BUILD_AGAIN}"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidFileError(f"{path}: expected a JSON object, found {error}. {_BUILD_AGAIN}") from error
    if not isinstance(document, dict):
        raise InvalidFileError(
            f"{path}: expected a JSON object, found {type(document).__name__}. {_BUILD_AGAIN}"
        )
    version = document.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise InvalidFileError(
            f"{path}: expected format_version {FORMAT_VERSION}, found {version!r}. Build the index again "
            f"with this version of nann, or use the version that wrote it."
        )
    return _check_meta(path, document)


def _check_meta(path: Path, document: dict[str, Any]) -> IndexMeta:
    smallest = {"num_items": 1, "dim": 1, "m": 0, "ef_construction": 0, "start_level": 1}
    largest = 2**31 - 1
    for name, minimum in smallest.items():
        value = document.get(name)
        if not _is_int(value) or not minimum <= value <= largest:
            raise InvalidFileError(
                f"{path}: expected {name} to be an integer {minimum}..{largest}, found {value!r}. "
                f"{_BUILD_AGAIN}"
            )
    if document.get("metric") not in METRICS:
        raise InvalidFileError(
            f"{path}: expected metric {' or '.join(map(repr, METRICS))}, found {document.get('metric')!r}. "
            f"{_BUILD_AGAIN}"
        )
    hops = document.get("hops_per_level")
    levels = document["start_level"]
    if (
        not isinstance(hops, list)
        or len(hops) != levels
        or not all(_is_int(h) and 1 <= h <= 1000 for h in hops)
    ):
        raise InvalidFileError(
            f"{path}: expected hops_per_level to be {levels} integers 1..1000, found {hops!r}. {_BUILD_AGAIN}"
        )
    names = [field.name for field in dataclasses.fields(IndexMeta)]
    return IndexMeta(**{**{name: document[name] for name in names}, "hops_per_level": tuple(hops)})


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _read_vector(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    array = load_array(path, next_step=_BUILD_AGAIN)
    if array.dtype != dtype or array.ndim != 1:
        raise InvalidFileError(
            f"{path}: expected {dtype} of rank 1, found {array.dtype} of shape {list(array.shape)}. "
            f"{_BUILD_AGAIN}"
        )
    return array


def _check_enter_points(path: Path, enter_points: npt.NDArray[np.int32], num_items: int) -> None:
    if enter_points.size == 0:
        raise InvalidFileError(f"{path}: expected at least one entry point, found none. {_BUILD_AGAIN}")
    _check_positions(path, enter_points, num_items)
    if np.unique(enter_points).size != enter_points.size:
        raise InvalidFileError(f"{path}: expected each entry point once, found duplicates. {_BUILD_AGAIN}")


def _check_positions(path: Path, positions: npt.NDArray[np.int32], num_items: int) -> None:
    """All of `positions` are 0..num_items-1. Allocates nothing of their size unless one is not."""
    if positions.size and (positions.min() < 0 or positions.max() >= num_items):
        first = int(np.flatnonzero((positions < 0) | (positions >= num_items))[0])
        raise InvalidFileError(
            f"{path}: expected positions 0..{num_items - 1}, found {int(positions[first])} at [{first}]. "
            f"{_BUILD_AGAIN}"
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
            f"{_BUILD_AGAIN}"
        )
    if row_splits[0] != 0 or row_splits[-1] != edges:
        raise InvalidFileError(
            f"{path}: expected offsets from 0 to {edges}, the number of neighbours, found "
            f"{int(row_splits[0])} to {int(row_splits[-1])}. {_BUILD_AGAIN}"
        )
    falling = np.flatnonzero(row_splits[1:] < row_splits[:-1])
    if falling.size:
        at = int(falling[0])
        raise InvalidFileError(
            f"{path}: expected offsets that never decrease, found {int(row_splits[at])} at [{at}] and "
            f"{int(row_splits[at + 1])} at [{at + 1}]. {_BUILD_AGAIN}"
        )


def check_level_topn(level_topn: Sequence[int] | npt.NDArray[Any], meta: IndexMeta) -> npt.NDArray[np.int32]:
    """Return `level_topn` as int32 [n]; InvalidInputError when its length or a value does not fit `meta`."""
    beams = np.asarray(level_topn)
    if beams.ndim != 1 or beams.size != meta.level_topn_length or not np.issubdtype(beams.dtype, np.integer):
        raise InvalidInputError(
            f"level_topn: expected {meta.level_topn_length} integers (entry beam, one a hop, final k), found "
            f"{beams.dtype} of shape {list(beams.shape)}. The index has hops {list(meta.hops_per_level)}."
        )
    if beams.min() < 1 or beams.max() > MAX_BEAM:
        raise InvalidInputError(f"level_topn: expected values 1..{MAX_BEAM}, found {beams.tolist()}.")
    return beams.astype(np.int32)
