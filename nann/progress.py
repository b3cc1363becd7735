"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int], None]
"""Called with the name of the stage, what is done, and the total, both in the units of the stage."""


def ignore_progress(stage: str, done: int, total: int) -> None:
    """The `OnProgress` of a caller that gave none."""
