"""The page of `nann bench table`: Markdown, a plot and all figures as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from nann.bench.table._chart import write_chart
from nann.bench.table._rows import ROWS
from nann.files import staged_file, write_json, write_text


def write_table(
    results: Mapping[str, Any],
    page: Path,
    *,
    scale: float,
    command: str,
    elsewhere: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write `page` (.md), and the plot (.png) and all figures (.json) in the same folder.

    elsewhere: results of other machines, which the page has in a table of their own.
    """
    plot = page.with_suffix(".png")
    checks = [
        {**check, "what": _label(name, check)} for name, row in results.items() for check in row["checks"]
    ]
    if checks:
        with staged_file(plot) as staged:
            write_chart(checks, staged)
    write_json(page.with_suffix(".json"), results)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nann.bench.table", "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(value=format_value, target=format_bound, figure=format_figure)
    text = environment.get_template("performance.md.j2").render(
        rows=ROWS,
        results=results,
        machines=[machine for machine, _ in _by_machine(results)],
        elsewhere=[each for other in elsewhere for each in _by_machine(other)],
        plot=plot.name if checks else None,
        figures=page.with_suffix(".json").name,
        scale=scale,
        command=command,
    )
    write_text(page, text)


def format_value(check: Mapping[str, Any]) -> str:
    """The figure of a check with its interval."""
    text = _number(check["value"], check["unit"])
    if check["low"] is None or check["high"] is None:
        return text
    return f"{text} ({_number(check['low'], check['unit'])} to {_number(check['high'], check['unit'])})"


def format_bound(check: Mapping[str, Any]) -> str:
    """The target of a check."""
    return f"{'at least' if check['at_least'] else 'at most'} {_number(check['bound'], check['unit'])}"


def format_figure(value: float | str) -> str:
    """A figure without a target."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _number(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.1f} %"
    return f"{value:.1e}" if unit == "" else f"{value:.2f}{unit}"


def _label(row: str, check: Mapping[str, Any]) -> str:
    return f"{row}: {check['what']}"


def _by_machine(results: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each machine, without its load at the time, with the rows that were measured on it."""
    known: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for name, row in results.items():
        machine = {k: v for k, v in row["machine"].items() if k not in ("load_average", "busy")}
        of_machine = next((rows for seen, rows in known if seen == machine), None)
        if of_machine is None:
            known.append((machine, {name: row}))
        else:
            of_machine[name] = row
    return known
