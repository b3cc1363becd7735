"""Measuring: load on an export or a server, other libraries on the same vectors, the table of figures.

Importing this package imports nothing heavy; the first use of a function does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nann.lazy import lazy_names

if TYPE_CHECKING:
    from nann.bench._charts import stage_name as stage_name
    from nann.bench._new_process import in_new_process as in_new_process
    from nann.bench._peer_rounds import PeerOptions as PeerOptions
    from nann.bench._peer_rows import compare_in_one_thread as compare_in_one_thread
    from nann.bench._peer_rows import compare_stock as compare_stock
    from nann.bench._report import beams_name as beams_name
    from nann.bench._report import render_report as render_report
    from nann.bench._report import write_report as write_report
    from nann.bench._run import BenchOptions as BenchOptions
    from nann.bench._run import run_bench as run_bench
    from nann.bench._table import ROWS as ROWS
    from nann.bench._table import kept_results as kept_results
    from nann.bench._table import measure_rows as measure_rows
    from nann.bench._table_page import format_bound as format_bound
    from nann.bench._table_page import format_value as format_value
    from nann.bench._table_page import write_table as write_table
    from nann.bench._workloads import TableOptions as TableOptions

__getattr__ = lazy_names(
    __name__,
    {
        "nann.bench._charts": ("stage_name",),
        "nann.bench._new_process": ("in_new_process",),
        "nann.bench._peer_rounds": ("PeerOptions",),
        "nann.bench._peer_rows": (
            "compare_in_one_thread",
            "compare_stock",
        ),
        "nann.bench._report": (
            "beams_name",
            "render_report",
            "write_report",
        ),
        "nann.bench._run": (
            "BenchOptions",
            "run_bench",
        ),
        "nann.bench._table": (
            "ROWS",
            "kept_results",
            "measure_rows",
        ),
        "nann.bench._table_page": (
            "format_bound",
            "format_value",
            "write_table",
        ),
        "nann.bench._workloads": ("TableOptions",),
    },
)
