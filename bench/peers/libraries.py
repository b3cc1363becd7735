"""Other libraries' indexes over a corpus. Each is searched by its own batch call in one thread."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nann.bench.corpus import Corpus, Metric, Vectors
from nann.errors import InvalidInputError, MissingDependencyError
from nann.files import staged_directory, staged_file

Positions = npt.NDArray[np.int64]
# Beyond it no library is faster than a scan of the corpora measured here.
MOST_EFFORT = 4096
# ScaNN re-scores this many candidates at least, so that quantisation does not limit its recall.
_LEAST_REORDERED = 200


class Peer(Protocol):
    """An index that can be searched.

    Attributes:
      name: its name in figures.
    """

    name: str

    def efforts(self, k: int) -> tuple[int, int]:
        """Smallest and largest `effort` for finding k items."""

    def search(self, queries: Vectors, k: int, effort: int) -> Positions:
        """Positions int64 [B, k] of the best items found; more `effort` finds more of them."""


class FaissPeer:
    """faiss IndexHNSWFlat."""

    name = "faiss HNSW"

    def efforts(self, k: int) -> tuple[int, int]:
        return 1, MOST_EFFORT

    def __init__(self, corpus: Corpus, metric: Metric, *, m: int, ef_construction: int) -> None:
        import faiss

        path = corpus.faiss_graph(metric, m=m, ef_construction=ef_construction)
        self._index: Any = faiss.read_index(str(path))
        self._faiss: Any = faiss

    def search(self, queries: Vectors, k: int, effort: int) -> Positions:
        self._faiss.omp_set_num_threads(1)
        self._index.hnsw.efSearch = effort
        positions: Positions = self._index.search(queries, k)[1]
        return positions


class HnswlibPeer:
    """hnswlib."""

    name = "hnswlib"

    def efforts(self, k: int) -> tuple[int, int]:
        # It visits at least as many items as it returns.
        return k, MOST_EFFORT

    def __init__(self, corpus: Corpus, metric: Metric, *, m: int, ef_construction: int) -> None:
        import hnswlib

        path = _path(corpus, "hnswlib", metric, m, ef_construction)
        self._index = hnswlib.Index(space=metric, dim=corpus.spec.dim)
        if path.exists():
            self._index.load_index(str(path))
        else:
            self._index.init_index(corpus.spec.items, M=m, ef_construction=ef_construction, random_seed=1)
            corpus.add_in_parts(self._index.add_items)
            with staged_file(path) as staged:
                self._index.save_index(str(staged))

    def search(self, queries: Vectors, k: int, effort: int) -> Positions:
        self._index.set_ef(effort)
        positions: Positions = self._index.knn_query(queries, k, num_threads=1)[0].astype(np.int64)
        return positions


class UsearchPeer:
    """usearch."""

    name = "usearch"

    def efforts(self, k: int) -> tuple[int, int]:
        # It visits at least as many items as it returns.
        return k, MOST_EFFORT

    def __init__(self, corpus: Corpus, metric: Metric, *, m: int, ef_construction: int) -> None:
        from usearch.index import Index

        path = _path(corpus, "usearch", metric, m, ef_construction)
        kind = "ip" if metric == "ip" else "l2sq"
        self._index = Index(
            ndim=corpus.spec.dim, metric=kind, dtype="f32", connectivity=m, expansion_add=ef_construction
        )
        if path.exists():
            self._index.load(str(path))
        else:
            corpus.add_in_parts(self._add)
            with staged_file(path) as staged:
                self._index.save(str(staged))

    def search(self, queries: Vectors, k: int, effort: int) -> Positions:
        self._index.expansion_search = effort
        keys = self._index.search(queries, k, threads=1).keys
        positions: Positions = keys.astype(np.int64).reshape(-1, k)
        return positions

    def _add(self, vectors: Vectors) -> None:
        first = len(self._index)
        self._index.add(np.arange(first, first + len(vectors), dtype=np.uint64), vectors)


class ScannPeer:
    """ScaNN: a partition, quantised scores, exact re-scoring. It has no graph, M or ef_construction."""

    name = "ScaNN"

    def efforts(self, k: int) -> tuple[int, int]:
        return 1, self._leaves

    def __init__(self, corpus: Corpus, metric: Metric, *, m: int, ef_construction: int) -> None:
        import scann

        path = corpus.folder / f"scann-{metric}"
        # ScaNN's documentation: about sqrt(N) leaves, more of them for more recall.
        self._leaves = max(1, math.isqrt(corpus.spec.items) * 2)
        if not path.exists():
            kind = "dot_product" if metric == "ip" else "squared_l2"
            vectors = np.array(corpus.item_embs)
            builder = scann.scann_ops_pybind.builder(vectors, 10, kind)
            builder = builder.tree(
                self._leaves,
                max(1, self._leaves // 20),
                training_sample_size=min(corpus.spec.items, 250_000),
                quantize_centroids=True,
            )
            builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(_LEAST_REORDERED)
            with staged_directory(path) as staged:
                builder.build().serialize(str(staged), relative_path=True)
        self._searcher = scann.scann_ops_pybind.load_searcher(str(path))

    def search(self, queries: Vectors, k: int, effort: int) -> Positions:
        positions: Positions = self._searcher.search_batched(
            queries,
            leaves_to_search=effort,
            pre_reorder_num_neighbors=max(_LEAST_REORDERED, 4 * k),
            final_num_neighbors=k,
        )[0].astype(np.int64)
        return positions


# Name -> the module that must be installed, and the class.
PEERS: dict[str, tuple[str, Callable[..., Peer]]] = {
    "faiss": ("faiss", FaissPeer),
    "hnswlib": ("hnswlib", HnswlibPeer),
    "usearch": ("usearch", UsearchPeer),
    "scann": ("scann", ScannPeer),
}


def installed_peers() -> tuple[str, ...]:
    """Names of the installed libraries."""
    return tuple(name for name, (module, _) in PEERS.items() if importlib.util.find_spec(module) is not None)


def open_peer(name: str, corpus: Corpus, metric: Metric, *, m: int, ef_construction: int) -> Peer:
    """Build or load a peer's index. Raises InvalidInputError, MissingDependencyError."""
    if name not in PEERS:
        raise InvalidInputError(
            f"peers: expected some of {', '.join(PEERS)}, found {name!r}. Correct --peers."
        )
    module, kind = PEERS[name]
    try:
        with _without_tensorflow():
            importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{module}: {error}. Install it with `pip install nann[peers]` (make peers), or leave it out of "
            "--peers."
        ) from error
    return kind(corpus, metric, m=m, ef_construction=ef_construction)


@contextlib.contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Hide TensorFlow from an import: ScaNN's ops are for one TensorFlow version and fail with all others."""
    known = sys.modules.get("tensorflow")
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if known is None:
            del sys.modules["tensorflow"]
        else:
            sys.modules["tensorflow"] = known


def _path(corpus: Corpus, library: str, metric: Metric, m: int, ef_construction: int) -> Path:
    return corpus.folder / f"{library}-{metric}-m{m}-ef{ef_construction}.index"
