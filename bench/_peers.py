"""Other libraries' indexes over a corpus, each by its own batch call in one thread; this project's walk."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from nann.bench._corpus import Corpus, Metric, Vectors
from nann.bench._requests import Request, retrieve_request
from nann.bench._targets import SavedModelTarget
from nann.errors import InvalidInputError, MissingDependencyError

Positions = npt.NDArray[np.int64]
BEAM_SEARCH = "Nann>BeamSearch"
_BUILD_CALLS = 100
_MOST_EF = 4096
_LEAST_REORDERED = 200


class Peer(Protocol):
    """An index that can be searched.

    Attributes:
      name: as figures call it.
    """

    name: str

    def efforts(self, k: int) -> tuple[int, int]:
        """Least and most of what `effort` may be to find k items."""

    def search(self, queries: Vectors, k: int, effort: int) -> Positions:
        """int64 [B, k] positions of the best items found; more `effort` finds more of them."""


def faiss_graph(corpus: Corpus, metric: Metric, *, m: int, ef_construction: int) -> Path:
    """The file of faiss's HNSW index over the corpus, built when it is not there."""
    path = _path(corpus, "faiss", metric, m, ef_construction)
    if not path.exists():
        import faiss

        kind = faiss.METRIC_INNER_PRODUCT if metric == "ip" else faiss.METRIC_L2
        index: Any = faiss.IndexHNSWFlat(corpus.spec.dim, m, kind)
        index.hnsw.efConstruction = ef_construction
        _in_calls(corpus, index.add)
        faiss.write_index(index, str(_beside(path)))
        _beside(path).replace(path)
    return path


class FaissPeer:
    """faiss IndexHNSWFlat."""

    name = "faiss HNSW"

    def efforts(self, k: int) -> tuple[int, int]:
        return 1, _MOST_EF

    def __init__(self, corpus: Corpus, metric: Metric, *, m: int, ef_construction: int) -> None:
        import faiss

        self._index: Any = faiss.read_index(
            str(faiss_graph(corpus, metric, m=m, ef_construction=ef_construction))
        )
        self._faiss: Any = faiss

    def search(self, queries: Vectors, k: int, effort: int) -> Positions:
        self._faiss.omp_set_num_threads(1)
        self._index.hnsw.efSearch = effort
        found: Positions = self._index.search(queries, k)[1]
        return found


class HnswlibPeer:
    """hnswlib."""

    name = "hnswlib"

    def efforts(self, k: int) -> tuple[int, int]:
        # It never looks at fewer than it is to return.
        return k, _MOST_EF

    def __init__(self, corpus: Corpus, metric: Metric, *, m: int, ef_construction: int) -> None:
        import hnswlib

        path = _path(corpus, "hnswlib", metric, m, ef_construction)
        self._index = hnswlib.Index(space=metric, dim=corpus.spec.dim)
        if path.exists():
            self._index.load_index(str(path))
        else:
            self._index.init_index(corpus.spec.items, M=m, ef_construction=ef_construction, random_seed=1)
            _in_calls(corpus, self._index.add_items)
            self._index.save_index(str(_beside(path)))
            _beside(path).replace(path)

    def search(self, queries: Vectors, k: int, effort: int) -> Positions:
        self._index.set_ef(effort)
        found: Positions = self._index.knn_query(queries, k, num_threads=1)[0].astype(np.int64)
        return found


class UsearchPeer:
    """usearch."""

    name = "usearch"

    def efforts(self, k: int) -> tuple[int, int]:
        # It never looks at fewer than it is to return.
        return k, _MOST_EF

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
            keys = np.arange(corpus.spec.items, dtype=np.uint64)
            first = iter(np.array_split(keys, min(_BUILD_CALLS, len(keys))))
            _in_calls(corpus, lambda vectors: self._index.add(next(first), vectors))
            self._index.save(str(_beside(path)))
            _beside(path).replace(path)

    def search(self, queries: Vectors, k: int, effort: int) -> Positions:
        self._index.expansion_search = effort
        found: Positions = self._index.search(queries, k, threads=1).keys.astype(np.int64).reshape(-1, k)
        return found


