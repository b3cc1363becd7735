"""What tests of a running server know of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BEAMS = (20, 30, 30, 30, 30, 20)


@dataclass(frozen=True)
class Served:
    """A running server, the base path that it watches, and the export in it."""

    target: str
    base_path: Path
    export: Path
