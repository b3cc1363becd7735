"""An export as the base of an overlay: its arrays, mapped, and what its manifest says of segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError
from nann.export.index.files import GraphIndex, read_index
from nann.export.manifest import MANIFEST, read_manifest
from nann.files import load_array

Array = npt.NDArray[Any]
_NEXT_STEP = "Export again, and check the result with nann verify."


@dataclass(frozen=True)
class Base:
    """An export that segments can change.

    model_dir: its version folder.
    manifest:  the content of its manifest.
    export_id: what its segments name.
    capacity:  new items that its overlay has room for.
    ids:       int64 [N], mapped; id_order: positions int32 [N] by ascending id.
    graph:     the HNSW graph, mapped.
    tables:    item table -> [N, width], mapped.
    state:     item state -> [N, ...], mapped.

    Example:
      >>> base = open_base(Path("MODELS/nann/1"))
      >>> base.num_items, sorted(base.tables)
      (500, ['item_embs', 'scorer'])
    """

    model_dir: Path
    manifest: Mapping[str, Any]
    export_id: str
    capacity: int
    ids: npt.NDArray[np.int64]
    id_order: npt.NDArray[np.int32]
    graph: GraphIndex
    tables: Mapping[str, Array]
    state: Mapping[str, Array]

    @property
    def item_features(self) -> Mapping[str, Any]:
        """Name -> dtype and shape of the features that events may have in place of an embedding."""
        features: Mapping[str, Any] = self.manifest["model"].get("item_features", {})
        return features

    @property
    def attributes(self) -> dict[str, str]:
        """The type of each attribute, as filters name it."""
        return {name: entry["type"] for name, entry in self.manifest.get("attributes", {}).items()}

    @property
    def num_items(self) -> int:
        """N."""
        return int(self.ids.shape[0])

    @property
    def dim(self) -> int:
        """D."""
        return int(self.tables["item_embs"].shape[1])

    @property
    def num_levels(self) -> int:
        """Levels that have neighbour lists."""
        return len(self.graph.levels)


def open_base(model_dir: str | Path) -> Base:
    """Open the export in the version folder `model_dir`.

    Raises InvalidFileError when it is no export, is damaged, or was exported without an overlay.
    """
    model_dir = Path(model_dir)
    manifest = read_manifest(model_dir)
    overlay = manifest.get("overlay")
    if not overlay:
        raise InvalidFileError(
            f"{model_dir / MANIFEST}: expected an export with room for new items, found none. Export with "
            f"--overlay-share 0.1 for a tenth of the items."
        )
    assets = model_dir / "assets"
    tables = manifest["tables"]
    return Base(
        model_dir,
        manifest,
        overlay["export_id"],
        overlay["capacity"],
        load_array(assets / "item_ids.npy", next_step=_NEXT_STEP),
        load_array(assets / "item_id_order.npy", next_step=_NEXT_STEP),
        read_index(assets),
        _open_tables(model_dir, tables["item"]),
        _open_tables(model_dir, tables.get("item_state", {})),
    )


def _open_tables(model_dir: Path, entries: Mapping[str, Any]) -> dict[str, Array]:
    return {
        name: load_array(model_dir / entry["file"], next_step=_NEXT_STEP) for name, entry in entries.items()
    }
