"""The plots of the report and of the table, by matplotlib: inline SVG without a script, or PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from nann.bench._histogram import Latencies

_COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#718096", "#b7791f", "#2c7a7b")
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
_FURTHEST = 100.0
_CURVE = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99]


def _figure(width: float = 5.4, height: float = 3.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, title: str) -> str:
    """The figure as an <svg> element for an HTML page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Title": title})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _plain(axis: Any) -> None:
    """1, 2, 5, 10, ... on a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def _legend_above(axes: Axes) -> None:
    """Where it hides no point."""
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=8, borderaxespad=0.0)


def latency_against_load(stages: Sequence[Mapping[str, Any]], title: str) -> str:
    """p50 and p99 by requests answered a second, a line a kind of loop."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        for number, (loop, dash) in enumerate((("closed", "-"), ("open", "--"))):
            points = [stage for stage in stages if stage["loop"] == loop]
            for colour, name in zip(_COLOURS[2 * number :], ("p50", "p99"), strict=False):
                if points:
                    axes.plot(
                        [s["throughput"] for s in points],
                        [s["latency"][f"{name}_ms"] for s in points],
                        dash,
                        marker="o" if loop == "closed" else "s",
                        color=colour,
                        label=f"{name}, {loop} loop",
                    )
            for s in points:
                text = f"{s['callers']}" if loop == "closed" else f"{s['qps_asked']:g}/s"
                where = (s["throughput"], s["latency"]["p99_ms"])
                axes.annotate(text, where, (0, 5), textcoords="offset points", ha="center", fontsize=8)
        axes.set_yscale("log")
        _plain(axes.yaxis)
        axes.set_xlim(left=0)
        axes.margins(y=0.1)
        axes.set_xlabel("requests answered a second")
        axes.set_ylabel("latency, ms")
        _legend_above(axes)
        return _svg(figure, title)


def percentile_curves(stages: Sequence[Mapping[str, Any]], title: str) -> str:
    """Latency by percentile, the rare ones drawn apart, a line a level of load."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        for stage, colour in zip(stages, _COLOURS * 4, strict=False):
            latencies = Latencies()
            latencies.merge(stage["latency"]["hdr_histogram"].encode("ascii"))
            # Of n latencies none is rarer than 1 / n.
            shown = [p for p in _CURVE if (1 - p / 100) * latencies.count >= 1]
            axes.plot(
                [1 / (1 - p / 100) for p in shown],
                [latencies.milliseconds(p) for p in shown],
                "-" if stage["loop"] == "closed" else "--",
                color=colour,
                label=stage_name(stage),
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        _plain(axes.yaxis)
        ticks = [50.0, 90.0, 99.0, 99.9, 99.99]
        right = axes.get_xlim()[1]
        axes.set_xticks([1 / (1 - p / 100) for p in ticks], [f"{p:g} %" for p in ticks])
        axes.set_xlim(1, right)
        axes.minorticks_off()
        axes.set_xlabel("share of requests at most as slow")
        axes.set_ylabel("latency, ms")
        _legend_above(axes)
        return _svg(figure, title)


def agreement_against_latency(beams: Sequence[Mapping[str, Any]], title: str) -> str:
    """Agreement with brute force by p50 of the first level of load, a point a list of beams."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure()
        points = sorted((b["stages"][0]["latency"]["p50_ms"], 100 * b["agreement"], b) for b in beams)
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "o-", color=_COLOURS[0])
        for x, y, of in points:
            label = ",".join(map(str, of["level_topn"]))
            axes.annotate(label, (x, y), (6, -10), textcoords="offset points", fontsize=8)
        axes.margins(x=0.2, y=0.2)
        axes.set_xlabel("p50, ms")
        axes.set_ylabel("agreement with brute force, %")
        return _svg(figure, title)


def latency_over_time(stage: Mapping[str, Any], events: Mapping[str, float], title: str) -> str:
    """p50, p99 and largest latency over the stage, with marks where something happened."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(width=9.6)
        intervals = stage["intervals"]
        times = [interval["from_seconds"] for interval in intervals]
        for colour, (name, label) in zip(
            _COLOURS, (("p50_ms", "p50"), ("p99_ms", "p99"), ("max_ms", "slowest")), strict=False
        ):
            axes.plot(times, [interval[name] for interval in intervals], color=colour, label=label)
        bad = [interval for interval in intervals if interval["errors"]]
        if bad:
            xs, ys = [i["from_seconds"] for i in bad], [max(i["max_ms"], 0.1) for i in bad]
            axes.plot(xs, ys, "x", color="#c53030", markersize=9, label="errors")
        axes.set_yscale("log")
        _plain(axes.yaxis)
        for row, (name, seconds) in enumerate(events.items()):
            axes.axvline(seconds, color="#4a5568", linewidth=1, linestyle=":")
            axes.annotate(
                name.replace("_", " "),
                (seconds, 1),
                (3, -9 - 11 * row),
                textcoords="offset points",
                xycoords=("data", "axes fraction"),
                fontsize=8,
            )
        axes.set_xlabel("seconds")
        axes.set_ylabel("latency, ms")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return _svg(figure, title)


def part_bars(rows: Sequence[tuple[str, Mapping[str, float]]], title: str) -> str:
    """Mean time of a request by part, ms, a bar a level of load."""
    names = list(dict.fromkeys(name for _, parts in rows for name in parts))
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(width=9.6, height=0.9 + 0.38 * len(rows))
        left = [0.0] * len(rows)
        for name, colour in zip(names, _COLOURS * 2, strict=False):
            widths = [parts.get(name, 0.0) for _, parts in rows]
            axes.barh([row for row, _ in rows], widths, left=left, color=colour, label=name, height=0.6)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("ms a request, mean")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return _svg(figure, title)


def checks_png(checks: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Each check's value against what was asked for, as a share of it; 1 is just enough, more is better."""
    with mpl.rc_context(_STYLE):
        figure, axes = _figure(width=12.0, height=0.8 + 0.28 * len(checks))
        for row, check in enumerate(checks):
            low, value, high = (_score(check, check[name]) for name in ("low", "value", "high"))
            colour = "#2f855a" if check["holds"] else "#c53030"
            axes.plot([low, high], [row, row], color=colour, linewidth=2)
            axes.plot([value], [row], "o", color=colour)
        axes.axvline(1.0, color="#4a5568", linestyle="--", linewidth=1)
        axes.set_xscale("log")
        _plain(axes.xaxis)
        axes.set_yticks(range(len(checks)), [check["what"] for check in checks])
        axes.margins(y=0.02)
        axes.invert_yaxis()
        axes.set_xlabel("measured / asked for (1: just enough)")
        figure.savefig(path, dpi=130)


def _score(check: Mapping[str, Any], value: float | None) -> float:
    """Within what a plot can show: a figure of 0 is no more than a hundred times off."""
    value = check["value"] if value is None else value
    share = value / check["bound"] if check["at_least"] else check["bound"] / max(value, 1e-12)
    return float(min(max(share, 1 / _FURTHEST), _FURTHEST))


def stage_name(stage: Mapping[str, Any]) -> str:
    """How plots and tables call a level of load."""
    if stage["loop"] == "open":
        return f"open, {stage['qps_asked']:g}/s"
    return f"closed, {stage['callers']} caller{'s' if stage['callers'] > 1 else ''}"
