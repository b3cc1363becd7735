"""The HTML report of `nann bench run`: one file without scripts and without links to other files."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from nann.bench.load import _charts
from nann.bench.load.generator import NOT_SENT
from nann.files import write_text

# Sizes of the flame graph in pixels: the page is 960 wide; a letter of its font is 8 wide at most.
_FRAME_HEIGHT = 22
_FLAME_WIDTH = 960
_LETTER_WIDTH = 8
# Cores used by the generator above which its own waiting shows: a Python process has one at most.
_GENERATOR_IS_BUSY = 0.8


def write_report(result: Mapping[str, Any], path: Path) -> None:
    """Write the result of `run_bench` (or its JSON) as an HTML page."""
    write_text(path, render_report(result))


def render_report(result: Mapping[str, Any]) -> str:
    """The HTML page of a result of `run_bench`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nann.bench.load", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    return environment.get_template("report.html.j2").render(
        result=result,
        sections=[_section(beams, result["kind"]) for beams in result["beams"]],
        warnings=list(_warnings(result)),
        headline=_headline(result),
        agreement=_agreement(result),
        switch=_switch(result),
        flame=_flame(result),
        stage_name=_charts.stage_name,
    )


def _headline(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    stages = [stage for beams in result["beams"] for stage in beams["stages"]]
    best = max(stages, key=lambda stage: float(stage["throughput"]))
    first = stages[0]
    errors = sum(sum(stage["errors"].values()) for stage in stages)
    return [
        (f"p50, {_charts.stage_name(first)}", f"{_number(first['latency']['p50_ms'])} ms"),
        (f"p99, {_charts.stage_name(first)}", f"{_number(first['latency']['p99_ms'])} ms"),
        (f"most requests per second ({_charts.stage_name(best)})", _number(best["throughput"])),
        ("errors", f"{errors:,}"),
    ]


def _section(beams: Mapping[str, Any], kind: str) -> dict[str, Any]:
    name = beams_name(beams)
    bars = [(_charts.stage_name(stage), time_by_part(stage, kind)) for stage in beams["stages"]]
    known = {part for _, parts in bars for part in parts}
    return {
        "name": name,
        "beams": beams,
        "load": _charts.latency_against_load(beams["stages"], f"Latency against load, {name}"),
        "percentiles": _charts.percentile_curves(beams["stages"], f"Latency by percentile, {name}"),
        "parts": _charts.part_bars(bars, f"Time by part, {name}") if len(known) > 1 else None,
    }


def beams_name(beams: Mapping[str, Any]) -> str:
    """Name of a list of beams in pages and tables."""
    return (
        "beams " + ",".join(map(str, beams["level_topn"])) if beams["level_topn"] else "beams of the requests"
    )


def time_by_part(stage: Mapping[str, Any], kind: str) -> dict[str, float]:
    """Mean ms of a request from when it is sent, by part; the last part is the unexplained rest.

    kind: kind of the target, "server" or "in process".

    The op library counts thread time: parts of one search that run on several threads may add up to more
    than its latency, and then there is no rest.
    """
    parts = {name: micros / 1e3 for name, micros in stage["parts"]["micros_a_search"].items()}
    parts["client: write and read messages"] = stage["client_ms_mean"]
    rest = "rest: server and network" if kind == "server" else "rest: session"
    parts[rest] = max(stage["service"]["mean_ms"] - sum(parts.values()), 0.0)
    return {name: ms for name, ms in parts.items() if ms > 0}


def _agreement(result: Mapping[str, Any]) -> str | None:
    measured = [beams for beams in result["beams"] if beams["agreement"] is not None]
    if not measured:
        return None
    return _charts.agreement_against_latency(measured, "Agreement against latency")


def _switch(result: Mapping[str, Any]) -> str | None:
    if "switch" not in result:
        return None
    switch = result["switch"]
    return _charts.latency_over_time(switch, switch["events"], "Latency during the switch")


def _warnings(result: Mapping[str, Any]) -> Iterator[str]:
    """Circumstances that limit what the figures mean."""
    if result["machine"]["busy"]:
        yield (
            f"The machine was busy before the run: load average {result['machine']['load_average']} on "
            f"{result['machine']['cores']} cores."
        )
    for beams in result["beams"]:
        for stage in beams["stages"]:
            name = f"{beams_name(beams)}, {_charts.stage_name(stage)}"
            errors = {code: count for code, count in stage["errors"].items() if code != NOT_SENT}
            if errors:
                yield f"{name}: errors {errors}; latencies are those of the answered requests."
            if NOT_SENT in stage["errors"]:
                yield (
                    f"{name}: {stage['errors'][NOT_SENT]:,} requests were never sent: this is more than the "
                    "target can take. They count with the time that they had waited."
                )
            if result["kind"] == "server" and stage["generator_cores"] > _GENERATOR_IS_BUSY:
                yield (
                    f"{name}: the load generator itself used {stage['generator_cores']:.1f} cores; "
                    "raise --processes, or take its figures as a lower bound of the target's."
                )


@dataclass(frozen=True)
class _Box:
    """A frame of the flame graph, placed on the page."""

    name: str
    text: str
    hue: int
    x: float
    y: int
    width: float
    share: float
    milliseconds: float


def _flame(result: Mapping[str, Any]) -> dict[str, Any] | None:
    if "flame" not in result or not result["flame"]["root"]["micros"]:
        return None
    requests = max(result["flame"]["requests"], 1)
    boxes = list(_boxes(result["flame"]["root"], 0.0, 0, result["flame"]["root"]["micros"], requests))
    height = max(box.y for box in boxes) + _FRAME_HEIGHT
    return {"boxes": boxes, "width": _FLAME_WIDTH, "height": height, "frame_height": _FRAME_HEIGHT - 1}


def _boxes(frame: Mapping[str, Any], left: float, depth: int, all_: float, requests: int) -> Iterator[_Box]:
    name, share = frame["name"], frame["micros"] / all_
    room = int(share * _FLAME_WIDTH / _LETTER_WIDTH)
    text = name if len(name) <= room else f"{name[: room - 1]}…" if room >= 4 else ""
    yield _Box(
        name,
        text,
        zlib.crc32(name.encode()) % 180 + 20,
        left * _FLAME_WIDTH,
        depth * _FRAME_HEIGHT,
        share * _FLAME_WIDTH,
        share,
        frame["micros"] / 1e3 / requests,
    )
    for child in frame["children"]:
        yield from _boxes(child, left, depth + 1, all_, requests)
        left += child["micros"] / all_


def _number(value: float) -> str:
    """Three significant digits: a latency has no more."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
