"""The report's plots as inline SVG, without scripts."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nann.bench.load._histogram import Latencies
from nann.bench.plots import BAD, COLOURS, LINE, plain_log_ticks, styled_figure

# Percentiles at which a curve is drawn.
_CURVE = [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99]
_WIDE = 9.6  # Inches: across the page, where other plots stand two in a row.


def _svg(figure: Figure, title: str) -> str:
    """The figure as an <svg> element for an HTML page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Title": title})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _legend_above(axes: Axes) -> None:
    """Put the legend above the axes, where it hides no point."""
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=8, borderaxespad=0.0)


def _legend_beside(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def latency_against_load(stages: Sequence[Mapping[str, Any]], title: str) -> str:
    """p50 and p99 against requests answered per second, one line per kind of loop."""
    with styled_figure() as (figure, axes):
        for number, (loop, dash) in enumerate((("closed", "-"), ("open", "--"))):
            points = [stage for stage in stages if stage["loop"] == loop]
            for colour, name in zip(COLOURS[2 * number :], ("p50", "p99"), strict=False):
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
        plain_log_ticks(axes.yaxis)
        axes.set_xlim(left=0)
        axes.margins(y=0.1)
        axes.set_xlabel("requests answered per second")
        axes.set_ylabel("latency, ms")
        _legend_above(axes)
        return _svg(figure, title)


def percentile_curves(stages: Sequence[Mapping[str, Any]], title: str) -> str:
    """Latency by percentile, with room for the rare ones, one line per level of load."""
    with styled_figure() as (figure, axes):
        for stage, colour in zip(stages, COLOURS * 4, strict=False):
            latencies = Latencies()
            latencies.merge(stage["latency"]["hdr_histogram"].encode("ascii"))
            # n latencies say nothing about events rarer than 1 in n.
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
        plain_log_ticks(axes.yaxis)
        ticks = [50.0, 90.0, 99.0, 99.9, 99.99]
        right = axes.get_xlim()[1]
        axes.set_xticks([1 / (1 - p / 100) for p in ticks], [f"{p:g} %" for p in ticks])
        axes.set_xlim(1, right)
        axes.minorticks_off()
        axes.set_xlabel("share of requests that are at most this slow")
        axes.set_ylabel("latency, ms")
        _legend_above(axes)
        return _svg(figure, title)


def agreement_against_latency(beams: Sequence[Mapping[str, Any]], title: str) -> str:
    """Agreement with brute force against p50 at the first level of load, one point per list of beams."""
    with styled_figure() as (figure, axes):
        points = sorted(
            (b["stages"][0]["latency"]["p50_ms"], 100 * b["agreement"], ",".join(map(str, b["level_topn"])))
            for b in beams
        )
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "o-", color=COLOURS[0])
        for x, y, label in points:
            axes.annotate(label, (x, y), (6, -10), textcoords="offset points", fontsize=8)
        axes.margins(x=0.2, y=0.2)
        axes.set_xlabel("p50, ms")
        axes.set_ylabel("agreement with brute force, %")
        return _svg(figure, title)


def latency_over_time(stage: Mapping[str, Any], events: Mapping[str, float], title: str) -> str:
    """p50, p99 and the largest latency over the stage, with marks at `events`."""
    with styled_figure(width=_WIDE) as (figure, axes):
        intervals = stage["intervals"]
        times = [interval["from_seconds"] for interval in intervals]
        for colour, (name, label) in zip(
            COLOURS, (("p50_ms", "p50"), ("p99_ms", "p99"), ("max_ms", "slowest")), strict=False
        ):
            axes.plot(times, [interval[name] for interval in intervals], color=colour, label=label)
        bad = [interval for interval in intervals if interval["errors"]]
        if bad:
            xs, ys = [i["from_seconds"] for i in bad], [max(i["max_ms"], 0.1) for i in bad]
            axes.plot(xs, ys, "x", color=BAD, markersize=9, label="errors")
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis)
        for row, (name, seconds) in enumerate(events.items()):
            axes.axvline(seconds, color=LINE, linewidth=1, linestyle=":")
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
        _legend_beside(axes)
        return _svg(figure, title)


def part_bars(rows: Sequence[tuple[str, Mapping[str, float]]], title: str) -> str:
    """Mean time of a request by part in ms, one bar per level of load."""
    names = list(dict.fromkeys(name for _, parts in rows for name in parts))
    with styled_figure(width=_WIDE, height=0.9 + 0.38 * len(rows)) as (figure, axes):
        left = [0.0] * len(rows)
        for name, colour in zip(names, COLOURS * 2, strict=False):
            widths = [parts.get(name, 0.0) for _, parts in rows]
            axes.barh([row for row, _ in rows], widths, left=left, color=colour, label=name, height=0.6)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("ms per request, mean")
        _legend_beside(axes)
        return _svg(figure, title)


def stage_name(stage: Mapping[str, Any]) -> str:
    """Name of a level of load in plots and tables."""
    if stage["loop"] == "open":
        return f"open, {stage['qps_asked']:g}/s"
    return f"closed, {stage['callers']} caller{'s' if stage['callers'] > 1 else ''}"
