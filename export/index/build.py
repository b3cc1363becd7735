"""Building the index of a run with faiss, or converting an index of faiss or of the original NANN."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from nann.errors import InvalidInputError
from nann.export.index.copies import Copies, find_copies, hang_copies, without_copies
from nann.export.index.entry_points import link_unreachable
from nann.export.index.faiss_graph import FAISS_METRICS, convert_faiss_index, read_faiss_index
from nann.export.index.files import GraphIndex, write_index
from nann.export.index.original import import_original_index
from nann.export.index.union import union_of_graphs
from nann.export.items import Items, read_items
from nann.progress import OnProgress

# faiss prepares a lock for every node on each call: calls are few, but enough to show progress.
_MOST_CALLS = 200
_LEAST_ROWS_A_CALL = 1_000
# The seed of faiss, so that an index built here has the levels of one built by faiss itself.
DEFAULT_SEED = 12345
DEFAULT_EF_CONSTRUCTION = 100
# faiss builds no graph with fewer.
_LEAST_M = 2
# The metrics of the graphs whose links an index of each metric has.
_LINKS = {"l2": ("l2",), "ip": ("ip", "l2")}


def build_index(
    run_dir: str | Path,
    *,
    metric: str = "l2",
    m: int = 32,
    ef_construction: int = DEFAULT_EF_CONSTRUCTION,
    start_level: int | None = None,
    choose: bool | None = None,
    hops_per_level: tuple[int, ...] | None = None,
    seed: int = DEFAULT_SEED,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> GraphIndex:
    """Build an HNSW graph over RUN/embeddings and write it to RUN/index.

    metric:          "l2" links items with near embeddings, which suits every scorer that is smooth in them.
                     "ip" is for a scorer that is an inner product: half of the links lead to items with a
                     large inner product, half to near ones. The first kind alone leads to the few longest
                     vectors (Liu et al., AAAI 2020, arXiv 1909.13459, also combine two graphs).
    m:               neighbours of a node at each level above 0; twice as many at level 0. Even for "ip".
    ef_construction: candidates looked at when a node is linked; more makes a slower build and a better graph.
    start_level:     S; None is the smallest S >= 2 at which at most 2,048 nodes live.
    choose:          whether 64 to 128 entry points are chosen, spread over the corpus, and items that no link
                     leads to get one; False leaves the graph as the original has it, with all nodes at level
                     S or above as entry points. None chooses where `start_level` is None.
    hops_per_level:  hops of levels 0..S-1; None is three at level 0 and one at each level above.
    seed:            draws the levels of the nodes. Neighbour lists also depend on the order in which
                     threads insert nodes, so two builds are equal only with `threads=1`.
    threads:         threads of faiss; None is all processors.

    Items with equal vectors are linked once: the others hang on the one with the smallest id, and
    `graph.meta.num_copies` says how many there are.

    Raises InvalidFileError for bad embeddings, InvalidInputError for bad options.

    Example:
      >>> graph = build_index("RUN", m=8, start_level=1, hops_per_level=(2,))
      >>> graph.meta.m, graph.level_topn_length
      (8, 4)
    """
    if metric not in _LINKS:
        raise InvalidInputError(
            f"metric: expected {' or '.join(_LINKS)}, found {metric!r}. Choose one of these."
        )
    kinds = _LINKS[metric]
    _check_option("m", m, _LEAST_M * len(kinds), 1024)
    if m % len(kinds) != 0:
        raise InvalidInputError(
            f"m: expected an even number, because metric {metric} makes two kinds of links, found {m}. "
            f"Choose {m + 1}."
        )
    _check_option("ef_construction", ef_construction, 1, 100_000)
    _check_option("seed", seed, 0, 2**31 - 1)
    check_levels(start_level, hops_per_level)
    items = read_items(run_dir, on_progress=on_progress)
    copies = find_copies(items, on_progress=on_progress)
    links = _Links(kinds, m, ef_construction, seed, threads)
    levels = _Levels(start_level, start_level is None if choose is None else choose, hops_per_level)
    graph = _link(items, copies, links, levels, on_progress)
    write_index(Path(run_dir) / "index", graph)
    return graph


def index_from_faiss(
    run_dir: str | Path,
    faiss_file: str | Path,
    *,
    start_level: int | None = None,
    hops_per_level: tuple[int, ...] | None = None,
    on_progress: OnProgress | None = None,
) -> GraphIndex:
    """Convert an index file of faiss over the items of RUN/embeddings, and write it to RUN/index.

    `convert_faiss_index` says what the file may hold. Where more than M items have equal vectors, the links
    of the file are of no use, and are built anew with its parameters; `meta.seed` is then not None.

    Raises InvalidFileError, InvalidInputError.

    Example:
      >>> import faiss
      >>> faiss_index = faiss.IndexHNSWFlat(8, 16)
      >>> faiss_index.add(np.load("RUN/embeddings/item_embs.npy"))
      >>> faiss.write_index(faiss_index, "hnsw.faiss")
      >>> index_from_faiss("RUN", "hnsw.faiss").meta.m
      16
    """
    check_levels(start_level, hops_per_level)
    items = read_items(run_dir, on_progress=on_progress)
    graph = convert_faiss_index(
        read_faiss_index(faiss_file),
        items,
        start_level=start_level,
        hops_per_level=hops_per_level,
        on_progress=on_progress,
        name=str(faiss_file),
    )
    graph = _without_cuts(graph, items, on_progress)
    write_index(Path(run_dir) / "index", graph)
    return graph


def index_from_original(
    run_dir: str | Path,
    index_dir: str | Path,
    *,
    hops_per_level: tuple[int, ...] | None = None,
    on_progress: OnProgress | None = None,
) -> GraphIndex:
    """Import index files of the original NANN over the items of RUN/embeddings, and write them to RUN/index.

    index_dir:      folder with `enter_points.npy`, `neighbors_level_0_values.npy` and so on.
    hops_per_level: hops of the levels found; None is three at level 0 and one at each level above.

    Equal vectors are treated as in `index_from_faiss`. Raises InvalidFileError for damaged files,
    InvalidInputError for bad hops.

    Example:
      >>> index_from_original("RUN", "ORIGINAL", hops_per_level=(2, 1)).meta.hops_per_level
      (2, 1)
    """
    items = read_items(run_dir, on_progress=on_progress)
    graph = import_original_index(index_dir, items, hops_per_level=hops_per_level)
    check_levels(graph.meta.start_level, hops_per_level)
    graph = _without_cuts(graph, items, on_progress)
    write_index(Path(run_dir) / "index", graph)
    return graph


def check_levels(start_level: int | None, hops_per_level: tuple[int, ...] | None) -> None:
    """Raise InvalidInputError when the walked levels and their hops do not fit each other."""
    if start_level is not None:
        _check_option("start_level", start_level, 1, 32)
    if hops_per_level is None:
        return
    if start_level is None:
        raise InvalidInputError(
            "hops_per_level (--hops): expected start_level (--start-level) beside it, found none. Give both."
        )
    if len(hops_per_level) != start_level or not all(1 <= hops <= 1000 for hops in hops_per_level):
        raise InvalidInputError(
            f"hops_per_level: expected {start_level} values 1..1000, one for each of the levels 0.."
            f"{start_level - 1}, found {list(hops_per_level)}. Correct the list or start_level."
        )


def _check_option(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidInputError(f"{name}: expected {least}..{most}, found {value}. Choose one in this range.")


@dataclass(frozen=True)
class _Links:
    """What links of a graph are made of; `build_index` explains it. With several `kinds`, m is their sum."""

    kinds: tuple[str, ...]
    m: int
    ef_construction: int
    seed: int = DEFAULT_SEED
    threads: int | None = None


@dataclass(frozen=True)
class _Levels:
    """Which levels are walked and from where; `build_index` explains it."""

    start_level: int | None
    choose: bool
    hops_per_level: tuple[int, ...] | None


def _link(
    items: Items, copies: Copies, links: _Links, levels: _Levels, on_progress: OnProgress | None
) -> GraphIndex:
    """A graph over `items`, of which only those with distinct vectors are linked by faiss."""
    distinct = without_copies(items, copies)

    def link(kind: str) -> GraphIndex:
        index = _add_all(distinct, kind, links, on_progress)
        return convert_faiss_index(
            index,
            distinct,
            start_level=levels.start_level,
            choose=levels.choose,
            hops_per_level=levels.hops_per_level,
            on_progress=on_progress,
        )

    # With the same number of neighbours and the same seed all graphs have the same levels.
    graph = functools.reduce(union_of_graphs, map(link, links.kinds))
    if levels.choose:
        graph = link_unreachable(graph)
    graph = hang_copies(graph, items, copies)
    return replace(graph, meta=replace(graph.meta, seed=links.seed))


def _without_cuts(graph: GraphIndex, items: Items, on_progress: OnProgress | None) -> GraphIndex:
    """The imported `graph`, or one that is linked anew where equal vectors cut it.

    A few copies do no harm. As many as a neighbour list is long fill the lists of each other, and those that
    were looked at when other items were linked, which then have few links as well.
    """
    meta, copies = graph.meta, find_copies(items, on_progress=on_progress)
    if copies.most_of_one_vector <= meta.m:
        return replace(graph, meta=replace(meta, num_copies=copies.count))
    links = _Links((meta.metric,), max(meta.m, _LEAST_M), meta.ef_construction or DEFAULT_EF_CONSTRUCTION)
    levels = _Levels(meta.start_level, meta.chosen_entry_points, meta.hops_per_level)
    return _link(items, copies, links, levels, on_progress)


def _add_all(
    items: Items,
    kind: str,
    links: _Links,
    on_progress: OnProgress | None,
) -> Any:
    if links.threads is not None:
        _check_option("threads", links.threads, 1, 4096)
        faiss.omp_set_num_threads(links.threads)
    m = links.m // len(links.kinds)
    index: Any = faiss.IndexHNSWFlat(items.dim, m, FAISS_METRICS[kind])
    index.hnsw.efConstruction = links.ef_construction
    index.hnsw.rng = faiss.RandomGenerator(links.seed)  # type: ignore[attr-defined]
    rows = max(_LEAST_ROWS_A_CALL, -(-items.num_items // _MOST_CALLS))
    for start, chunk in items.chunks(rows):
        index.add(np.ascontiguousarray(chunk, np.float32))
        if on_progress is not None:
            on_progress(f"build graph ({kind})", start + len(chunk), items.num_items)
    return index
