"""Rows on the size of the corpus: load time, memory and the growth of latency."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from nann.bench.corpus import CorpusSpec, make_corpus
from nann.bench.exports import export_attention, export_vectors, exported_walk
from nann.bench.models import user_states
from nann.bench.requests import retrieve_request
from nann.bench.statistics import Measure, interleaved, ratio_of_medians, timed_each
from nann.bench.table.large_model import export_large, load_large, watched_in_new_process, write_large_run
from nann.bench.targets import SavedModelTarget
from nann.bench.workloads import Check, Outcome, TableOptions, medians_ms
from nann.export.manifest import read_manifest
from nann.progress import OnProgress

# Items of the "empty" model, whose memory is what TensorFlow itself needs.
_EMPTY_ITEMS = 3000
# A load of ten million items takes 15 s with its process.
_MOST_LOADS = 9
# Two cores build this graph of ten million items in one hour instead of three.
_GROWTH_M, _GROWTH_EF = 16, 40


def load_and_memory(options: TableOptions, on_progress: OnProgress, *, items: int) -> Outcome:
    """Load time against reading the files, and the memory needed beyond the files."""
    count, rounds = options.items(items), min(options.rounds, _MOST_LOADS)
    loads: dict[int, list[dict[str, Any]]] = {}
    peak = largest = 0
    for size in (_EMPTY_ITEMS, count):
        folder = options.work / f"large-n{size}"
        run, model_dir = folder / "run", folder / "models" / "large" / "1"
        if not (run / "run.json").exists():
            write_large_run(run, size)
        _, peak = watched_in_new_process(export_large, run, model_dir, size)
        largest = max(path.stat().st_size for path in (model_dir / "assets").iterdir())
        loads[size] = []
        for done in range(rounds):
            on_progress(f"load {size:,} items", done, rounds)
            loads[size].append(watched_in_new_process(load_large, model_dir)[0])
        on_progress(f"load {size:,} items", rounds, rounds)
    full, empty = loads[count], loads[_EMPTY_ITEMS]
    seconds = {name: np.array([load[name] for load in full]) for name in ("load_seconds", "cat_seconds")}
    added = np.median(_column(full, "load_anon_bytes")) - np.median(_column(empty, "load_anon_bytes"))
    size_on_disk = full[0]["asset_bytes"]
    return Outcome(
        [
            Check.of(
                "load time / reading the files",
                ratio_of_medians(seconds["load_seconds"], seconds["cat_seconds"]),
                3.0,
                at_least=False,
            ),
            Check(
                "anonymous memory over an empty model's / size of the files",
                max(float(added), 0.0) / size_on_disk,
                0.10,
                at_least=False,
                unit="%",
            ),
            Check("export's peak memory / largest array", peak / largest, 2.0, at_least=False),
        ],
        {
            "load, ms": float(np.median(seconds["load_seconds"])) * 1e3,
            "cat, ms": float(np.median(seconds["cat_seconds"])) * 1e3,
            "files, MB": size_on_disk / 1e6,
            "anonymous memory added by load and a request, MB": float(added) / 1e6,
            "peak of the export, MB": peak / 1e6,
        },
    )


def _column(loads: Sequence[dict[str, Any]], name: str) -> list[float]:
    return [load[name] for load in loads]


def latency_growth(
    options: TableOptions, on_progress: OnProgress, *, sizes: Sequence[int], attention: bool
) -> Outcome:
    """One request at a time over corpora of growing size, with the same beams."""
    counts = [options.items(size) for size in sizes]
    measures: dict[str, Measure] = {}
    for done, count in enumerate(counts):
        on_progress("corpora", done, len(counts))
        measures[f"{count:,} items"] = _attention(options, count) if attention else _distance(options, count)
    on_progress("corpora", len(counts), len(counts))
    seconds = interleaved(
        measures,
        options.rounds,
        seed=options.seed,
        on_round=lambda done: on_progress("rounds", done, options.rounds),
    )
    names = list(measures)
    return Outcome(
        [
            Check.of(
                f"{large} / {small}", ratio_of_medians(seconds[large], seconds[small]), 1.5, at_least=False
            )
            for small, large in itertools.pairwise(names)
        ],
        medians_ms(seconds, options.requests),
    )


def _attention(options: TableOptions, count: int) -> Measure:
    corpus = make_corpus(options.work, CorpusSpec(count, seed=options.seed))
    walk = exported_walk(export_attention(corpus, corpus.run(**options.graph)))
    return timed_each(walk, user_states(options.requests, options.seed))


def _distance(options: TableOptions, count: int) -> Measure:
    corpus = make_corpus(options.work, CorpusSpec(count, seed=options.seed))
    model_dir = export_vectors(corpus, "l2", m=_GROWTH_M, ef_construction=_GROWTH_EF)
    beams = read_manifest(model_dir)["level_topn"]  # Larger corpora have more levels.
    queries = corpus.queries[: options.requests, np.newaxis]
    return timed_each(
        SavedModelTarget(model_dir).outputs, [retrieve_request({"query": q}, beams) for q in queries]
    )
