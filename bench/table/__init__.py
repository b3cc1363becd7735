"""`nann bench table`: measures the rows of docs/performance.md and writes the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nann.lazy import lazy_names

if TYPE_CHECKING:
    from nann.bench.table._page import format_bound as format_bound
    from nann.bench.table._page import format_value as format_value
    from nann.bench.table._page import write_table as write_table
    from nann.bench.table._rows import ROWS as ROWS
    from nann.bench.table._rows import kept_results as kept_results
    from nann.bench.table._rows import measure_rows as measure_rows

__getattr__ = lazy_names(
    __name__,
    {
        "nann.bench.table._page": ("format_bound", "format_value", "write_table"),
        "nann.bench.table._rows": ("ROWS", "kept_results", "measure_rows"),
    },
)
