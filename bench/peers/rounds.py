"""`nann bench peers`: all libraries at the same recall on the same vectors, in interleaved rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.bench.corpus import Corpus, CorpusSpec, Metric, Vectors, make_corpus
from nann.bench.machine import describe_machine
from nann.bench.peers.libraries import PEERS, Peer, open_peer
from nann.bench.peers.walks import WALKS, NannPeer
from nann.bench.statistics import Measure, Seconds, interleaved, ratio_of_medians, timed
from nann.bench.targets import limit_threads
from nann.progress import OnProgress, ignore_progress

# A step is a fifth: finer ones are within the noise of the recall of 1,024 queries.
_STEPS_A_DOUBLING = 4
_GRAPH_LIBRARIES = ("faiss HNSW", "hnswlib", "usearch")


@dataclass(frozen=True, kw_only=True)
class PeerOptions:
    """What to compare.

    Attributes:
      items, dim, queries, seed: the corpus; see `CorpusSpec`.
      m, ef_construction: parameters of all graphs.
      metrics: inner product, L2.
      recalls: pairs (k, recall@k); every library's effort is chosen to reach them.
      batch: queries per call.
      rounds: measurements of each library.
      peers: names of the libraries.
      walks: names of this project's walks.
    """

    items: int = 1_000_000
    dim: int = 64
    queries: int = 1024
    seed: int = 0
    m: int = 32
    ef_construction: int = 100
    metrics: tuple[Metric, ...] = ("ip", "l2")
    recalls: tuple[tuple[int, float], ...] = ((10, 0.95), (200, 0.90), (200, 0.95))
    batch: int = 256
    rounds: int = 9
    peers: tuple[str, ...] = tuple(PEERS)
    walks: tuple[str, ...] = tuple(WALKS)


def compare_peers(
    options: PeerOptions, work: Path, *, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Build the missing indexes under `work`, measure, and return everything as one JSON object.

    Raises MissingDependencyError for a library that is not installed, InvalidInputError.
    """
    report = on_progress or ignore_progress
    machine = describe_machine()
    corpus = make_corpus(
        work, CorpusSpec(options.items, dim=options.dim, queries=options.queries, seed=options.seed)
    )
    cases = [case for metric in options.metrics for case in _cases(options, corpus, metric, report)]
    return {"format_version": 1, "machine": machine, "options": asdict(options), "cases": cases}


def compare_in_one_thread(options: PeerOptions, work: Path, on_progress: OnProgress) -> dict[str, Any]:
    """`compare_peers` in one thread. Call it in a new process, in which TensorFlow has no threads yet."""
    limit_threads(1)
    return compare_peers(options, work, on_progress=on_progress)


def _cases(options: PeerOptions, corpus: Corpus, metric: Metric, report: OnProgress) -> list[dict[str, Any]]:
    """All recalls by one metric. The indexes are released at the end."""
    opened = _open(options, corpus, metric, report)
    return [
        _case(options, corpus, opened, metric, k, recall, partial(report, f"{metric}, recall@{k} {recall:g}"))
        for k, recall in options.recalls
    ]


def _open(options: PeerOptions, corpus: Corpus, metric: Metric, report: OnProgress) -> list[Peer]:
    graph = {"m": options.m, "ef_construction": options.ef_construction}
    opened: list[Peer] = []
    total = len(options.peers) + len(options.walks)
    for name in options.peers:
        report(f"{metric}: indexes", len(opened), total)
        opened.append(open_peer(name, corpus, metric, **graph))
    for walk in options.walks:
        report(f"{metric}: indexes", len(opened), total)
        opened.append(NannPeer(corpus, metric, walk, **graph))
    report(f"{metric}: indexes", total, total)
    return opened


def _case(
    options: PeerOptions,
    corpus: Corpus,
    opened: Sequence[Peer],
    metric: Metric,
    k: int,
    recall: float,
    report: Callable[[int, int], None],
) -> dict[str, Any]:
    queries, truth = corpus.queries, corpus.truth(metric, k)
    total = len(opened) + options.rounds
    reached = []
    for done, peer in enumerate(opened):
        report(done, total)
        recall_at = partial(recall_of, peer, queries, truth)
        reached.append((peer, *least_effort(recall_at, recall, peer.efforts(k))))
    batches = [queries[start : start + options.batch] for start in range(0, len(queries), options.batch)]
    ours = any(isinstance(peer, NannPeer) and found >= recall for peer, _, found in reached)
    graphs = compared_graphs({peer.name: found for peer, _, found in reached}, recall) if ours else {}
    ready = [(peer, effort) for peer, effort, found in reached if found >= recall or peer.name in graphs]
    measures = _measures(ready, batches, k)
    seconds = interleaved(
        measures, options.rounds, seed=options.seed, on_round=lambda n: report(len(opened) + n, total)
    )
    rows = [_row(peer, effort, found, seconds, queries, k) for peer, effort, found in reached]
    return {"metric": metric, "k": k, "recall": recall, "rows": rows, "ratios": _ratios(seconds, graphs)}


