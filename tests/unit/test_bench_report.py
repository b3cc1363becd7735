"""The HTML report: what it holds, and that it needs nothing beside itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nann.bench.load._histogram import Latencies
from nann.bench.load._report import render_report, time_by_part, write_report
from nann.bench.load._trace import Frame, flame
from nann.bench.load.generator import NOT_SENT


def latencies(seed: int) -> dict[str, Any]:
    recorded = Latencies()
    for value in np.random.default_rng(seed).exponential(0.01, 500):
        recorded.record(value)
    return recorded.summary()


def stage(**changes: Any) -> dict[str, Any]:
    interval = {"from_seconds": 0.0, "count": 5, "errors": 0, "p50_ms": 1.0, "p99_ms": 2.0, "max_ms": 3.0}
    return {
        "loop": "closed",
        "callers": 4,
        "qps_asked": None,
        "arrivals": None,
        "seconds": 2.0,
        "throughput": 250.0,
        "errors": {},
        "latency": latencies(0),
        "service": latencies(0),
        "items_scored_mean": 10_812.0,
        "client_ms_mean": 0.5,
        "generator_cores": 0.2,
        "usage": {"cpu_cores": 1.5, "rss_bytes": 3 * 10**9, "anonymous_bytes": 321 * 10**6},
        "parts": {"counters": {}, "micros_a_search": {}},
        "intervals": [interval, {**interval, "from_seconds": 1.0, "errors": 2}],
        **changes,
    }


@pytest.fixture
def result() -> dict[str, Any]:
    open_loop = stage(loop="open", callers=64, qps_asked=100.0, arrivals="poisson", latency=latencies(1))
    return {
        "format_version": 1,
        "created": "2026-01-01T00:00:00+00:00",
        "machine": {"processor": "A <fast> one", "cores": 2, "load_average": 0.1, "busy": False},
        "target": "localhost:8500",
        "kind": "server",
        "signature": "retrieve",
        "requests": "256 made up",
        "options": {"seconds": 2.0, "seed": 7, "profile": None},
        "beams": [
            {"level_topn": [100, 200, 200], "agreement": 0.987, "stages": [stage(), open_loop]},
            {"level_topn": [50, 100, 200], "agreement": 0.912, "stages": [stage(throughput=400.0)]},
        ],
    }


class Page(HTMLParser):
    """Tags that open and close, text, and everything that a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.count: dict[str, int] = {}
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in ("meta", "br"):
            self.open.append(tag)
        for name, value in attrs:
            local = (value or "").startswith("#")
            if name in ("src", "href", "xlink:href") and not local:
                self.fetched.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "br"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def test_the_page_is_whole_and_fetches_nothing(result: dict[str, Any]) -> None:
    page = Page(render_report(result))
    assert page.open == []
    assert page.fetched == []
    assert "script" not in page.count
    assert "@import" not in page.text
    # Two charts and the parts for each list of beams, and the agreement.
    assert page.count["svg"] == 7


def test_the_page_tells_what_was_measured(result: dict[str, Any]) -> None:
    text = re.sub(r"\s+", " ", Page(render_report(result)).text)
    expected = [
        "localhost:8500",
        "Beams 100,200,200",
        "Beams 50,100,200",
        "closed, 4 callers",
        "open, 100/s",
        "10,812",
        "321",  # MB, anonymous
        "Agreement against latency",
        "A <fast> one",  # escaped in the page
        "seed 7",
    ]
    for words in expected:
        assert words in text, words
    p99 = result["beams"][0]["stages"][0]["latency"]["p99_ms"]
    assert f"{p99:.3g} ms" in text
    assert "profile" not in text  # an option that was not given
    assert "A new version under load" not in text
    assert "Flame graph" not in text


