"""Where walks enter a graph: enough items to find every hill of a score, and few enough to cost little."""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

from nann.export.index.files import GraphIndex, with_links
from nann.export.items import CHUNK_ROWS, Items

Positions = npt.NDArray[np.int32]

# All nodes of the start level enter when they are this many (docs/quality.md#entry-points). Walks from ten of
# 12,000 items miss most of the corpus, and a thousand cost more than the rest of a walk.
LEAST_ENTRY_POINTS, MOST_ENTRY_POINTS = 64, 128
# Chosen where the start level has fewer or more.
_CHOSEN = 96
# k-means looks at this many items for each entry point, which is enough for their centres.
_ITEMS_PER_ENTRY_POINT = 256


def choose_entry_points(node_levels: Positions, start_level: int, items: Items) -> Positions:
    """The entry points, ascending.

    node_levels: int32 [N], the number of levels that each node lives on.

    Nodes of `start_level` where they are 64 to 128. Where they are more, 96 of them, spread over the corpus.
    Where they are fewer, all of them and others of the levels below, spread over the corpus.
    """
    chosen = np.flatnonzero(node_levels > start_level)
    if chosen.size > MOST_ENTRY_POINTS:
        chosen = _spread(chosen, _CHOSEN, items)
    for level in reversed(range(start_level)):
        if chosen.size >= LEAST_ENTRY_POINTS:
            break
        others = np.setdiff1d(np.flatnonzero(node_levels > level), chosen)
        chosen = np.union1d(chosen, _spread(others, _CHOSEN - chosen.size, items))
    return chosen.astype(np.int32)


def _spread(candidates: npt.NDArray[np.int64], count: int, items: Items) -> npt.NDArray[np.int64]:
    """At most `count` of `candidates`: the nearest to the centres of k-means over their vectors."""
    if candidates.size <= count:
        return candidates
    generator = np.random.default_rng(0)
    drawn = np.sort(generator.permutation(candidates)[: count * _ITEMS_PER_ENTRY_POINT])
    vectors = np.ascontiguousarray(items.embs[drawn], np.float32)
    kmeans = faiss.Kmeans(items.dim, count, niter=6, seed=1, min_points_per_centroid=1)
    kmeans.train(vectors)
    index = faiss.IndexFlatL2(items.dim)
    index.add(vectors)
    _, nearest = index.search(kmeans.centroids, 1)
    return np.unique(drawn[nearest[:, 0]])


def reachable(graph: GraphIndex) -> npt.NDArray[np.bool_]:
    """bool [N]: the nodes that links of the walked levels lead to from the entry points, and these.

    Example:
      >>> bool(reachable(read_index("RUN/index")).all())
      True
    """
    reached = np.zeros(graph.meta.num_items, np.bool_)
    frontier: npt.NDArray[np.int64] = graph.enter_points.astype(np.int64)
    while frontier.size:
        reached[frontier] = True
        found = np.zeros_like(reached)
        for start in range(0, frontier.size, CHUNK_ROWS):
            for level in range(len(graph.levels)):
                found[_links_of(graph, level, frontier[start : start + CHUNK_ROWS])[1]] = True
        frontier = np.flatnonzero(found & ~reached)
    return reached


def link_unreachable(graph: GraphIndex) -> GraphIndex:
    """The graph with links to the nodes that no walk can reach, from the nearest neighbour that walks reach.

    faiss drops links where a list is full, and with them, in corpora of many dimensions, the only ones to
    some items. These would never be retrieved.
    """
    while not (reached := reachable(graph)).all():
        lost = np.flatnonzero(~reached)
        nodes, neighbors = _links_of(graph, 0, lost)
        # faiss has the nearest neighbours first.
        targets, first = np.unique(nodes[reached[neighbors]], return_index=True)
        sources = neighbors[reached[neighbors]][first]
        if targets.size == 0:  # They lead to each other only: the next one will lead to the others.
            targets, sources = lost[:1], graph.enter_points[:1]
        level = with_links(graph.levels[0], sources, targets.astype(np.int32))
        graph = GraphIndex(graph.meta, graph.enter_points, (level, *graph.levels[1:]))
    return graph


def _links_of(
    graph: GraphIndex, level: int, nodes: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], Positions]:
    """All links of `nodes`, which ascend, in their order: (the node, its neighbour) of each."""
    splits = graph.levels[level].row_splits
    lengths = splits[nodes + 1] - splits[nodes]
    begins = np.concatenate([[0], np.cumsum(lengths)])
    places = np.arange(begins[-1]) + np.repeat(splits[nodes] - begins[:-1], lengths)
    return np.repeat(nodes, lengths), graph.levels[level].values[places]
