"""Other libraries and this project's walk on a small corpus: what they find, not how fast."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from nann.bench.corpus import Corpus, CorpusSpec, Metric, make_corpus
from nann.bench.peers.libraries import PEERS, installed_peers, open_peer
from nann.bench.peers.rounds import PeerOptions, compare_peers, recall_of
from nann.bench.peers.walks import WALKS, NannPeer
from nann.cli import main
from nann.errors import InvalidInputError, MissingDependencyError

GRAPH = {"m": 8, "ef_construction": 40}
SPEC = CorpusSpec(2000, dim=16, queries=48)
METRICS: list[Metric] = ["ip", "l2"]


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def corpus(work: Path) -> Corpus:
    return make_corpus(work, SPEC)


def library(name: str) -> object:
    """A test's parameter that is skipped where the library is not installed."""
    missing = importlib.util.find_spec(PEERS[name][0]) is None
    reason = f"{name} is not installed; `make peers` installs it"
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=reason))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", [library(name) for name in PEERS])
def test_a_library_finds_what_brute_force_finds(
    corpus: Corpus, name: str, metric: Metric, figure: Callable[[str], None]
) -> None:
    truth = corpus.truth(metric, 10)
    peer = open_peer(name, corpus, metric, **GRAPH)
    least, most = peer.efforts(10)
    narrow, wide = (recall_of(peer, corpus.queries, truth, effort) for effort in (least, most))
    figure(f"{name}, {metric}: recall@10 {wide:.4f}, more than 0.97 and than {narrow:.4f} is asked for")
    assert wide > 0.97
    assert narrow < wide
    # Loaded from the work folder it is the same index.
    again = open_peer(name, corpus, metric, **GRAPH)
    found = peer.search(corpus.queries, 10, most)
    assert (again.search(corpus.queries, 10, most) == found).all()
    assert found.shape == (48, 10)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("walk", WALKS)
def test_this_projects_walk_finds_what_brute_force_finds(
    corpus: Corpus, walk: str, metric: Metric, figure: Callable[[str], None]
) -> None:
    peer = NannPeer(corpus, metric, walk, **GRAPH)
    truth = corpus.truth(metric, 10)
    recall = recall_of(peer, corpus.queries, truth, 400)
    figure(f"{walk}, {metric}: recall@10 {recall:.4f}, more than 0.97 is asked for")
    assert recall > 0.97
    assert peer.items_scored(corpus.queries, 10, 10) < peer.items_scored(corpus.queries, 10, 400) <= 2100
    assert peer.kernel_seconds(corpus.queries, 10, 10) > 0


def test_every_case_has_a_row_a_library_and_a_ratio(corpus: Corpus, work: Path) -> None:
    options = PeerOptions(
        items=SPEC.items,
        dim=SPEC.dim,
        queries=SPEC.queries,
        metrics=("l2",),
        recalls=((10, 0.8), (10, 1.1)),
        batch=32,
        rounds=2,
        peers=installed_peers(),
        **GRAPH,
    )
    result = json.loads(json.dumps(compare_peers(options, work)))
    reached, impossible = result["cases"]
    assert [row["name"] for row in reached["rows"]][-2:] == ["nann, fixed beams", "nann, adaptive walk"]
    for row in reached["rows"]:
        assert row["recall"] >= 0.8
        assert row["micros_a_query"] > 0
    ratio = reached["ratios"]["nann, adaptive walk"]
    assert ratio["low"] <= ratio["value"] <= ratio["high"]
    assert "nann, adaptive walk (kernel)" in reached["ratios"]
    # A recall that nobody reaches is no case for a stop watch.
    assert impossible["ratios"] == {}
    assert all("micros_a_query" not in row for row in impossible["rows"])


def test_unknown_and_missing_libraries_are_named(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="found 'annoy'"):
        open_peer("annoy", corpus, "l2", **GRAPH)
    monkeypatch.setitem(PEERS, "hnswlib", ("a_module_that_is_nowhere", PEERS["faiss"][1]))
    with pytest.raises(MissingDependencyError, match=r"a_module_that_is_nowhere.*pip install nann\[peers\]"):
        open_peer("hnswlib", corpus, "l2", **GRAPH)
    assert "hnswlib" not in installed_peers()


def test_the_command_prints_a_table(work: Path) -> None:
    arguments = ["bench", "peers", "--work", str(work), "--items", "2000", "--dim", "16", "--queries", "48"]
    options = ["--metrics", "l2", "--recalls", "10:0.8", "--peers", "faiss", "--rounds", "2", "--no-stock"]
    result = CliRunner().invoke(main, [*arguments, *options, "--m", "8", "--ef-construction", "40"])
    assert result.exit_code == 0, result.output
    assert "l2, recall@10 of 0.8" in result.output
    assert "nann, adaptive walk" in result.output
