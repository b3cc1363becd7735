"""The steps of a walk as single ops, from which another walk can be composed."""

from __future__ import annotations

import tensorflow as tf

from nann.ops._index_resource import IndexResource
from nann.ops._library import load_library


def enter_points(index: IndexResource) -> tf.Tensor:
    """Return the positions of the index's entry points, int32 [P].

    Example:
      >>> enter_points(index).dtype
      tf.int32
    """
    return load_library().nann_enter_points(index.resource_handle)


def gather_neighbors(index: IndexResource, positions: tf.Tensor, *, level: int) -> tf.Tensor:
    """Return the neighbours of `positions` on a level.

    positions: int32 [n].
    level:     0 to start_level - 1.

    Returns int32 [edges]: the neighbour lists one after the other, so an item may occur several times.

    Example:
      >>> neighbors = gather_neighbors(index, tf.constant([0, 1]), level=0)
      >>> neighbors.shape.rank, bool(tf.size(neighbors) > 0)
      (1, True)
    """
    return load_library().nann_gather_neighbors(index.resource_handle, positions, level=level)


def visited_set(index: IndexResource) -> tf.Tensor:
    """Return an empty visited set over the items of the index, variant [].

    Example:
      >>> visited_set(index).dtype
      tf.variant
    """
    return load_library().nann_visited_set_create(index.resource_handle)


def filter_visited(visited: tf.Tensor, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Drop the positions that were visited before, and repetitions.

    visited:   variant [], as `visited_set` makes it; it does not change.
    positions: int32 [n].

    Returns the new positions, int32 [m], in their order, and a visited set that holds them too, variant [].

    Example:
      >>> new, visited = filter_visited(visited_set(index), tf.constant([5, 7, 5]))
      >>> new.numpy()
      array([5, 7], dtype=int32)
      >>> filter_visited(visited, tf.constant([7, 9]))[0].numpy()
      array([9], dtype=int32)
    """
    fresh, after = load_library().nann_filter_visited(visited, positions)
    return fresh, after


def top_k(
    index: IndexResource, positions: tf.Tensor, scores: tf.Tensor, k: tf.Tensor | int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the positions with the best scores.

    positions: int32 [n].
    scores:    float32 [n]; NaN drops the item.
    k:         int32 [] or an int.

    Returns positions int32 [m] and scores float32 [m], m <= k, best first. Of equal scores the one of the
    smaller item id comes first.

    Example:
      >>> positions, scores = top_k(index, tf.constant([4, 5, 6]), tf.constant([1.0, 3.0, 2.0]), 2)
      >>> positions.numpy(), scores.numpy()
      (array([5, 6], dtype=int32), array([3., 2.], dtype=float32))
    """
    top_positions, top_scores = load_library().nann_top_k(index.resource_handle, positions, scores, k)
    return top_positions, top_scores


def ids_to_positions(index: IndexResource, ids: tf.Tensor) -> tf.Tensor:
    """Return the positions of item ids.

    ids: int64 [...].

    Returns int32 [...], -1 where the index has no such item.

    Example:
      >>> ids = np.load("RUN/embeddings/item_ids.npy")
      >>> ids_to_positions(index, [ids[3], -5]).numpy()
      array([ 3, -1], dtype=int32)
    """
    return load_library().nann_ids_to_positions(index.resource_handle, ids)


def positions_to_ids(index: IndexResource, positions: tf.Tensor) -> tf.Tensor:
    """Return the item ids at positions.

    positions: int32 [...], -1 for no item.

    Returns int64 [...], -1 where the position is -1.

    Example:
      >>> ids = np.load("RUN/embeddings/item_ids.npy")
      >>> bool((positions_to_ids(index, tf.range(500)) == ids).numpy().all())
      True
    """
    return load_library().nann_positions_to_ids(index.resource_handle, positions)


def lookup_rows(index: IndexResource, ids: tf.Tensor, *, table: str) -> tf.Tensor:
    """Return the rows of ids in a vocabulary.

    ids:   int64 [...].
    table: name of a user table int64 [V] of the index, ascending.

    Returns int64 [...]: 1 + the place of the id in the table, 0 where the table does not hold it.

    Example:
      >>> np.load("RUN/vocabulary/item_ids.npy")[:4]
      array([1, 3, 5, 7])
      >>> lookup_rows(index, tf.constant([5, 6], tf.int64), table="item_ids").numpy()
      array([3, 0])
    """
    return load_library().nann_lookup_rows(index.resource_handle, ids, table=table)


def gather_table_rows(index: IndexResource, rows: tf.Tensor, *, table: str) -> tf.Tensor:
    """Return rows of an item table or a user table as float32.

    rows:  int32 or int64 [...], 0 to the table's rows - 1.
    table: name of a table [rows, width] of the index.

    Returns float32 [..., width]. Raises tf.errors.InvalidArgumentError for a row outside of the table.

    Example:
      >>> gather_table_rows(index, tf.constant([[0, 2]]), table="item_embs").shape
      TensorShape([1, 2, 8])
    """
    return load_library().nann_gather_table_rows(index.resource_handle, rows, table=table)


def metrics() -> dict[str, int]:
    """Return the counters of this process by name; only in eager mode.

    Example:
      >>> sorted(metrics())
      [...'/nann/searches'...]
    """
    names, values = load_library().nann_metrics()
    return {name.decode(): int(value) for name, value in zip(names.numpy(), values.numpy(), strict=True)}
