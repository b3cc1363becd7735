#!/usr/bin/env python3
"""What copies of one vector cost: the share of the 10 nearest that walks find near others and near copies.

    .venv/bin/python tools/measure_copies.py 0 50 500 5000

10,000 items of 16 dimensions from a normal distribution, of which the copies are zero; default graph and
beams, 100 users near other items and 30 near the copies; the fixed walk and the adaptive one (8 a hop). "As
faiss links them" is the graph that faiss makes of all items.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import faiss
import numpy as np
import numpy.typing as npt

from nann.export import GraphIndex, build_index, convert_faiss_index, read_items
from nann.export.index.oracle import adaptive_search, beam_search

ITEMS, DIM, K = 10_000, 16, 10
Vectors = npt.NDArray[np.float32]


@click.command()
@click.argument("counts", nargs=-1, type=int, required=True)
def main(counts: tuple[int, ...]) -> None:
    """Measure each of COUNTS, the number of copies."""
    for copies in counts:
        embs, near_others, near_copies = _corpus(copies)
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder)
            (run / "embeddings").mkdir()
            np.save(run / "embeddings/item_ids.npy", np.arange(ITEMS))
            np.save(run / "embeddings/item_embs.npy", embs)
            index = faiss.IndexHNSWFlat(DIM, 32)
            index.hnsw.efConstruction = 100
            index.add(embs)
            graphs = {
                "as faiss links them": convert_faiss_index(index, read_items(run), start_level=2),
                "nann index": build_index(run),
            }
        for name, graph in graphs.items():
            others, near = (_found(graph, embs, users) for users in (near_others, near_copies))
            print(
                f"{copies:5} copies, {name:19}: near others {others[0]:.3f} fixed, {others[1]:.3f} adaptive; "
                f"near copies {near[0]:.3f} and {near[1]:.3f}; longest list "
                f"{np.diff(graph.levels[0].row_splits).max()}",
                flush=True,
            )


def _corpus(copies: int) -> tuple[Vectors, Vectors, Vectors]:
    embs = np.random.default_rng(0).normal(size=(ITEMS, DIM)).astype(np.float32)
    same = np.random.default_rng(1).permutation(ITEMS)[:copies]
    embs[same] = 0
    others = embs[np.setdiff1d(np.arange(ITEMS), same)[:100]]
    generator = np.random.default_rng(5)
    near_others = others + generator.normal(0, 0.05, others.shape).astype(np.float32)
    return embs, near_others, generator.normal(0, 0.3, (30, DIM)).astype(np.float32)


def _found(graph: GraphIndex, embs: Vectors, users: Vectors) -> tuple[float, float]:
    """Mean share of the K nearest, then of smallest id, that the fixed and the adaptive walk find."""
    ids, level_topn = np.arange(ITEMS), [100, *(200,) * (graph.level_topn_length - 2), K]
    shares = []
    for user in users:
        scores = -((embs - user) ** 2).sum(axis=1)
        best = np.lexsort((ids, -scores))[:K]
        fixed, _, _ = beam_search(graph, ids, lambda at, s=scores: s[at], level_topn)
        adaptive, _, _ = adaptive_search(graph, ids, lambda at, s=scores: s[at], level_topn, expand=8)
        shares.append([np.isin(best, fixed).mean(), np.isin(best, adaptive).mean()])
    mean = np.mean(shares, axis=0)
    return float(mean[0]), float(mean[1])


if __name__ == "__main__":
    main()