def test_what_makes_figures_doubtful_is_said(result: dict[str, Any]) -> None:
    result["machine"]["busy"] = True
    result["beams"][0]["stages"][0].update(errors={"UNAVAILABLE": 12}, generator_cores=0.97)
    result["beams"][0]["stages"][1].update(errors={NOT_SENT: 345})
    text = Page(render_report(result)).text
    assert "The machine was busy before the run" in text
    assert "'UNAVAILABLE': 12" in text
    assert "345 requests were never sent" in text
    assert "raise --processes" in text


def test_a_switch_is_shown_with_its_phases(result: dict[str, Any]) -> None:
    result["switch"] = {
        "from_version": 3,
        "to_version": 4,
        "events": {"published": 0.4, "available": 1.1, "old_gone": 1.2},
        "phases": {name: {"errors": 0, **latencies(2)} for name in ("before", "during", "after")},
        **stage(),
    }
    text = Page(render_report(result)).text
    assert "Version 3 to 4" in text
    assert "old gone" in text
    assert "during" in text
    del result["switch"]["events"]["available"]
    assert "The new version was not available" in Page(render_report(result)).text


def test_a_flame_graph_has_a_box_a_frame(result: dict[str, Any]) -> None:
    root = Frame("TensorFlow's threads", 100.0)
    process = root.child("ExecutorState::Process")
    process.micros = 80.0
    process.child("MatMul").micros = 60.0
    root.child("FunctionRun").micros = 0.5
    result["flame"] = {"requests": 2, "root": root.to_json(1.0)}
    page = render_report(result)
    found = re.findall(r"<title>(\S+): ([\d.]+) %, ([\d.]+) ms per request</title>", page)
    assert ("MatMul", "60.0", "0.030") in found
    assert ("ExecutorState::Process", "80.0", "0.040") in found
    assert "FunctionRun" not in page  # too small to see


def test_a_trace_is_a_tree_of_what_was_called_within_what(tmp_path: Path) -> None:
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    plane = space.planes.add(name="/host:CPU")
    names = ("SessionRun", "ExecutorState::Process", "a/b/MatMul_1:MatMul", "MatMul_2:MatMul", "Record")
    for number, name in enumerate(names):
        plane.event_metadata[number].name = name
    caller, pool = plane.lines.add(name="caller"), plane.lines.add(name="tf_Compute/1")
    caller.events.add(metadata_id=0, offset_ps=0, duration_ps=900_000_000)  # waits for the pool
    for number, start, micros in (
        (1, 0, 100),
        (2, 10, 30),
        (4, 40, 0),
        (3, 50, 20),
        (1, 100, 50),
        (2, 120, 10),
    ):
        pool.events.add(metadata_id=number, offset_ps=start * 10**6, duration_ps=micros * 10**6)
    space.planes.add(name="Task Environment").lines.add().events.add(duration_ps=10**12)
    (tmp_path / "host.xplane.pb").write_bytes(space.SerializeToString())
    assert flame(tmp_path) == {
        "name": "TensorFlow's threads",
        "micros": 150.0,
        "children": [
            {
                "name": "ExecutorState::Process",
                "micros": 150.0,
                "children": [{"name": "MatMul", "micros": 60.0, "children": []}],
            }
        ],
    }


def test_known_parts_and_the_rest_make_the_mean() -> None:
    parts = {"walk": 1000.0, "scorer": 2500.0}
    measured = stage(parts={"counters": {}, "micros_a_search": parts})
    times = time_by_part(measured, "server")
    assert times["walk"] == 1.0
    assert times["scorer"] == 2.5
    assert times["client: write and read messages"] == 0.5
    assert sum(times.values()) == pytest.approx(measured["service"]["mean_ms"])
    # Thread time beyond the latency leaves no rest.
    measured["parts"]["micros_a_search"]["scorer"] = 1e6
    assert "rest: server and network" not in time_by_part(measured, "server")


def test_the_report_is_one_file(result: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.html"
    write_report(result, path)
    assert path.read_text() == render_report(result)
    assert [p.name for p in path.parent.iterdir()] == ["bench.html"]
