"""Reporting the progress of long work."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[str, int, int], None]
"""Called with the name of a stage, the amount done and the total, both in units of that stage."""


def ignore_progress(stage: str, done: int, total: int) -> None:
    """The `OnProgress` of a caller that gave none."""
