"""The content of `index.json`, and what follows from it: file names, hops, the beams of a request."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.files import read_json

FORMAT_VERSION = 1
MAX_BEAM = 65_536
INDEX_JSON = "index.json"
METRICS = ("l2", "ip")
ENTER_POINTS = "enter_points.npy"

BUILD_INDEX = "Build the index with `nann index`."


@dataclass(frozen=True)
class IndexMeta:
    """The content of `index.json`.

    format_version:  version of the files.
    num_items:       N.
    dim:             D, the width of an item embedding.
    metric:          how nodes were linked: "l2" by Euclidean distance, "ip" by inner product (alone, or
                     beside links by distance). A walk does not depend on it: it asks the scorer.
    m:               neighbours of a node at each level above 0; twice as many at level 0.
    ef_construction: candidates looked at when a node was linked; 0 where it is not known.
    start_level:     S: levels 0..S-1 are walked, nodes at level S or above are the entry points.
    hops_per_level:  hops of levels 0..S-1.
    seed:            of the levels of the nodes; None where it is not known, as for an imported index.
    num_copies:      items whose vector an item with a smaller id has too: they hang on that item in place of
                     being linked as others are. None where it is not known, as for an older index.
    chosen_entry_points: whether 64 to 128 entry points were chosen. Otherwise they are all nodes at level S
                     or above.

    Example:
      >>> meta = index.meta
      >>> meta.num_items, meta.dim, meta.metric, meta.start_level, meta.hops_per_level
      (500, 8, 'l2', 2, (3, 1))
    """

    format_version: int
    num_items: int
    dim: int
    metric: str
    m: int
    ef_construction: int
    start_level: int
    hops_per_level: tuple[int, ...]
    seed: int | None = None
    num_copies: int | None = None
    chosen_entry_points: bool = False

    @property
    def level_topn_length(self) -> int:
        """Number of values of a request's `level_topn`: entry beam, one beam per hop, final k."""
        return 1 + sum(self.hops_per_level) + 1


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
    """Hops of levels 0..start_level-1: three at level 0, one at each level above.

    Example:
      >>> default_hops(2)
      (3, 1)
    """
    return (3,) + (1,) * (start_level - 1)


def default_level_topn(meta: IndexMeta) -> npt.NDArray[np.int32]:
    """The default beams, int32 [1 + hops + 1]: 100 entry points, 200 per hop, 200 results.

    Example:
      >>> default_level_topn(index.meta)
      array([100, 200, 200, 200, 200, 200], dtype=int32)
    """
    return np.array([100] + [200] * (meta.level_topn_length - 1), np.int32)


def level_0_beam(meta: IndexMeta, level_topn: Sequence[int] | npt.NDArray[np.int32]) -> int:
    """The widest beam of level 0.

    Example:
      >>> level_0_beam(index.meta, [100, 200, 50, 60, 50, 10])
      60
    """
    return int(max(level_topn[-1 - meta.hops_per_level[0] : -1]))


def with_level_0_beam(
    meta: IndexMeta, level_topn: Sequence[int] | npt.NDArray[np.int32], width: int
) -> list[int]:
    """`level_topn` with every beam of level 0 at `width`.

    Example:
      >>> with_level_0_beam(index.meta, [100, 200, 200, 200, 200, 10], 50)
      [100, 200, 50, 50, 50, 10]
    """
    beams = [int(beam) for beam in level_topn]
    hops = meta.hops_per_level[0]
    beams[-1 - hops : -1] = [width] * hops
    return beams


def read_meta(index_dir: str | os.PathLike[str]) -> IndexMeta:
    """Read `index.json` of the index in `index_dir`.

    Raises InvalidFileError when it is missing, is not JSON, or does not describe an index.
    """
    path = Path(index_dir) / INDEX_JSON
    document = read_json(path, what="the description of an index", next_step=BUILD_INDEX)
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
                f"{BUILD_INDEX}"
            )
    if document.get("metric") not in METRICS:
        raise InvalidFileError(
            f"{path}: expected metric {' or '.join(map(repr, METRICS))}, found {document.get('metric')!r}. "
            f"{BUILD_INDEX}"
        )
    hops = document.get("hops_per_level")
    levels = document["start_level"]
    if (
        not isinstance(hops, list)
        or len(hops) != levels
        or not all(_is_int(h) and 1 <= h <= 1000 for h in hops)
    ):
        raise InvalidFileError(
            f"{path}: expected hops_per_level to be {levels} integers 1..1000, found {hops!r}. {BUILD_INDEX}"
        )
    for name in ("seed", "num_copies"):
        value = document.setdefault(name, None)  # Older indexes do not name it.
        if value is not None and not (_is_int(value) and 0 <= value <= largest):
            raise InvalidFileError(
                f"{path}: expected {name} to be an integer 0..{largest} or null, found {value!r}. "
                f"{BUILD_INDEX}"
            )
    chosen = document.setdefault("chosen_entry_points", False)
    if not isinstance(chosen, bool):
        raise InvalidFileError(
            f"{path}: expected chosen_entry_points to be true or false, found {chosen!r}. {BUILD_INDEX}"
        )
    names = [field.name for field in dataclasses.fields(IndexMeta)]
    return IndexMeta(**{**{name: document[name] for name in names}, "hops_per_level": tuple(hops)})


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def check_level_topn(level_topn: Sequence[int] | npt.NDArray[Any], meta: IndexMeta) -> npt.NDArray[np.int32]:
    """Return `level_topn` as int32 [n]; InvalidInputError when its length or a value does not fit `meta`."""
    beams = np.asarray(level_topn)
    if beams.ndim != 1 or beams.size != meta.level_topn_length or not np.issubdtype(beams.dtype, np.integer):
        raise InvalidInputError(
            f"level_topn: expected {meta.level_topn_length} integers (entry beam, one per hop, final k), "
            f"found {beams.dtype} of shape {list(beams.shape)}. The index has hops "
            f"{list(meta.hops_per_level)}."
        )
    if beams.min() < 1 or beams.max() > MAX_BEAM:
        raise InvalidInputError(f"level_topn: expected values 1..{MAX_BEAM}, found {beams.tolist()}.")
    return beams.astype(np.int32)
