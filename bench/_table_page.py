"""The page that `nann bench table` writes: Markdown, a plot and the machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from nann.bench._charts import checks_png
from nann.bench._table import ROWS


def write_table(results: Mapping[str, Any], page: Path, *, scale: float, command: str) -> None:
    """Write `page` (.md), and beside it the plot (.png) and all figures (.json)."""
    page.parent.mkdir(parents=True, exist_ok=True)
    plot = page.with_suffix(".png")
    checks = [
        {**check, "what": _label(name, check)} for name, row in results.items() for check in row["checks"]
    ]
    if checks:
        checks_png(checks, plot)
    page.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nann.bench", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(value=format_value, asked=format_bound, figure=format_figure)
    text = environment.get_template("performance.md.j2").render(
        rows=ROWS,
        results=results,
        machines=_machines(results),
        plot=plot.name if checks else None,
        figures=page.with_suffix(".json").name,
        scale=scale,
        command=command,
    )
    beside = page.with_name(f".{page.name}.writing")
    beside.write_text(text, encoding="utf-8")
    beside.replace(page)


def format_value(check: Mapping[str, Any]) -> str:
    """The figure with its interval."""
    text = _number(check["value"], check["unit"])
    if check["low"] is None or check["high"] is None:
        return text
    return f"{text} ({_number(check['low'], check['unit'])} to {_number(check['high'], check['unit'])})"


def format_bound(check: Mapping[str, Any]) -> str:
    """What was asked for."""
    return f"{'at least' if check['at_least'] else 'at most'} {_number(check['bound'], check['unit'])}"


def format_figure(value: float | str) -> str:
    """A figure that nothing was asked of."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _number(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.1f} %"
    return f"{value:.1e}" if unit == "" else f"{value:.2f}{unit}"


def _label(row: str, check: Mapping[str, Any]) -> str:
    return f"{row}: {check['what']}"


def _machines(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every machine that a row was measured on, without how busy it was."""
    known: list[dict[str, Any]] = []
    for row in results.values():
        machine = {k: v for k, v in row["machine"].items() if k not in ("load_average", "busy")}
        if machine not in known:
            known.append(machine)
    return known
