"""The graph of a publisher: links of new items as columns of segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nann.export.index.build import DEFAULT_EF_CONSTRUCTION
from nann.live.base import Base
from nann.live.segment import Segment
from nann.ops import IndexResource, LinkBuilder, ListChanges

_PARTS = (("positions", "<i4"), ("row_splits", "<i8"), ("values", "<i4"))


class Links:
    """Base and overlay as a graph that items are inserted into."""

    def __init__(self, base: Base) -> None:
        assets, meta = base.model_dir / "assets", base.graph.meta
        index = IndexResource(
            index_dir=assets,
            item_ids=assets / "item_ids.npy",
            id_order=assets / "item_id_order.npy",
            item_tables={"item_embs": base.model_dir / base.manifest["tables"]["item"]["item_embs"]["file"]},
        )
        self._m = max(meta.m, 2)
        self._num_levels, self._dim = base.num_levels, base.dim
        self._builder = LinkBuilder(
            index,
            m=self._m,
            ef_construction=meta.ef_construction or DEFAULT_EF_CONSTRUCTION,
            inner_product=meta.metric == "ip",
        )

    def delete(self, positions: npt.NDArray[np.int32]) -> None:
        """Choose no further links to these positions."""
        self._builder.delete(positions)

    def insert(self, embs: npt.NDArray[Any], first_position: int) -> dict[str, npt.NDArray[Any]]:
        """Link items that follow at `first_position`; returns the columns `links/...`."""
        levels = draw_levels(first_position, len(embs), self._m)
        changes = self._builder.insert(np.asarray(embs, np.float32), levels)
        return {
            f"links/{level}/{part}": values
            for level, change in enumerate(changes)
            if change.nodes.size
            for part, values in (
                ("positions", change.nodes),
                ("row_splits", change.row_splits),
                ("values", change.neighbors),
            )
        }

    def apply(self, segment: Segment) -> None:
        """Follow a segment that was published before."""
        self._builder.delete(segment.column("deleted", "<i4"))
        embs = segment.columns.get("table/item_embs", np.zeros((0, self._dim), np.float32))
        changes = []
        for level in range(self._num_levels):
            nodes, splits, values = (segment.column(f"links/{level}/{part}", t) for part, t in _PARTS)
            changes.append(ListChanges(nodes, splits if nodes.size else np.zeros(1, np.int64), values))
        self._builder.apply(np.asarray(embs, np.float32), changes)


def draw_levels(first_position: int, count: int, m: int) -> npt.NDArray[np.int32]:
    """The levels of a batch of new items: at least l with probability M^-l, as HNSW has it.

    Example:
      >>> draw_levels(500, 3, m=32)
      array([0, 0, 0], dtype=int32)
    """
    uniform = 1.0 - np.random.default_rng(first_position).random(count)  # in (0, 1]
    levels: npt.NDArray[np.int32] = np.floor(-np.log(uniform) / np.log(m)).astype(np.int32)
    return levels
