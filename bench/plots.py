"""The common style of the plots in the report and in the table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#718096", "#b7791f", "#2c7a7b")
GOOD, BAD, LINE = "#2f855a", "#c53030", "#4a5568"
_STYLE: Any = {
    "svg.hashsalt": "nann",  # The same figures give the same file.
    "svg.fonttype": "none",  # Text stays text: small, and in the page's font.
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e2e8f0",
    "axes.edgecolor": "#718096",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@contextmanager
def styled_figure(width: float = 5.4, height: float = 3.6) -> Iterator[tuple[Figure, Axes]]:
    """A figure of `width` x `height` inches with one pair of axes, drawn in the common style."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def plain_log_ticks(axis: Any) -> None:
    """Label a logarithmic axis with 1, 2, 5, 10 and so on."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
