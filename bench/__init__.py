"""Measuring: load on an export or a server, other libraries on the same vectors, the table of figures.

Importing this package imports nothing heavy; the first use of a function does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

_LAZY = {
    "BenchOptions": "_run",
    "PeerOptions": "_peer_rounds",
    "ROWS": "_table",
    "TableOptions": "_workloads",
    "beams_name": "_report",
    "compare_in_one_thread": "_peer_rows",
    "compare_stock": "_peer_rows",
    "format_bound": "_table_page",
    "format_value": "_table_page",
    "in_new_process": "_new_process",
    "kept_results": "_table",
    "measure_rows": "_table",
    "render_report": "_report",
    "run_bench": "_run",
    "stage_name": "_charts",
    "write_report": "_report",
    "write_table": "_table_page",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