def recall_of(peer: Peer, queries: Vectors, truth: npt.NDArray[np.int64], effort: int) -> float:
    """recall@k: mean share of the exact answers `truth` [Q, k] among those found."""
    k = truth.shape[1]
    found = peer.search(queries, k, effort)
    shares = [np.isin(exact, row).mean() for exact, row in zip(truth, found, strict=True)]
    return float(np.mean(shares))


def least_effort(
    recall_at: Callable[[int], float], recall: float, efforts: tuple[int, int]
) -> tuple[int, float]:
    """The least effort, in steps of a fifth, that reaches `recall`, and its recall.

    When no effort reaches it: the largest effort and its recall.
    """
    grid = effort_grid(*efforts)
    # Doubling from below first: the widest searches take minutes.
    low, high = 0, 0
    while (found := recall_at(grid[high])) < recall:
        if high == len(grid) - 1:
            return grid[high], found
        low, high = high + 1, min(high + _STEPS_A_DOUBLING, len(grid) - 1)
    best = grid[high], found
    while low < high:
        middle = (low + high) // 2
        found = recall_at(grid[middle])
        if found >= recall:
            high, best = middle, (grid[middle], found)
        else:
            low = middle + 1
    return best


def effort_grid(least: int, most: int) -> list[int]:
    """Whole numbers from `least` to `most`, four per doubling."""
    steps = int(np.ceil(np.log2(most / least) * _STEPS_A_DOUBLING))
    values = {round(least * 2 ** (step / _STEPS_A_DOUBLING)) for step in range(steps)}
    return sorted(value for value in {*values, most} if value <= most)


def _measures(ready: Sequence[tuple[Peer, int]], batches: Sequence[Vectors], k: int) -> dict[str, Measure]:
    measures: dict[str, Measure] = {}
    for peer, effort in ready:

        def search(peer: Peer = peer, effort: int = effort) -> None:
            for batch in batches:
                peer.search(batch, k, effort)

        measures[peer.name] = timed(search)
        if isinstance(peer, NannPeer):

            def kernel(peer: NannPeer = peer, effort: int = effort) -> float:
                return sum(peer.kernel_seconds(batch, k, effort) for batch in batches)

            measures[_kernel(peer.name)] = kernel
    return measures


def _kernel(name: str) -> str:
    return f"{name} (kernel)"


def _row(
    peer: Peer, effort: int, recall: float, seconds: Mapping[str, Seconds], queries: Vectors, k: int
) -> dict[str, Any]:
    row: dict[str, Any] = {"name": peer.name, "effort": effort, "recall": recall}
    if peer.name in seconds:
        row["micros_a_query"] = float(np.median(seconds[peer.name])) / len(queries) * 1e6
    if _kernel(peer.name) in seconds:
        row["kernel_micros_a_query"] = float(np.median(seconds[_kernel(peer.name)])) / len(queries) * 1e6
    if isinstance(peer, NannPeer):
        row["items_scored"] = peer.items_scored(queries, k, effort)
    return row


def compared_graphs(found: Mapping[str, float], recall: float) -> dict[str, str]:
    """The graph libraries that this project's walks are compared with: name -> name in the figures.

    found: the recall of every library at the effort chosen for it.

    They are those that reach `recall`. When none does, the library with the highest recall at its largest
    effort takes their place, which favours that library.
    """
    graphs = [name for name in _GRAPH_LIBRARIES if name in found]
    enough = {name: name for name in graphs if found[name] >= recall}
    if enough or not graphs:
        return enough
    nearest = max(graphs, key=lambda name: found[name])
    return {nearest: f"{nearest}, which ends at {found[nearest]:.3f}"}


def _ratios(seconds: Mapping[str, Seconds], graphs: Mapping[str, str]) -> dict[str, Any]:
    """Time of the fastest of `graphs` / time of each of this project's walks, kernel and whole call."""
    if not graphs:
        return {}
    best = min(graphs, key=lambda name: float(np.median(seconds[name])))
    ratios = {}
    for name in seconds:
        if name.startswith("nann"):
            against = {"against": graphs[best], **ratio_of_medians(seconds[best], seconds[name])._asdict()}
            ratios[name] = against
    return ratios
