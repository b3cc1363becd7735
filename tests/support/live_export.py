"""Segments for an export: copies of its items under new ids, made from its files alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from support.live_case import links_columns, publish, segment_bytes


def publish_copies(
    export: Path,
    number: int,
    sources: Sequence[int],
    new_ids: Sequence[int],
    *,
    before: int,
    deleted: Sequence[int] = (),
) -> Path:
    """Insert copies of the items at the positions `sources` behind `before` positions; delete positions.

    A copy hangs on the item that it is a copy of, which keeps its links.
    """
    manifest = json.loads((export / "assets.extra" / "nann_manifest.json").read_text())
    columns: dict[str, npt.NDArray[Any]] = {
        "ids": np.array(new_ids, np.int64),
        "deleted": np.array(sorted(deleted), np.int32),
    }
    for name, table in manifest["tables"]["item"].items():
        columns[f"table/{name}"] = np.load(export / table["file"])[list(sources)]
    values, splits = (
        np.load(export / "assets" / f"neighbors_level_0_{part}.npy") for part in ("values", "row_splits")
    )
    lists = {}
    for position, source in enumerate(sources, before):
        lists[source] = [*values[splits[source] : splits[source + 1]].tolist(), position]
        lists[position] = [source]
    columns.update(links_columns(0, lists))
    export_id = manifest["overlay"]["export_id"]
    content = segment_bytes(number, number - 1, before, columns, export_id=export_id)
    return publish(export.parent / "updates" / export.name, number, content)
