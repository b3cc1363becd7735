"""Inserting items into the graph of an index: the choice of their links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.ops._index_resource import IndexResource
from nann.ops._library import load_library


class ListChanges(NamedTuple):
    """Neighbour lists on one level that replace those that their nodes had.

    nodes:      int32 [n], positions, ascending.
    row_splits: int64 [n + 1]; the list of nodes[i] is neighbors[row_splits[i]:row_splits[i + 1]].
    neighbors:  int32 [edges], positions.

    Example:
      >>> ListChanges(np.array([500]), np.array([0, 2]), np.array([7, 9])).nodes
      array([500])
    """

    nodes: npt.NDArray[np.int32]
    row_splits: npt.NDArray[np.int64]
    neighbors: npt.NDArray[np.int32]


class LinkBuilder:
    """The graph of an index, which itself does not change, and items that were inserted.

    m:               links of an item at each level above 0; twice as many at level 0.
    ef_construction: candidates that are looked at for the links of an item.
    inner_product:   half of the links lead to large inner products, half to near items.

    Eager mode only. Thread-safe. docs/live.md#the-choice-of-links has the algorithm.

    Example:
      >>> builder = LinkBuilder(index, m=8, ef_construction=40)
      >>> bottom, upper = builder.insert(np.zeros([1, 8], np.float32), levels=[0])
      >>> bool((bottom.nodes[-1:] == 500).all()), upper.nodes.size
      (True, 0)
    """

    def __init__(
        self, index: IndexResource, *, m: int, ef_construction: int, inner_product: bool = False
    ) -> None:
        self._ops = load_library()
        self._num_levels = index.meta.start_level
        self._builder = self._ops.nann_link_builder(
            index.resource_handle,
            table="item_embs",
            m=m,
            ef_construction=ef_construction,
            inner_product=inner_product,
        )

    def insert(
        self, vectors: npt.NDArray[np.float32], levels: Sequence[int] | npt.NDArray[np.int32]
    ) -> list[ListChanges]:
        """Insert items and link them, one after the other.

        vectors: float32 [n, D], finite. Item i gets the position P + i; P positions were there before.
        levels:  [n], the highest level of each item; levels above those of the index are its highest.

        Returns the lists that have changed, level 0 first. Raises tf.errors.InvalidArgumentError.
        """
        nodes, row_splits, neighbors = self._ops.nann_choose_links(
            self._builder, vectors, tf.constant(levels, tf.int32, [len(vectors)]), num_levels=self._num_levels
        )
        return [
            ListChanges(*(each.numpy() for each in level))
            for level in zip(nodes, row_splits, neighbors, strict=True)
        ]

    def apply(self, vectors: npt.NDArray[np.float32], changes: Sequence[ListChanges]) -> None:
        """Insert items with lists that `insert` has returned before, in this process or another."""
        self._ops.nann_apply_links(
            self._builder,
            vectors,
            [change.nodes for change in changes],
            [change.row_splits for change in changes],
            [change.neighbors for change in changes],
        )

    def delete(self, positions: npt.NDArray[np.int32]) -> None:
        """Delete items: no link is chosen that leads to them. Raises tf.errors.InvalidArgumentError."""
        self._ops.nann_delete_linked(self._builder, positions)
