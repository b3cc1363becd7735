"""Measuring: load on an export or a server, other libraries on the same vectors, the table of figures.

Importing this package imports nothing heavy; the first use of a function does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nann.bench._charts import stage_name as stage_name
    from nann.bench._report import beams_name as beams_name
    from nann.bench._report import render_report as render_report
    from nann.bench._report import write_report as write_report
    from nann.bench._run import BenchOptions as BenchOptions
    from nann.bench._run import run_bench as run_bench

_LAZY = {
    "BenchOptions": "_run",
    "beams_name": "_report",
    "render_report": "_report",
    "run_bench": "_run",
    "stage_name": "_charts",
    "write_report": "_report",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
