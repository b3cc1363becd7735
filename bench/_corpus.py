"""Made-up vectors with structure, their graphs, and the right answers; all kept in a work folder."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nann.export.index.files import GraphIndex, Level, read_index, write_index
from nann.files import staged_directory
from nann.ops.index_meta import IndexMeta

Metric = Literal["ip", "l2"]
Vectors = npt.NDArray[np.float32]

_INTRINSIC = 16
_NOISE = 0.1
_CHUNK_ROWS = 2**16


@dataclass(frozen=True)
class CorpusSpec:
    """A corpus; the same spec gives the same vectors.

    A mixture of Gaussians in 16 dimensions (or `dim`, if that is less), about the root of `items` of them, of
    unequal size (Zipf) and width, put into `dim` dimensions by a random rotation, plus a little noise in all
    of them. Trained embeddings are like that: they fill a few dimensions, in clusters that touch. Clusters
    that fill all dimensions would be islands that no greedy walk crosses, and uniform vectors have no
    neighbours worth the name.
    """

    items: int
    dim: int = 64
    queries: int = 1024
    seed: int = 0

    @property
    def name(self) -> str:
        return f"clustered-n{self.items}-d{self.dim}-q{self.queries}-s{self.seed}"


@dataclass(frozen=True)
class Corpus:
    """A corpus on disk."""

    folder: Path
    spec: CorpusSpec

    @property
    def item_embs(self) -> Vectors:
        """float32 [N, D], mapped."""
        array: Vectors = np.load(self.folder / "embeddings" / "item_embs.npy", mmap_mode="r")
        return array

    @property
    def item_ids(self) -> npt.NDArray[np.int64]:
        """int64 [N]: 3 x position + 7, so that a mix-up of the two shows."""
        array: npt.NDArray[np.int64] = np.load(self.folder / "embeddings" / "item_ids.npy")
        return array

    @property
    def queries(self) -> Vectors:
        """float32 [Q, D], of the same mixture as the items."""
        array: Vectors = np.load(self.folder / "queries.npy")
        return array

    def truth(self, metric: Metric, k: int) -> npt.NDArray[np.int64]:
        """int64 [Q, k]: positions of each query's best items, by brute force (faiss)."""
        path = self.folder / f"truth-{metric}-{k}.npy"
        if not path.exists():
            import faiss

            index = faiss.IndexFlatIP(self.spec.dim) if metric == "ip" else faiss.IndexFlatL2(self.spec.dim)
            for start in range(0, self.spec.items, _CHUNK_ROWS):
                index.add(np.ascontiguousarray(self.item_embs[start : start + _CHUNK_ROWS]))
            save(path, index.search(self.queries, k)[1])
        array: npt.NDArray[np.int64] = np.load(path)
        return array

    def run(self, metric: Metric = "l2", /, *, m: int, ef_construction: int) -> Path:
        """A run folder for `nann.export`: the corpus with the graph that `nann index` makes of it.

        By L2 that is faiss's own: the one that is measured as a peer.
        """
        run = self.folder / f"run-{metric}-m{m}-ef{ef_construction}"
        if (run / "index").exists():
            return run
        from nann.export import build_index, index_from_faiss

        link_embeddings(self.folder, run)
        if metric == "l2":
            from nann.bench._peers import faiss_graph

            index_from_faiss(run, faiss_graph(self, metric, m=m, ef_construction=ef_construction))
        else:
            build_index(run, metric=metric, m=m, ef_construction=ef_construction)
        return run

    def brute_force_run(self) -> Path:
        """A run folder whose walk scores everything: all items are entry points, and none has a neighbour.

        So brute force runs in the same op, with the same scorer, tables and tiles as the walk.
        """
        run = self.folder / "run-brute-force"
        if not (run / "index").exists():
            link_embeddings(self.folder, run)
            write_index(run / "index", all_entry_points(self.spec.items, self.spec.dim))
        return run


def make_corpus(work: Path, spec: CorpusSpec) -> Corpus:
    """The corpus of `spec` under the folder `work`, generated when it is not there yet."""
    folder = work / spec.name
    if not folder.exists():
        with staged_directory(folder) as staged:
            (staged / "embeddings").mkdir()
            np.save(staged / "embeddings" / "item_ids.npy", 3 * np.arange(spec.items, dtype=np.int64) + 7)
            path = staged / "embeddings" / "item_embs.npy"
            embs = np.lib.format.open_memmap(path, "w+", np.float32, (spec.items, spec.dim))
            draw = _mixture(spec)
            for number, start in enumerate(range(0, spec.items, _CHUNK_ROWS)):
                rows = min(_CHUNK_ROWS, spec.items - start)
                embs[start : start + rows] = draw(rows, number)
            embs.flush()
            # A stream of its own: more items leave the queries as they are.
            np.save(staged / "queries.npy", draw(spec.queries, -1))
            (staged / "spec.json").write_text(json.dumps(asdict(spec)))
    return Corpus(folder, spec)


def _mixture(spec: CorpusSpec) -> Callable[[int, int], Vectors]:
    """(rows, number of the chunk) -> float32 [rows, D]."""
    generator = np.random.default_rng([spec.seed, 0])
    inner = min(_INTRINSIC, spec.dim)
    clusters = max(4, math.isqrt(spec.items))
    centres = generator.standard_normal((clusters, inner))
    widths = generator.lognormal(math.log(0.5), 0.3, clusters)
    weights = 1.0 / np.arange(1, clusters + 1) ** 0.5
    rotation = np.linalg.qr(generator.standard_normal((spec.dim, inner)))[0].T

    def draw(rows: int, number: int) -> Vectors:
        chunk = np.random.default_rng([spec.seed, 1, number + 1])
        of = chunk.choice(clusters, rows, p=weights / weights.sum())
        points = centres[of] + widths[of, np.newaxis] * chunk.standard_normal((rows, inner))
        noise = _NOISE * chunk.standard_normal((rows, spec.dim))
        vectors: Vectors = (points @ rotation + noise).astype(np.float32)
        return vectors

    return draw


def all_entry_points(items: int, dim: int) -> GraphIndex:
    """An index without edges, whose entry points are all items."""
    meta = IndexMeta(1, items, dim, "l2", 1, 1, 1, (1,))
    nothing = Level(np.zeros(0, np.int32), np.zeros(items + 1, np.int64))
    return GraphIndex(meta, np.arange(items, dtype=np.int32), (nothing,))


def link_embeddings(source: Path, run: Path, *, model: str = "none:None") -> None:
    """Make `run` a run folder over the embeddings of `source`, which stay where they are."""
    (run / "embeddings").mkdir(parents=True, exist_ok=True)
    for name in ("item_ids.npy", "item_embs.npy"):
        target = run / "embeddings" / name
        if not target.exists():
            os.link(source / "embeddings" / name, target)
    (run / "run.json").write_text(json.dumps({"format": 1, "model": model}))


def save(path: Path, array: npt.NDArray[Any]) -> None:
    """Write an array beside and rename it: what is found under its name is whole."""
    beside = path.with_name(f".{path.stem}.writing.npy")
    np.save(beside, array)
    beside.replace(path)


def graph_of(run: Path) -> GraphIndex:
    """The index of a run folder."""
    return read_index(run / "index")
