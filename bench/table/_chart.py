"""The table's plot: how each figure compares with its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nann.bench.plots import BAD, GOOD, LINE, plain_log_ticks, styled_figure

# The plot's range: a figure of 0, say, is drawn as a hundred times off.
_FURTHEST = 100.0


def write_chart(checks: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write each check's value as a multiple of its target as PNG; 1 is just enough, more is better."""
    with styled_figure(width=12.0, height=0.8 + 0.28 * len(checks)) as (figure, axes):
        for row, check in enumerate(checks):
            low, value, high = (_score(check, check[name]) for name in ("low", "value", "high"))
            colour = GOOD if check["holds"] else BAD
            axes.plot([low, high], [row, row], color=colour, linewidth=2)
            axes.plot([value], [row], "o", color=colour)
        axes.axvline(1.0, color=LINE, linestyle="--", linewidth=1)
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
        axes.set_yticks(range(len(checks)), [check["what"] for check in checks])
        axes.margins(y=0.02)
        axes.invert_yaxis()
        axes.set_title("Green reaches its target, red does not")
        axes.set_xlabel("measured / target (1: just enough)")
        figure.savefig(path, format="png", dpi=130)


def _score(check: Mapping[str, Any], value: float | None) -> float:
    value = check["value"] if value is None else value
    share = value / check["bound"] if check["at_least"] else check["bound"] / max(value, 1e-12)
    return float(min(max(share, 1 / _FURTHEST), _FURTHEST))
