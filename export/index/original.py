"""Importing index files of the original NANN: the same names, all int64, without index.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError
from nann.export.index.files import GraphIndex, Level
from nann.export.items import Items
from nann.files import describe_array, load_array
from nann.ops.index_meta import (
    ENTER_POINTS,
    FORMAT_VERSION,
    IndexMeta,
    default_hops,
    row_splits_name,
    values_name,
)

_NEXT_STEP = "Name the folder that the original's build_hnsw_index wrote."


def import_original_index(
    index_dir: str | Path, items: Items, *, hops_per_level: tuple[int, ...] | None = None
) -> GraphIndex:
    """Read the original's files over the items of `items`, in their order.

    The start level is the number of levels found. The files do not record M and ef_construction: M is derived
    from the longest list, ef_construction is 0 for unknown. Positions and offsets are checked when the graph
    is written. Raises InvalidFileError.
    """
    folder = Path(index_dir)
    enter_points = _read_integers(folder / ENTER_POINTS)
    if enter_points.size == 0:
        raise InvalidFileError(
            f"{folder / ENTER_POINTS}: expected at least one entry point, found none: no node lives at the "
            f"start level, and these files do not hold the graph's own entry point. Build the index again."
        )
    levels: list[Level] = []
    while (folder / values_name(len(levels))).exists():
        levels.append(_read_level(folder, len(levels)))
    if not levels:
        raise InvalidFileError(
            f"{folder / values_name(0)}: expected neighbours, found no such file. {_NEXT_STEP}"
        )
    if levels[0].row_splits.size != items.num_items + 1:
        raise InvalidFileError(
            f"{folder / row_splits_name(0)}: expected {items.num_items + 1} offsets, one more than the items "
            f"of {items.ids_path}, found {levels[0].row_splits.size}. "
            f"Import it over the items it was built on."
        )
    longest = int(np.diff(levels[0].row_splits).max())
    meta = IndexMeta(
        format_version=FORMAT_VERSION,
        num_items=items.num_items,
        dim=items.dim,
        metric="l2",
        m=max(0, longest // 2),
        ef_construction=0,
        start_level=len(levels),
        hops_per_level=default_hops(len(levels)) if hops_per_level is None else tuple(hops_per_level),
    )
    return GraphIndex(meta, _to_int32(folder / ENTER_POINTS, enter_points), tuple(levels))


def _read_level(folder: Path, level: int) -> Level:
    values_path, splits_path = folder / values_name(level), folder / row_splits_name(level)
    values = _to_int32(values_path, _read_integers(values_path))
    return Level(values, _read_integers(splits_path).astype(np.int64))


def _read_integers(path: Path) -> npt.NDArray[Any]:
    array = load_array(path, next_step=_NEXT_STEP)
    if array.dtype not in (np.int64, np.int32) or array.ndim != 1:
        raise InvalidFileError(
            f"{path}: expected int64 or int32 of rank 1, found {describe_array(array)}. {_NEXT_STEP}"
        )
    return array


def _to_int32(path: Path, positions: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """`positions` as int32; InvalidFileError for values beyond int32, which would wrap around."""
    if positions.size and (positions.min() < 0 or positions.max() > np.iinfo(np.int32).max):
        raise InvalidFileError(
            f"{path}: expected positions 0..{np.iinfo(np.int32).max}, found {int(positions.min())}.."
            f"{int(positions.max())}. {_NEXT_STEP}"
        )
    return positions.astype(np.int32)
