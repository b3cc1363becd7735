"""Synthetic vectors with structure, their graphs and the exact answers, all kept in a work folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nann.export.index.files import GraphIndex, Level, write_index
from nann.files import link_or_copy, staged_directory, staged_file, write_array, write_json
from nann.ops.index_meta import IndexMeta
from nann.run import EMBEDDINGS, INDEX, VOCABULARY, Run, write_run

Metric = Literal["ip", "l2"]
Vectors = npt.NDArray[np.float32]

# Trained embeddings of 64 dimensions have an effective rank of about this.
_INTRINSIC = 16
# Deviation of the noise in all dimensions, small beside the clusters' own width of about 0.5.
_NOISE = 0.1
# Rows generated or indexed at once: 16 MB of float32 at 64 dimensions.
_CHUNK_ROWS = 2**16
# Parts in which vectors are given to a library: it holds a copy of 1 % of them at most.
_PARTS = 100


@dataclass(frozen=True)
class CorpusSpec:
    """A corpus. The same spec always gives the same vectors.

    The vectors are a mixture of Gaussians in 16 dimensions (or `dim`, if that is less). The mixture has about
    sqrt(`items`) clusters of different sizes (Zipf) and widths. A random rotation puts them into `dim`
    dimensions, and a little noise is added in all of them. Trained embeddings are similar: they fill few
    dimensions, in clusters that touch. Clusters that fill all dimensions would be islands that no greedy walk
    crosses, and the neighbours of uniform vectors are hardly nearer than any other vectors.
    """

    items: int
    dim: int = 64
    queries: int = 1024
    seed: int = 0

    @property
    def name(self) -> str:
        """Name of the corpus's folder."""
        return f"clustered-n{self.items}-d{self.dim}-q{self.queries}-s{self.seed}"


@dataclass(frozen=True)
class Corpus:
    """A corpus on disk."""

    folder: Path
    spec: CorpusSpec

    @property
    def item_embs(self) -> Vectors:
        """float32 [N, D], memory-mapped."""
        array: Vectors = np.load(self.folder / EMBEDDINGS / "item_embs.npy", mmap_mode="r")
        return array

    @property
    def item_ids(self) -> npt.NDArray[np.int64]:
        """int64 [N]: 3 x position + 7, so that a confusion of ids and positions shows."""
        array: npt.NDArray[np.int64] = np.load(self.folder / EMBEDDINGS / "item_ids.npy")
        return array

    @property
    def queries(self) -> Vectors:
        """float32 [Q, D], drawn from the same mixture as the items."""
        array: Vectors = np.load(self.folder / "queries.npy")
        return array

    def truth(self, metric: Metric, k: int) -> npt.NDArray[np.int64]:
        """int64 [Q, k]: positions of the best items for each query, by brute force (faiss)."""
        path = self.folder / f"truth-{metric}-{k}.npy"
        if not path.exists():
            import faiss

            index = faiss.IndexFlatIP(self.spec.dim) if metric == "ip" else faiss.IndexFlatL2(self.spec.dim)
            self.add_in_parts(index.add)
            write_array(path, index.search(self.queries, k)[1])
        array: npt.NDArray[np.int64] = np.load(path)
        return array

    def add_in_parts(self, add: Callable[[Vectors], object]) -> None:
        """Call `add` with one part of the vectors after another, in order: libraries copy what they get."""
        embs = self.item_embs
        for part in np.array_split(embs, min(_PARTS, len(embs))):
            add(np.ascontiguousarray(part))

    def faiss_graph(self, metric: Metric, /, *, m: int, ef_construction: int) -> Path:
        """The file of faiss's HNSW index over the corpus. It is built when it does not exist."""
        path = self.folder / f"faiss-{metric}-m{m}-ef{ef_construction}.index"
        if not path.exists():
            import faiss

            kind = faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2
            index: Any = faiss.IndexHNSWFlat(self.spec.dim, m, kind)
            index.hnsw.efConstruction = ef_construction
            self.add_in_parts(index.add)
            with staged_file(path) as staged:
                faiss.write_index(index, str(staged))
        return path

    def run(self, metric: Metric = "l2", /, *, m: int, ef_construction: int) -> Path:
        """A run folder for `nann.export`: the corpus with the graph that `nann index` builds over it.

        For L2 it is the graph that faiss itself is measured with as a peer.
        """
        run = self.folder / f"run-{metric}-m{m}-ef{ef_construction}"
        if (run / INDEX).exists():
            return run
        from nann.export import build_index, index_from_faiss

        (run / EMBEDDINGS).mkdir(parents=True, exist_ok=True)
        for file in (self.folder / EMBEDDINGS).iterdir():
            if not (run / EMBEDDINGS / file.name).exists():
                link_or_copy(file, run / EMBEDDINGS / file.name)
        # Exports of a corpus bring their model with them.
        write_run(run, Run(model="none:None"))
        if metric == "l2":
            index_from_faiss(run, self.faiss_graph(metric, m=m, ef_construction=ef_construction))
        else:
            build_index(run, metric=metric, m=m, ef_construction=ef_construction)
        return run


