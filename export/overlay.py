"""What an export reserves for the items that are inserted while it is served (docs/live.md)."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Positions are int32, and one value is no position.
_MOST_POSITIONS = 2**31 - 2


@dataclass(frozen=True)
class OverlayRoom:
    """The entry `overlay` of the manifest.

    export_id: 32 hexadecimal digits. Segments carry it: they are computed for one export.
    capacity:  number of new items that there is room for, at least 1.

    Example:
      >>> OverlayRoom("0123456789abcdef0123456789abcdef", capacity=50).capacity
      50
    """

    export_id: str
    capacity: int

    def to_json(self) -> dict[str, Any]:
        """The manifest's entry."""
        return {"export_id": self.export_id, "capacity": self.capacity}


def reserve_overlay(num_items: int, share: float) -> OverlayRoom | None:
    """Room for a share of `num_items` more items, with a new export id; None for a share of 0.

    Example:
      >>> reserve_overlay(500, 0.1).capacity, reserve_overlay(500, 0.0)
      (50, None)
    """
    capacity = min(math.ceil(share * num_items), _MOST_POSITIONS - num_items)
    return OverlayRoom(uuid.uuid4().hex, capacity) if capacity > 0 else None


def overlay_of(manifest: Mapping[str, Any]) -> OverlayRoom | None:
    """The room of an export; None where it takes no segments.

    Example:
      >>> overlay_of({"overlay": {"export_id": "0" * 32, "capacity": 50}}).capacity
      50
    """
    entry = manifest.get("overlay")
    return None if entry is None else OverlayRoom(entry["export_id"], entry["capacity"])
