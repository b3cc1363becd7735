"""Items with equal vectors: one of them is linked as usual, its copies hang on it.

Copies that are linked like other items link to each other: their neighbour lists hold nothing else, walks
that meet them are lost among them, and items that are inserted later find no other neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nann.export.index.files import GraphIndex, Level, with_links
from nann.export.items import CHUNK_ROWS, Items
from nann.progress import OnProgress

# Copies that a copy leads to. With one, a walk would need a hop for each copy; with more, a walk that expands
# some of them would score more of them in vain.
_COPIES_PER_COPY = 2


@dataclass(frozen=True)
class Copies:
    """Which items have equal vectors.

    representative: int32 [N]: of the items with the vector of position i the one with the smallest id.

    Example:
      >>> copies = find_copies(read_items("RUN"))
      >>> copies.count, copies.representative.shape
      (0, (500,))
    """

    representative: npt.NDArray[np.int32]

    @property
    def _is_copy(self) -> npt.NDArray[np.bool_]:
        is_copy: npt.NDArray[np.bool_] = self.representative != np.arange(self.representative.size)
        return is_copy

    @property
    def distinct(self) -> npt.NDArray[np.int64]:
        """Positions of the representatives, ascending."""
        return np.flatnonzero(~self._is_copy)

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """Positions of the copies, ascending."""
        return np.flatnonzero(self._is_copy)

    @property
    def count(self) -> int:
        """Number of items whose vector an item with a smaller id has as well."""
        return int(np.count_nonzero(self._is_copy))

    @property
    def most_of_one_vector(self) -> int:
        """Number of items that share the most frequent vector; 1 where all vectors differ."""
        return int(np.bincount(self.representative).max())


def find_copies(items: Items, *, on_progress: OnProgress | None = None) -> Copies:
    """Find the items whose stored vectors are equal; -0.0 equals 0.0.

    Items with equal hashes are compared with the one of the smallest id. An item that only has the hash of
    another vector counts as no copy, which is right, and is looked for no further, because it is that rare.

    Example:
      >>> find_copies(read_items("RUN")).most_of_one_vector
      1
    """
    hashes = np.empty(items.num_items, np.uint64)
    for start, chunk in items.chunks():
        hashes[start : start + len(chunk)] = _hashes(chunk)
        if on_progress is not None:
            on_progress("find equal vectors", start + len(chunk), items.num_items)
    order = np.lexsort((items.ids, hashes))
    first_of_run = np.ones(order.size, np.bool_)
    first_of_run[1:] = np.diff(hashes[order]) != 0
    first = order[first_of_run][np.cumsum(first_of_run) - 1]
    representative = np.arange(order.size, dtype=np.int32)
    others, firsts = order[~first_of_run], first[~first_of_run]
    for start in range(0, others.size, CHUNK_ROWS):
        rows, its_first = others[start : start + CHUNK_ROWS], firsts[start : start + CHUNK_ROWS]
        equal = (items.embs[rows] == items.embs[its_first]).all(axis=1)
        representative[rows[equal]] = its_first[equal]
    return Copies(representative)


def without_copies(items: Items, copies: Copies) -> Items:
    """The items with distinct vectors, in their order. Their state is left out: a graph does not see it."""
    if copies.count == 0:
        return items
    return replace(items, ids=items.ids[copies.distinct], embs=items.embs[copies.distinct], state={})


def hang_copies(graph: GraphIndex, items: Items, copies: Copies) -> GraphIndex:
    """The graph over all `items`, from `graph` over `without_copies(items, copies)`.

    Copies are on level 0 only. A representative leads to its first copies, as many as a full neighbour list;
    each copy leads to its representative and two further copies. So no list is longer than two full ones, a
    walk meets copies by ascending id, which is the order of items with equal scores, and expanding one brings
    few others.
    """
    meta = replace(graph.meta, num_items=items.num_items, num_copies=copies.count)
    if copies.count == 0:
        return replace(graph, meta=meta)
    place = copies.distinct.astype(np.int32)
    levels = [_spread(level, place, items.num_items) for level in graph.levels]
    by_group = copies.positions[
        np.lexsort((items.ids[copies.positions], copies.representative[copies.positions]))
    ].astype(np.int32)
    representatives = copies.representative[by_group]
    parents = _parents(by_group, representatives, max(2 * graph.meta.m, 1))
    sources, targets = np.concatenate([by_group, parents]), np.concatenate([representatives, by_group])
    levels[0] = with_links(levels[0], sources, targets)
    return GraphIndex(meta, place[graph.enter_points], tuple(levels))


def _hashes(rows: npt.NDArray[np.generic]) -> npt.NDArray[np.uint64]:
    """A hash of each row, uint64 [n]: the sum of its bits as numbers times odd numbers, modulo 2^64."""
    # Adding zero makes 0.0 of -0.0.
    bits = (np.ascontiguousarray(rows, np.float32) + np.float32(0)).view(np.uint32)
    factors = np.random.default_rng(0).integers(0, 2**63, bits.shape[1], np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    hashes: npt.NDArray[np.uint64] = bits.astype(np.uint64) @ factors
    return hashes


def _spread(level: Level, place: npt.NDArray[np.int32], num_items: int) -> Level:
    """The lists of a level whose node i becomes the node place[i] of `num_items`; `place` ascends."""
    lengths = np.zeros(num_items + 1, np.int64)
    lengths[1 + place] = np.diff(level.row_splits)
    return Level(place[level.values], np.cumsum(lengths))


def _parents(
    by_group: npt.NDArray[np.int32], representatives: npt.NDArray[np.int32], first_copies: int
) -> npt.NDArray[np.int32]:
    """The node that leads to each copy. `by_group` are the copies, group by group, by ascending id."""
    begins = np.flatnonzero(np.diff(representatives, prepend=-1))
    begin = np.repeat(begins, np.diff(begins, append=by_group.size))
    rank = np.arange(by_group.size) - begin
    parent_rank = (rank - first_copies) // _COPIES_PER_COPY
    return np.where(rank < first_copies, representatives, by_group[begin + np.maximum(parent_rank, 0)])