def make_corpus(work: Path, spec: CorpusSpec) -> Corpus:
    """The corpus of `spec` under the folder `work`. It is generated when it does not exist."""
    folder = work / spec.name
    if not folder.exists():
        with staged_directory(folder) as staged:
            (staged / EMBEDDINGS).mkdir()
            item_ids = 3 * np.arange(spec.items, dtype=np.int64) + 7
            np.save(staged / EMBEDDINGS / "item_ids.npy", item_ids)
            path = staged / EMBEDDINGS / "item_embs.npy"
            embs = np.lib.format.open_memmap(path, "w+", np.float32, (spec.items, spec.dim))
            draw = _mixture(spec)
            for number, start in enumerate(range(0, spec.items, _CHUNK_ROWS)):
                rows = min(_CHUNK_ROWS, spec.items - start)
                embs[start : start + rows] = draw(rows, number)
            embs.flush()
            # Queries have a random stream of their own: they do not depend on the number of items.
            np.save(staged / "queries.npy", draw(spec.queries, -1))
            write_json(staged / "spec.json", asdict(spec))
    return Corpus(folder, spec)


def _mixture(spec: CorpusSpec) -> Callable[[int, int], Vectors]:
    """(rows, chunk number) -> float32 [rows, D]."""
    generator = np.random.default_rng([spec.seed, 0])
    inner = min(_INTRINSIC, spec.dim)
    clusters = max(4, math.isqrt(spec.items))
    centres = generator.standard_normal((clusters, inner))
    widths = generator.lognormal(math.log(0.5), 0.3, clusters)
    weights = 1.0 / np.arange(1, clusters + 1) ** 0.5
    rotation = np.linalg.qr(generator.standard_normal((spec.dim, inner)))[0].T

    def draw(rows: int, number: int) -> Vectors:
        chunk = np.random.default_rng([spec.seed, 1, number + 1])
        cluster = chunk.choice(clusters, rows, p=weights / weights.sum())
        points = centres[cluster] + widths[cluster, np.newaxis] * chunk.standard_normal((rows, inner))
        noise = _NOISE * chunk.standard_normal((rows, spec.dim))
        vectors: Vectors = (points @ rotation + noise).astype(np.float32)
        return vectors

    return draw


def brute_force_run(source: Path, run: Path) -> Path:
    """Make `run` a run folder of the items of `source` whose walk scores every item.

    All items are entry points without neighbours. Brute force then runs in the same op as the walk, with the
    same scorer, tables and tiles.
    """
    if not (run / INDEX).exists():
        run.mkdir(parents=True, exist_ok=True)
        for name in (EMBEDDINGS, VOCABULARY):
            if (source / name).exists() and not (run / name).exists():
                (run / name).symlink_to((source / name).resolve())
        items, dim = np.load(run / EMBEDDINGS / "item_embs.npy", mmap_mode="r").shape
        no_edges = Level(np.zeros(0, np.int32), np.zeros(items + 1, np.int64))
        meta = IndexMeta(1, items, dim, "l2", 1, 1, 1, (1,))
        write_index(run / INDEX, GraphIndex(meta, np.arange(items, dtype=np.int32), (no_edges,)))
    return run
