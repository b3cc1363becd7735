"""The fused walk and the scoring of given items, as Python functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from nann.errors import InvalidInputError
from nann.ops._index_resource import IndexResource
from nann.ops._library import load_library

DEFAULT_TILE_ROWS = 128
DEFAULT_MAX_WORK = 2**22

Precision = Literal["float32", "bfloat16"]


class BeamSearchResult(NamedTuple):
    """What a search returns.

    ids:          int64 [B, k], best first, -1 where fewer than k items were found.
    scores:       float32 [B, k], -inf where padded.
    items_scored: int32 [B], items that the scorer was run on.
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
    """Walk the index for each user of a batch, inside one op (design section 4).

    user_state:  tensors [B, ...] that the scorer takes, without B, first.
    level_topn:  int32 [n] for all or [B, n]: entry beam, one beam a hop from the top level down, final k.
    exclude_ids: int64 [B, X] item ids left out of the result; ids that the index lacks, as -1, mean nothing.
    scorer:      ConcreteFunction without captures: (user tensors of one user..., float32 [tile_rows, width]
                 an item table...) -> float32 [tile_rows]. Freeze one that has captures.
    user_functions: none, or one frozen ConcreteFunction, run once a row: (user tensors of one user...) -> the
                 user tensors that the scorer takes in their place.
    item_tables: names of the index's item tables that the scorer reads, in its order.
    program:     a scorer program (docs/scorer-program.md) that computes the same without TensorFlow, and is
                 run in place of the functions; empty: TensorFlow runs these.
    precision:   of the native executor's matrix products; sums are float32 always.
    rescore_tables: tables as wide as `item_tables`, over which the native executor scores the best
                 k + k / 4 + 16 results again in float32 before the last top k.
    max_work:    cap on B x sum of level_topn; rows that differ count the largest k each.
    expand:      0 is the walk of design section 4. More is the adaptive walk (HNSW paper, Algorithm 2, arXiv
                 1603.09320, many candidates at once): a level's widest beam says how many of the best are
                 expanded, a hop expands this many of these, a level ends when all of them were.

    Raises InvalidInputError when the scorer has captures; tf.errors.InvalidArgumentError, naming the input,
    expected and actual, when a tensor does not fit.
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

    user_state, scorer, user_functions, item_tables, program, precision: as in `beam_search`.
    positions: int32 [B, n] positions in the index; -1 means unknown.

    Returns float32 [B, n], -inf where the position is -1. Raises as `beam_search`.
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
