"""The parts of a walk as ops of their own, to compose other walks of."""

from __future__ import annotations

import tensorflow as tf

from nann.ops._index_resource import IndexResource
from nann.ops._library import load_library


def enter_points(index: IndexResource) -> tf.Tensor:
    """Return the entry points of the index, int32 [P].

    Example:
      >>> nann.ops.enter_points(index).numpy().tolist()
      [2]
    """
    return load_library().nann_enter_points(index.resource_handle)


def gather_neighbors(index: IndexResource, positions: tf.Tensor, *, level: int) -> tf.Tensor:
    """Return the neighbours of nodes on one level, list after list.

    Args:
      index: the index.
      positions: int32 [n], 0 to N - 1.
      level: 0, the level of all nodes, to the start level - 1.

    Returns:
      int32 [edges]. A node that is in several lists is repeated.

    Raises:
      tf.errors.InvalidArgumentError: a position or the level is out of range.

    Example:
      >>> nann.ops.gather_neighbors(index, tf.constant([2, 0]), level=0).numpy().tolist()
      [1, 3, 1]
    """
    return load_library().nann_gather_neighbors(index.resource_handle, positions, level=level)


def visited_set(index: IndexResource) -> tf.Tensor:
    """Return an empty visited set over the items of the index, variant []; see `filter_visited`.

    Example:
      >>> nann.ops.visited_set(index).dtype
      tf.variant
    """
    return load_library().nann_visited_set_create(index.resource_handle)


def filter_visited(visited: tf.Tensor, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Drop positions that were visited before and repeated ones.

    Args:
      visited: variant [], from `visited_set` or this function. It does not change.
      positions: int32 [n], 0 to N - 1.

    Returns:
      The new positions, int32 [m], in their order, and the visited set with them, variant [].

    Raises:
      tf.errors.InvalidArgumentError: a position is out of range, or `visited` is not a visited set.

    Example:
      >>> new, visited = nann.ops.filter_visited(nann.ops.visited_set(index), tf.constant([3, 1, 3]))
      >>> new.numpy().tolist()
      [3, 1]
      >>> new, visited = nann.ops.filter_visited(visited, tf.constant([1, 4]))
      >>> new.numpy().tolist()
      [4]
    """
    new, after = load_library().nann_filter_visited(visited, positions)
    return new, after


def top_k(
    index: IndexResource, positions: tf.Tensor, scores: tf.Tensor, k: tf.Tensor | int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the best items: the higher score first, of equal scores the smaller item id.

    Args:
      index: the index, whose item ids break ties.
      positions: int32 [n], 0 to N - 1.
      scores: float32 [n]. NaN drops the item.
      k: int32 [], at least 0.

    Returns:
      Positions int32 [m] and scores float32 [m], best first. m is k, or less where fewer scores are not NaN.

    Raises:
      tf.errors.InvalidArgumentError: a position or `k` is out of range, or the shapes differ.

    Example:
      >>> positions, scores = nann.ops.top_k(index, tf.constant([4, 0, 1]), tf.constant([1.0, 3.0, 1.0]), k=2)
      >>> positions.numpy().tolist(), scores.numpy().tolist()
      ([0, 1], [3.0, 1.0])
    """
    top_positions, top_scores = load_library().nann_top_k(index.resource_handle, positions, scores, k)
    return top_positions, top_scores


def ids_to_positions(index: IndexResource, ids: tf.Tensor) -> tf.Tensor:
    """Return the positions of int64 [...] item ids, int32 [...], -1 where the index has no such item.

    Example:
      >>> nann.ops.ids_to_positions(index, tf.constant([30, 7], tf.int64)).numpy().tolist()
      [2, -1]
    """
    return load_library().nann_ids_to_positions(index.resource_handle, ids)


def positions_to_ids(index: IndexResource, positions: tf.Tensor) -> tf.Tensor:
    """Return the item ids at int32 [...] positions, int64 [...], -1 where the position is -1.

    Raises:
      tf.errors.InvalidArgumentError: a position is not in -1 to N - 1.

    Example:
      >>> nann.ops.positions_to_ids(index, tf.constant([2, -1])).numpy().tolist()
      [30, -1]
    """
    return load_library().nann_positions_to_ids(index.resource_handle, positions)


def lookup_rows(index: IndexResource, ids: tf.Tensor, *, table: str) -> tf.Tensor:
    """Return the rows of ids in an embedding table: 1 + their index in a vocabulary, 0 for a missing id.

    Args:
      index: the index.
      ids: int64 [...].
      table: name of the vocabulary, an int64 user table.

    Returns:
      int64 [...].

    Raises:
      tf.errors.NotFoundError: the index has no such table.
      tf.errors.InvalidArgumentError: the table is floating-point.

    Example:
      >>> nann.ops.lookup_rows(index, tf.constant([8, 5, 6], tf.int64), table="words").numpy().tolist()
      [2, 1, 0]
    """
    return load_library().nann_lookup_rows(index.resource_handle, ids, table=table)


def gather_table_rows(index: IndexResource, rows: tf.Tensor, *, table: str) -> tf.Tensor:
    """Return rows of a table as float32.

    Args:
      index: the index.
      rows: int32 or int64 [...], 0 to the table's rows - 1.
      table: name of a floating-point item or user table.

    Returns:
      float32 [..., width].

    Raises:
      tf.errors.NotFoundError: the index has no such table.
      tf.errors.InvalidArgumentError: a row is out of range, or the table is a vocabulary.

    Example:
      >>> nann.ops.gather_table_rows(index, tf.constant([4, 0]), table="item_embs").numpy().tolist()
      [[4.0, 1.0], [0.0, 1.0]]
    """
    return load_library().nann_gather_table_rows(index.resource_handle, rows, table=table)


def metrics() -> dict[str, int]:
    """Return the counters of this process; call it eagerly.

    Example:
      >>> nann.ops.metrics()["/nann/searches"] >= 0
      True
    """
    names, values = load_library().nann_metrics()
    return {name.decode(): int(value) for name, value in zip(names.numpy(), values.numpy(), strict=True)}
