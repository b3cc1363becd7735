"""The attention walk against the same walk in stock TensorFlow ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.bench.corpus import Corpus, CorpusSpec, make_corpus
from nann.bench.exports import ATTENTION_BEAMS, Tuned, export_attention, exported_walk
from nann.bench.models import EVENT_WIDTH, SEQUENCE_LENGTH, AttentionModel, user_states
from nann.bench.peers import _stock_tf_nann
from nann.bench.peers.rounds import PeerOptions
from nann.bench.statistics import interleaved, ratio_of_medians, timed_each
from nann.bench.workloads import Check, Outcome, TableOptions, medians_ms
from nann.export.agreement import overlap
from nann.export.index.files import read_index
from nann.export.manifest import describe_scorer, read_manifest
from nann.progress import OnProgress
from nann.run import INDEX

Arrays = Mapping[str, npt.NDArray[Any]]


def compare_stock(options: PeerOptions, work: Path, on_progress: OnProgress) -> dict[str, Any]:
    """`against_stock` at the sizes of `options`, as a JSON object of checks and figures."""
    outcome = against_stock(
        TableOptions(
            work=work,
            rounds=options.rounds,
            m=options.m,
            ef_construction=options.ef_construction,
            seed=options.seed,
        ),
        on_progress,
        items=options.items,
        dim=options.dim,
        faster=4.0,
        same_ids=0.999,
    )
    return {"checks": [check.to_json() for check in outcome.checks], "figures": dict(outcome.figures)}


def against_stock(
    options: TableOptions,
    on_progress: OnProgress,
    *,
    items: int,
    faster: float,
    same_ids: float,
    dim: int = 64,
    tuning: Tuned | None = None,
) -> Outcome:
    """An export's walk against the same walk in TensorFlow's own ops. Both are called as tf.functions.

    faster, same_ids: the targets of the speed-up and of the share of equal ids.
    """
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
    scorer = describe_scorer(read_manifest(model_dir))
    return Outcome(
        [
            Check.of("faster than stock TensorFlow ops", speedup, faster),
            Check("ids shared with stock TensorFlow ops", overlap(*found), same_ids, unit="%"),
        ],
        {
            **medians_ms(seconds, options.requests),
            "items scored": float(np.mean([ours(state)["items_scored"] for state in states])),
            "scorer": f"{scorer['executor']}, {scorer['precision']}",
        },
    )


def stock_walk(corpus: Corpus, run: Path) -> Callable[[Arrays], dict[str, Any]]:
    """The walk in stock ops over the graph of `run`, with the same scorer: state [1, L*E] -> ids [1, k]."""
    graph = read_index(run / INDEX)
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
