"""What `nann bench run` prints on a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from nann.cli import bench


def _result() -> dict[str, Any]:
    latency = {"p50_ms": 1.0, "p99_ms": 2.0, "max_ms": 3.0}
    stage = {
        "callers": 1,
        "qps": None,
        "loop": "closed",
        "latency": latency,
        "throughput": 10.0,
        "errors": {"RESOURCE_EXHAUSTED": 3, "DEADLINE_EXCEEDED": 1},
        "items_scored_mean": None,
    }
    phases = {name: {**latency, "errors": count} for count, name in enumerate(("before", "during", "after"))}
    switch = {
        "from_version": 1,
        "to_version": 2,
        "events": {"published": 1.0, "available": 1.25, "old_gone": 1.5},
        "phases": phases,
        "latency": latency,
        "errors": {"UNAVAILABLE": 3},
    }
    return {"beams": [{"level_topn": None, "agreement": None, "stages": [stage]}], "switch": switch}


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from rich.console import Console

    console = Console(width=140, record=True)
    monkeypatch.setattr(bench, "console", console)
    bench._render_run(_result(), None, agreement_users=5)
    return console.export_text().splitlines()


def test_refused_requests_are_named(printed: list[str]) -> None:
    assert any("1 DEADLINE_EXCEEDED, 3 RESOURCE_EXHAUSTED" in line for line in printed)


def test_agreement_that_cannot_be_measured_is_said(printed: list[str]) -> None:
    assert any("not measured; give the beams with --level-topn" in line for line in printed)


def test_a_switch_has_its_events_latencies_and_errors(printed: list[str]) -> None:
    text = "\n".join(printed)
    assert "version 1 to 2: published after 1.00 s, available after 1.25 s, old gone after 1.50 s" in text
    for phase, errors in (("before", "0"), ("during", "1"), ("after", "2"), ("whole", "3 UNAVAILABLE")):
        assert any(phase in line and "1.00" in line and errors in line for line in printed), phase
    assert "{" not in text
