"""`nann bench run`: latency of an export or a server under load, and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nann.lazy import lazy_names

if TYPE_CHECKING:
    from nann.bench.load._charts import stage_name as stage_name
    from nann.bench.load._report import beams_name as beams_name
    from nann.bench.load._report import render_report as render_report
    from nann.bench.load._report import write_report as write_report
    from nann.bench.load._run import BenchOptions as BenchOptions
    from nann.bench.load._run import run_bench as run_bench

__getattr__ = lazy_names(
    __name__,
    {
        "nann.bench.load._charts": ("stage_name",),
        "nann.bench.load._report": ("beams_name", "render_report", "write_report"),
        "nann.bench.load._run": ("BenchOptions", "run_bench"),
    },
)
