"""Rows with the reference attention scorer: against stock TensorFlow ops, and under concurrent requests."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.bench import _stock_tf_nann
from nann.bench._corpus import Corpus, CorpusSpec, graph_of, make_corpus
from nann.bench._exports import ATTENTION_BEAMS, Tuned, export_attention, scorer_of
from nann.bench._load import Record, run_load
from nann.bench._models import EVENT_WIDTH, SEQUENCE_LENGTH, AttentionModel
from nann.bench._requests import Request, generate_requests
from nann.bench._schedule import Stage
from nann.bench._statistics import interleaved, ratio_of_medians, timed_each
from nann.bench._targets import SavedModelTarget, limit_threads
from nann.bench._workloads import Check, Outcome, TableOptions, medians_ms
from nann.export.agreement import overlap
from nann.progress import OnProgress

Arrays = Mapping[str, npt.NDArray[Any]]
_DIM = 64
_CALLERS = 8
_STAGE_SECONDS = 2.0


def against_stock(
    options: TableOptions,
    on_progress: OnProgress,
    *,
    items: int,
    faster: float,
    same_ids: float,
    dim: int = _DIM,
    tuning: Tuned | None = None,
) -> Outcome:
    """The walk in an export against the same walk in TensorFlow's own ops, both called as tf.functions."""
    corpus = make_corpus(options.work, CorpusSpec(options.items(items), dim=dim, seed=options.seed))
    run = corpus.run(**options.graph)
    model_dir = export_attention(corpus, run, tuning=tuning)
    stock, ours = stock_walk(corpus, run), exported_walk(model_dir)
    states = user_states(options.requests, options.seed)
    found = [np.concatenate([walk(state)["top_k"] for state in states]) for walk in (ours, stock)]
    seconds = interleaved(
        {"nann": timed_each(ours, states), "stock TensorFlow ops": timed_each(stock, states)},
        options.rounds,
        seed=options.seed,
        on_round=lambda done: on_progress("rounds", done, options.rounds),
    )
    speedup = ratio_of_medians(seconds["stock TensorFlow ops"], seconds["nann"])
    return Outcome(
        [
            Check.of("faster than stock TensorFlow ops", speedup, faster),
            Check("ids shared with stock TensorFlow ops", overlap(*found), same_ids, unit="%"),
        ],
        {
            **medians_ms(seconds, options.requests),
            "items scored": float(np.mean([ours(state)["items_scored"] for state in states])),
            "scorer": scorer_of(model_dir),
        },
    )


def concurrent_requests(options: TableOptions, on_progress: OnProgress, *, items: int) -> Outcome:
    """Eight requests at once against one at a time, on all cores and on one thread."""
    corpus = make_corpus(options.work, CorpusSpec(options.items(items), dim=_DIM, seed=options.seed))
    model_dir = export_attention(corpus, corpus.run(**options.graph))
    all_cores = SavedModelTarget(model_dir)
    requests = generate_requests(
        all_cores.specs("retrieve"), "retrieve", ATTENTION_BEAMS, count=64, seed=options.seed, vocabularies={}
    )
    at_once = Record(1.0)
    # Threads are of a process: one thread is another process.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _open_in_one_thread, (model_dir,)) as one_thread:
        seconds = interleaved(
            {
                f"{_CALLERS} at once": lambda: _seconds_a_request(all_cores, requests, _CALLERS, at_once),
                "1 at a time, all cores": lambda: _seconds_a_request(all_cores, requests, 1),
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
                "requests a second, 8 at once / 1 at a time on all cores",
                ratio_of_medians(seconds["1 at a time, all cores"], together),
                0.95,
            ),
            Check.of(
                "requests a second, 8 at once / 1 at a time on 1 thread",
                ratio_of_medians(seconds["1 at a time, 1 thread"], together),
                1.8,
            ),
            Check("p99 / p50, 8 at once", p99 / p50, 3.0, at_least=False),
        ],
        {**medians_ms(seconds, 1), "p50 of 8 at once, ms": p50, "p99 of 8 at once, ms": p99},
    )


def _seconds_a_request(
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
    return _seconds_a_request(_one_thread, requests, 1)


def stock_walk(corpus: Corpus, run: Path) -> Callable[[Arrays], dict[str, Any]]:
    """The yardstick over the same graph and scorer: state [1, L*E] -> item ids [1, k]."""
    graph = graph_of(run)
    model = AttentionModel(corpus.spec.dim)
    retriever: Any = _stock_tf_nann.StockRetriever(  # type: ignore[no-untyped-call]
        np.array(corpus.item_embs),
        [(np.array(level.values), np.array(level.row_splits)) for level in graph.levels],
        np.array(graph.enter_points),
        lambda user, items: model.score({"comm_seq": user}, items),
        tf.TensorSpec([SEQUENCE_LENGTH, EVENT_WIDTH]),
    )
    item_ids, beams = corpus.item_ids, tf.constant(ATTENTION_BEAMS, tf.int32)

    def search(state: Arrays) -> dict[str, Any]:
        user = tf.constant(state["comm_seq"].reshape(SEQUENCE_LENGTH, EVENT_WIDTH))
        positions, scores, scored = retriever.search(user, beams)
        return {"top_k": item_ids[positions.numpy()][np.newaxis], "scores": scores, "items_scored": scored}

    return search


def exported_walk(model_dir: Path) -> Callable[[Arrays], dict[str, Any]]:
    """An export as TensorFlow's own loader gives it: state [1, L*E] -> item ids [1, k]."""
    from nann.ops import load_library

    load_library()
    loaded = tf.saved_model.load(str(model_dir))
    function = loaded.signatures["retrieve"]
    beams = tf.constant([ATTENTION_BEAMS], tf.int32)
    nothing = tf.constant([[-1]], tf.int64)

    def search(state: Arrays) -> dict[str, Any]:
        # `loaded` owns what the function uses.
        assert loaded is not None
        user = tf.constant(state["comm_seq"])
        found = function(comm_seq=user, level_topn=beams, exclude_ids=nothing)
        return {name: tensor.numpy() for name, tensor in found.items()}

    return search


def user_states(count: int, seed: int) -> list[Arrays]:
    """Random users: float32 [1, L*E] each."""
    generator = np.random.default_rng([seed, 2])
    width = SEQUENCE_LENGTH * EVENT_WIDTH
    return [{"comm_seq": generator.standard_normal((1, width), np.float32)} for _ in range(count)]
