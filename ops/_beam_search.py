"""The fused walk and the scoring of given items, as Python functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from nann.errors import InvalidInputError
from nann.ops._index_resource import IndexResource
from nann.ops._library import load_library

# Enough rows that the cost of calling a TensorFlow function is small; a hop of 200 still fills two tiles.
DEFAULT_TILE_ROWS = 128
# Ten users with the widest beams that the op takes, or 3,800 with the default ones.
DEFAULT_MAX_WORK = 2**22

Precision = Literal["float32", "bfloat16"]


class BeamSearchResult(NamedTuple):
    """What a search returns.

    Attributes:
      ids: int64 [B, k], best first, -1 where fewer than k items were found.
      scores: float32 [B, k], -inf where padded.
      items_scored: int32 [B], items that the scorer ran on.

    Example:
      >>> scores = tf.constant([[2.5, -np.inf]])
      >>> nann.ops.BeamSearchResult(tf.constant([[30, -1]]), scores, tf.constant([5])).ids.shape
      TensorShape([1, 2])
    """

    ids: tf.Tensor
    scores: tf.Tensor
    items_scored: tf.Tensor


def beam_search(
    index: IndexResource,
    user_state: Sequence[tf.Tensor],
    level_topn: tf.Tensor,
    exclude_ids: tf.Tensor | None = None,
    *,
    scorer: Any,
    user_functions: Sequence[Any] = (),
    item_tables: Sequence[str] = ("item_embs",),
    tile_rows: int = DEFAULT_TILE_ROWS,
    program: bytes = b"",
    precision: Precision = "float32",
    rescore_tables: Sequence[str] = (),
    max_work: int = DEFAULT_MAX_WORK,
    expand: int = 0,
) -> BeamSearchResult:
    """Walk the index for each user of a batch, inside one op (docs/design.md#the-search).

    Args:
      index: the index.
      user_state: tensors [B, ...]: what the scorer takes of a user, without B.
      level_topn: int32 [n] for all users or [B, n]: entry beam, one beam per hop from the top level down, k.
      exclude_ids: int64 [B, X] item ids that are left out of the result. Ids that the index lacks, such as
        -1, have no effect.
      scorer: ConcreteFunction without captures: (user tensors of one user..., float32 [tile_rows, width] per
        item table...) -> float32 [tile_rows]. Freeze one that has captures.
      user_functions: none, or one frozen ConcreteFunction that runs once per user: (user tensors of one
        user...) -> the user tensors that the scorer takes in their place.
      item_tables: names of the item tables that the scorer reads, in its order.
      tile_rows: items per call of the scorer.
      program: a scorer program (docs/scorer-program.md) that computes the same without TensorFlow and runs
        in place of the functions. Empty: TensorFlow runs the functions.
      precision: of the matrix products of the program. Their sums are float32 always.
      rescore_tables: item tables as wide as `item_tables`, over which the program scores the best
        k + k / 4 + 16 results again in float32 before the final k are taken.
      max_work: limit of B x the sum of level_topn; with beams per user each counts the largest k.
      expand: 0 is the fixed walk, of the index's hops. More is the adaptive walk: the widest beam of a level
        says how many of its best candidates are expanded, this many of them per hop, and the level ends when
        all of them were (1 is Algorithm 2 of the HNSW paper, arXiv 1603.09320).

    Raises:
      InvalidInputError: the scorer has captures.
      tf.errors.InvalidArgumentError: a tensor does not fit; the input, expected and actual.

    Example:
      >>> scorer = tf.function(
      ...     lambda user, items: tf.linalg.matvec(items, user),
      ...     input_signature=[tf.TensorSpec([2]), tf.TensorSpec([128, 2])],
      ... ).get_concrete_function()
      >>> result = nann.ops.beam_search(
      ...     index, [tf.constant([[1.0, 0.0]])], tf.constant([1, 2, 2, 3]), scorer=scorer
      ... )
      >>> result.ids.numpy().tolist(), result.scores.numpy().tolist()
      ([[50, 40, 30]], [[4.0, 3.0, 2.0]])
    """
    user_state = [tf.convert_to_tensor(tensor) for tensor in user_state]
    if exclude_ids is None:
        exclude_ids = tf.zeros([tf.shape(user_state[0])[0], 0], tf.int64)
    return BeamSearchResult(
        *load_library().nann_beam_search(
            index=index.resource_handle,
            user_state=user_state,
            level_topn=level_topn,
            exclude_ids=exclude_ids,
            max_work=max_work,
            expand=expand,
            rescore_tables=list(rescore_tables),
            **_scorer_attributes(scorer, user_functions, item_tables, tile_rows, program, precision),
        )
    )


def score_items(
    index: IndexResource,
    user_state: Sequence[tf.Tensor],
    positions: tf.Tensor,
    *,
    scorer: Any,
    user_functions: Sequence[Any] = (),
    item_tables: Sequence[str] = ("item_embs",),
    tile_rows: int = DEFAULT_TILE_ROWS,
    program: bytes = b"",
    precision: Precision = "float32",
) -> tf.Tensor:
    """Score given items for each user, in the same tiles as `beam_search`.

    Args:
      index: the index.
      user_state: as in `beam_search`, like all that follow `positions`.
      positions: int32 [B, n] positions in the index; -1 stands for an unknown item.
      scorer: as above.
      user_functions: as above.
      item_tables: as above.
      tile_rows: as above.
      program: as above.
      precision: as above.

    Returns:
      float32 [B, n], -inf where the position is -1.

    Raises:
      InvalidInputError: the scorer has captures.
      tf.errors.InvalidArgumentError: a tensor does not fit; the input, expected and actual.

    Example:
      >>> scorer = tf.function(
      ...     lambda user, items: tf.linalg.matvec(items, user),
      ...     input_signature=[tf.TensorSpec([2]), tf.TensorSpec([128, 2])],
      ... ).get_concrete_function()
      >>> user = tf.constant([[2.0, 1.0]])
      >>> nann.ops.score_items(index, [user], tf.constant([[3, -1]]), scorer=scorer).numpy().tolist()
      [[7.0, -inf]]
    """
    return load_library().nann_score_items(
        index=index.resource_handle,
        user_state=[tf.convert_to_tensor(tensor) for tensor in user_state],
        positions=positions,
        **_scorer_attributes(scorer, user_functions, item_tables, tile_rows, program, precision),
    )


def _scorer_attributes(
    scorer: Any,
    user_functions: Sequence[Any],
    item_tables: Sequence[str],
    tile_rows: int,
    program: bytes,
    precision: Precision,
) -> dict[str, Any]:
    _check_function("scorer", scorer)
    for function in user_functions:
        _check_function("user_functions", function)
    return {
        "scorer": scorer,
        "user_functions": list(user_functions),
        "scorer_program": program,
        "precision": precision,
        "item_tables": list(item_tables),
        "tile_rows": tile_rows,
    }


def _check_function(what: str, function: Any) -> None:
    captures = [tensor.name for tensor in function.graph.internal_captures]
    if captures:
        raise InvalidInputError(
            f"{what}: expected a function without captures, found {len(captures)} "
            f"({', '.join(captures[:3])}, ...): freeze it with "
            "convert_variables_to_constants_v2 first (nann.export does)."
        )
