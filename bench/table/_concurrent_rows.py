"""Row on concurrent requests with the reference attention scorer."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from nann.bench.corpus import CorpusSpec, make_corpus
from nann.bench.exports import ATTENTION_BEAMS, export_attention
from nann.bench.load.generator import Record, run_load
from nann.bench.load.schedule import Stage
from nann.bench.requests import Request, generate_requests
from nann.bench.statistics import interleaved, ratio_of_medians
from nann.bench.targets import SavedModelTarget, limit_threads
from nann.bench.workloads import Check, Outcome, TableOptions, medians_ms
from nann.progress import OnProgress

_CALLERS = 8
# Hundreds of requests per measurement, and several measurements per minute.
_STAGE_SECONDS = 2.0


def concurrent_requests(options: TableOptions, on_progress: OnProgress, *, items: int) -> Outcome:
    """Eight concurrent requests against one at a time, on all cores and on one thread."""
    corpus = make_corpus(options.work, CorpusSpec(options.items(items), seed=options.seed))
    model_dir = export_attention(corpus, corpus.run(**options.graph))
    all_cores = SavedModelTarget(model_dir)
    requests = generate_requests(
        all_cores.specs("retrieve"), "retrieve", ATTENTION_BEAMS, count=64, seed=options.seed, vocabularies={}
    )
    at_once = Record(1.0)
    # The number of threads is one per process: a single thread needs another process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _open_in_one_thread, (model_dir,)) as one_thread:
        seconds = interleaved(
            {
                f"{_CALLERS} at once": lambda: _seconds_per_request(all_cores, requests, _CALLERS, at_once),
                "1 at a time, all cores": lambda: _seconds_per_request(all_cores, requests, 1),
                "1 at a time, 1 thread": lambda: one_thread.submit(_seconds_in_one_thread, requests).result(),
            },
            options.rounds,
            seed=options.seed,
            on_round=lambda done: on_progress("rounds", done, options.rounds),
        )
    together = seconds[f"{_CALLERS} at once"]
    p50, p99 = at_once.latencies.milliseconds(50), at_once.latencies.milliseconds(99)
    return Outcome(
        [
            Check.of(
                "requests per second, 8 at once / 1 at a time on all cores",
                ratio_of_medians(seconds["1 at a time, all cores"], together),
                0.95,
            ),
            Check.of(
                "requests per second, 8 at once / 1 at a time on 1 thread",
                ratio_of_medians(seconds["1 at a time, 1 thread"], together),
                1.8,
            ),
            Check("p99 / p50, 8 at once", p99 / p50, 3.0, at_least=False),
        ],
        {**medians_ms(seconds, 1), "p50 of 8 at once, ms": p50, "p99 of 8 at once, ms": p99},
    )


def _seconds_per_request(
    target: SavedModelTarget, requests: Sequence[Request], callers: int, total: Record | None = None
) -> float:
    record = run_load(target.call, requests, Stage(callers, _STAGE_SECONDS))
    if total is not None:
        total.merge(record.packed())
    return record.seconds / record.latencies.count


_one_thread: SavedModelTarget | None = None


def _open_in_one_thread(model_dir: Path) -> None:
    global _one_thread
    limit_threads(1)
    _one_thread = SavedModelTarget(model_dir)


def _seconds_in_one_thread(requests: Sequence[Request]) -> float:
    assert _one_thread is not None
    return _seconds_per_request(_one_thread, requests, 1)