class ScannPeer:
    """ScaNN: a partition, quantised scores, exact re-scoring; it has no graph, M or ef_construction."""

    name = "ScaNN"

    def efforts(self, k: int) -> tuple[int, int]:
        return 1, self._leaves

    def __init__(self, corpus: Corpus, metric: Metric, *, m: int, ef_construction: int) -> None:
        import scann

        path = corpus.folder / f"scann-{metric}"
        self._leaves = max(1, math.isqrt(corpus.spec.items) * 2)
        if not path.exists():
            shutil.rmtree(_beside(path), ignore_errors=True)
            _beside(path).mkdir()
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
            builder.build().serialize(str(_beside(path)), relative_path=True)
            _beside(path).rename(path)
        self._searcher = scann.scann_ops_pybind.load_searcher(str(path))

    def search(self, queries: Vectors, k: int, effort: int) -> Positions:
        found = self._searcher.search_batched(
            queries,
            leaves_to_search=effort,
            pre_reorder_num_neighbors=max(_LEAST_REORDERED, 4 * k),
            final_num_neighbors=k,
        )[0]
        positions: Positions = found.astype(np.int64)
        return positions


@dataclass(frozen=True)
class Walk:
    """A way of this project to walk.

    Attributes:
      tuning: fields of `nann.export.Tuning`.
      upper: beam of the entry points and of the levels above 0, where the effort goes to level 0.
    """

    tuning: dict[str, Any]
    upper: int


WALKS = {
    # Three hops only: they have to begin at several places.
    "fixed beams": Walk({"walk": "fixed"}, 16),
    "adaptive walk": Walk({"walk": "adaptive"}, 4),
}


class NannPeer:
    """This project's walk, as an export in a session of this process; over the graph of `Corpus.run`."""

    def efforts(self, k: int) -> tuple[int, int]:
        return 1, _MOST_EF

    def __init__(
        self, corpus: Corpus, metric: Metric, walk: str = "fixed beams", *, m: int, ef_construction: int
    ) -> None:
        from nann.bench._exports import export_vectors
        from nann.export.manifest import read_manifest

        model_dir = export_vectors(
            corpus, metric, m=m, ef_construction=ef_construction, tuning=WALKS[walk].tuning
        )
        self.name = f"nann, {walk}"
        self._walk = WALKS[walk]
        self._target = SavedModelTarget(model_dir)
        self._hops_per_level = read_manifest(model_dir)["index"]["hops_per_level"]

    def search(self, queries: Vectors, k: int, effort: int) -> Positions:
        ids = self._target.outputs(self._request(queries, k, effort))["top_k"]
        # Ids are 3 x position + 7; the padding's -1 becomes a position that no item has.
        return np.where(ids < 0, -1, (ids - 7) // 3)

    def kernel_seconds(self, queries: Vectors, k: int, effort: int) -> float:
        """Time inside the walk's op in one run."""
        return self._target.op_seconds(self._request(queries, k, effort), BEAM_SEARCH)

    def items_scored(self, queries: Vectors, k: int, effort: int) -> float:
        """Mean a query."""
        return float(self._target.outputs(self._request(queries, k, effort))["items_scored"].mean())

    def _request(self, queries: Vectors, k: int, effort: int) -> Request:
        above, level_0 = 1 + sum(self._hops_per_level[1:]), self._hops_per_level[0]
        beams = [self._walk.upper] * above + [effort] * level_0 + [k]
        return retrieve_request({"query": queries}, beams)


PEERS: dict[str, tuple[str, Callable[..., Peer]]] = {
    "faiss": ("faiss", FaissPeer),
    "hnswlib": ("hnswlib", HnswlibPeer),
    "usearch": ("usearch", UsearchPeer),
    "scann": ("scann", ScannPeer),
}


def installed_peers() -> tuple[str, ...]:
    """Names of the libraries that are there."""
    return tuple(name for name, (module, _) in PEERS.items() if importlib.util.find_spec(module) is not None)


def open_peer(name: str, corpus: Corpus, metric: Metric, *, m: int, ef_construction: int) -> Peer:
    """Build or load a peer's index. Raises InvalidInputError, MissingDependencyError."""
    if name not in PEERS:
        raise InvalidInputError(f"peers: expected some of {', '.join(PEERS)}, found {name!r}.")
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
    """Hide TensorFlow from an import: ScaNN has ops for one version of it, and fails beside any other."""
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


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.writing")


def _in_calls(corpus: Corpus, add: Callable[[Vectors], object]) -> None:
    """Add all vectors, a part a call: libraries copy what they are given."""
    embs = corpus.item_embs
    bounds = np.array_split(np.arange(corpus.spec.items), min(_BUILD_CALLS, corpus.spec.items))
    for part in bounds:
        add(np.ascontiguousarray(embs[part[0] : part[-1] + 1]))
