"""`nann bench run` on a real export and a real server; what it finds, not how fast."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from nann.bench.load import BenchOptions, _run, render_report, run_bench
from nann.bench.load._agreement import BruteForce
from nann.bench.requests import Request, generate_requests
from nann.bench.targets import SavedModelTarget
from nann.cli import main
from nann.errors import NannError
from nann.serving.client import NannClient
from support.served import BEAMS, Served


def stages_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [stage for beams in result["beams"] for stage in beams["stages"]]


def test_an_export_in_this_process(export: Path, tmp_path: Path) -> None:
    narrow = (5, 5, 5, 5, 5, 20)
    everything = (500, 500, 500, 500, 500, 20)
    options = BenchOptions(
        saved_model=export,
        level_topn=(narrow, everything),
        concurrency=(1, 3),
        qps=(40.0,),
        seconds=0.3,
        warmup_seconds=0.1,
        agreement_users=3,
        profile=tmp_path / "profile",
        profile_seconds=0.3,
    )
    result = run_bench(options)
    for stage in stages_of(result):
        assert stage["errors"] == {}
        assert stage["latency"]["count"] > 0
        assert stage["usage"]["rss_bytes"] > 0
    first, second = result["beams"]
    scored = [beams["stages"][0]["items_scored_mean"] for beams in (first, second)]
    assert 0 < scored[0] < scored[1] <= 500 + 20
    assert second["agreement"] == 1.0  # beams as wide as the corpus
    assert 0 < first["agreement"] < 1.0
    assert first["stages"][0]["parts"]["counters"]["/nann/searches"] >= first["stages"][0]["latency"]["count"]
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    assert result["flame"]["requests"] > 0
    page = render_report(json.loads(json.dumps(result)))
    for heading in ("Agreement against latency", "Flame graph", "Latency by percentile"):
        assert heading in page


def test_agreement_is_with_brute_force_over_all_items(export: Path) -> None:
    """With beams as wide as the corpus nothing is missed."""
    target = SavedModelTarget(export)
    requests = generate_requests(
        target.specs("serving_default"), "serving_default", BEAMS, count=2, seed=1, vocabularies={}
    )
    ids = np.load(export / "assets" / "item_ids.npy")
    brute_force = BruteForce(target, requests, ids)
    assert brute_force.agreement((500, 500, 500, 500, 500, 7)) == 1.0
    by_ids = [Request("retrieve_by_ids", {"item_ids": np.zeros((1, 5), np.int64)})]
    with pytest.raises(NannError, match="agreement: expected requests with the inputs"):
        BruteForce(target, by_ids, ids)
    target.close()


def test_a_server_from_two_processes(served: Served, tmp_path: Path) -> None:
    report = tmp_path / "bench.html"
    arguments = ["bench", "run", "--target", served.target, "--model-dir", str(served.export), "--json"]
    load = ["--concurrency", "1,4", "--qps", "30", "--seconds", "0.5", "--warmup-seconds", "0.2"]
    more = ["--processes", "2", "--signature", "retrieve_by_ids", "--report", str(report)]
    done = CliRunner().invoke(main, [*arguments, *load, *more], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["kind"] == "server"
    for stage in stages_of(result):
        assert stage["errors"] == {}
        assert stage["latency"]["count"] == stage["service"]["count"] > 0
        assert stage["items_scored_mean"] > 0
        assert stage["client_ms_mean"] > 0
        assert stage["usage"]["rss_bytes"] > 10**8  # of the server: TensorFlow is in it
    assert "retrieve_by_ids" in report.read_text()


def test_real_requests_from_the_export(served: Served) -> None:
    """The warm-up file mixes three signatures; all are answered."""
    options = BenchOptions(
        target=served.target,
        requests=served.export / "assets.extra" / "tf_serving_warmup_requests",
        level_topn=(BEAMS,),
        concurrency=(1,),
        seconds=0.3,
        warmup_seconds=0.0,
    )
    (stage,) = stages_of(run_bench(options))
    assert stage["errors"] == {}
    # serving_default does not tell how many items were scored; the mean is of those that do.
    assert stage["items_scored_mean"] > 0


def test_a_new_version_under_load(served: Served) -> None:
    options = BenchOptions(
        target=served.target,
        model_dir=served.export,
        concurrency=(2,),
        seconds=10.0,
        warmup_seconds=0.0,
        switch_to=served.export,
        switch_base=served.base_path,
    )
    # Without the stages before it, which would take as long again.
    with _run._opened(options) as bench:
        switch = bench.measure_switch()
    assert (switch["from_version"], switch["to_version"]) == (1, 2)
    assert switch["errors"] == {}
    assert 0 < switch["events"]["published"] < switch["events"]["available"]
    assert switch["phases"]["before"]["count"] > 0
    assert switch["phases"]["during"]["count"] > 0
    with NannClient(served.target, model="nann") as client:
        assert {s.version: s.state for s in client.status()}[2] == "AVAILABLE"


def test_a_server_that_is_not_there() -> None:
    options = BenchOptions(
        target="localhost:1", level_topn=(BEAMS,), concurrency=(1,), seconds=0.1, timeout=1.0
    )
    with pytest.raises(NannError, match=r"localhost:1.*UNAVAILABLE|UNAVAILABLE.*localhost:1"):
        run_bench(options)


def test_a_server_without_a_profiler_says_so(served: Served, tmp_path: Path) -> None:
    options = BenchOptions(
        target=served.target,
        model_dir=served.export,
        concurrency=(1,),
        seconds=0.1,
        warmup_seconds=0.0,
        profile=tmp_path / "profile",
        profile_seconds=0.2,
    )
    with pytest.raises(NannError, match=re.escape("expected a trace from the server's ProfilerService")):
        run_bench(options)
