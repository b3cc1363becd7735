"""The fused walk and the scoring of given items, as Python functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import tensorflow as tf

from nann.errors import InvalidInputError
from nann.ops._index_resource import IndexResource
from nann.ops._library import load_library
from nann.ops._proxy_walk import ProxyWalk

# Long enough for efficient matrix products, short enough for a tile's values to stay in a core's cache.
DEFAULT_TILE_ROWS = 128
# A batch of 1,000 users with four beams of 1,000 each: seconds of work.
DEFAULT_MAX_WORK = 2**22

Precision = Literal["float32", "bfloat16"]


class BeamSearchResult(NamedTuple):
    """The answer of a search for B users.

    ids:             item ids int64 [B, k], best first, -1 where fewer than k items were found.
    scores:          float32 [B, k], -inf where the id is -1.
    items_scored:    int32 [B], number of items that the scorer was run on.
    row_status:      int32 [B], 0 or, with `keep_valid_rows`, the google.rpc.Code for which a row is padding.
    applied_segment: int64 [B], the last segment of the state that was searched, 0 for the base.
    passing:         int64 [B], how many items the filter lets pass, excluded ones too; -1 where they were not
                     counted.
    exact:           bool [B], whether every item that passes and is not excluded was scored.

    Example:
      >>> ids, scores, zeros = tf.constant([[7, -1]]), tf.constant([[0.5, -np.inf]]), tf.constant([0])
      >>> found = BeamSearchResult(ids, scores, zeros, zeros, zeros, passing=zeros, exact=zeros > 0)
      >>> found.ids.shape
      TensorShape([1, 2])
    """

    ids: tf.Tensor
    scores: tf.Tensor
    items_scored: tf.Tensor
    row_status: tf.Tensor
    applied_segment: tf.Tensor
    passing: tf.Tensor
    exact: tf.Tensor


def beam_search(
    index: IndexResource,
    user_state: Sequence[tf.Tensor],
    level_topn: tf.Tensor,
    exclude_ids: tf.Tensor | None = None,
    filters: tf.Tensor | None = None,
    *,
    scorer: Any,
    user_functions: Sequence[Any] = (),
    item_tables: Sequence[str] = ("item_embs",),
    tile_rows: int = DEFAULT_TILE_ROWS,
    program: bytes = b"",
    precision: Precision = "float32",
    rescore_tables: Sequence[str] = (),
    max_work: int = DEFAULT_MAX_WORK,
    keep_valid_rows: bool = False,
    expand: int = 0,
    score_all: bool = False,
    proxy: ProxyWalk | None = None,
    proxy_only_filters: bool = False,
) -> BeamSearchResult:
    """Walk the index for each user of a batch, inside one op (docs/design.md, "The search").

    user_state:     tensors [B, ...]; the scorer takes them first, of one user, without B.
    level_topn:     int32 [n] for all users, or [B, n]: entry beam, one beam per hop from the top level down,
                    final k.
    exclude_ids:    int64 [B, X], item ids left out of the result; -1 and unknown ids are ignored.
    filters:        string [B], filters over the index's attributes (docs/filters.md); an empty one lets every
                    item pass.
    scorer:         ConcreteFunction without captures: (user tensors of one user..., one float32 [tile_rows,
                    width] for each item table...) -> scores float32 [tile_rows].
    user_functions: empty, or one ConcreteFunction without captures that runs once per user: (user tensors of
                    one user...) -> the user tensors that the scorer takes instead.
    item_tables:    names of the index's item tables that the scorer reads, in the order of its inputs.
    tile_rows:      items that the scorer is run on at once.
    program:        scorer program (docs/scorer-program.md) that computes the same as the functions: the
                    native executor runs it in their place. Empty: TensorFlow runs the functions.
    precision:      of the native executor's matrix products; sums are always float32.
    rescore_tables: tables of the same widths as `item_tables`: the native executor scores the best k + k / 4
                    + 16 results over them again, in float32, and takes the k best of these.
    max_work:       largest B x sum of level_topn; where rows differ, each counts with the largest k.
    keep_valid_rows: answer a row of `level_topn` [B, n] that is not valid with padding and a `row_status`: 3
                    for beams that are not valid, 8 for too large a share of `max_work`. A batch without any
                    valid row is refused.
    expand:         0 is the fixed walk. 1 and more is the adaptive walk (Algorithm 2 of the HNSW paper, arXiv
                    1603.09320, for several candidates at once): a hop expands this many candidates; a level
                    ends when as many of its best candidates are expanded as its widest beam says.
    score_all:      score every item in place of a walk; of `level_topn` only k counts.
    proxy:          the proxy walk, whose width is the widest beam of level 0. Where its anchors' scores are
                    not finite, or are all equal, the walk is that of `expand`.
    proxy_only_filters: whether the proxy walk is taken only by a search that has to look for what a filter,
                    or many exclusions, leave.

    Raises InvalidInputError when a function has captures; tf.errors.InvalidArgumentError, naming the input,
    expected and actual, when a tensor does not fit.

    Example:
      >>> shapes = [tf.TensorSpec([8]), tf.TensorSpec([128, 8])]
      >>> @tf.function(input_signature=shapes, autograph=False)
      ... def inner_product(user, items):
      ...     return tf.linalg.matvec(items, user)
      >>> found = beam_search(
      ...     index,
      ...     [tf.ones([1, 8])],
      ...     [100, 200, 200, 200, 200, 5],
      ...     scorer=inner_product.get_concrete_function(),
      ... )
      >>> found.ids.shape
      TensorShape([1, 5])
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
            filter=[] if filters is None else [filters],
            max_work=max_work,
            keep_valid_rows=keep_valid_rows,
            expand=expand,
            score_all=score_all,
            **({} if proxy is None else proxy.attributes()),
            proxy_only_filters=proxy_only_filters,
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

    positions: int32 [B, n], positions in the index; -1 stands for an unknown item.

    The other arguments and the errors are those of `beam_search`. Returns float32 [B, n], -inf where the
    position is -1.

    Example:
      >>> shapes = [tf.TensorSpec([8]), tf.TensorSpec([128, 8])]
      >>> @tf.function(input_signature=shapes, autograph=False)
      ... def inner_product(user, items):
      ...     return tf.linalg.matvec(items, user)
      >>> scorer = inner_product.get_concrete_function()
      >>> score_items(index, [tf.zeros([1, 8])], [[0, 1, -1]], scorer=scorer).numpy()
      array([[  0.,   0., -inf]], dtype=float32)
    """
    return load_library().nann_score_items(
        index=index.resource_handle,
        user_state=[tf.convert_to_tensor(tensor) for tensor in user_state],
        positions=positions,
        **_scorer_attributes(scorer, user_functions, item_tables, tile_rows, program, precision),
    )


def score_ids(
    index: IndexResource,
    user_state: Sequence[tf.Tensor],
    item_ids: tf.Tensor,
    *,
    scorer: Any,
    user_functions: Sequence[Any] = (),
    item_tables: Sequence[str] = ("item_embs",),
    tile_rows: int = DEFAULT_TILE_ROWS,
    program: bytes = b"",
    precision: Precision = "float32",
) -> tuple[tf.Tensor, tf.Tensor]:
    """`score_items` by item ids, which are looked up in the state of the index that is scored.

    item_ids: int64 [B, n].

    Returns scores float32 [B, n], -inf where the index has no such item, and `applied_segment` int64 [B], the
    last segment of that state.

    Example:
      >>> shapes = [tf.TensorSpec([8]), tf.TensorSpec([128, 8])]
      >>> @tf.function(input_signature=shapes, autograph=False)
      ... def inner_product(user, items):
      ...     return tf.linalg.matvec(items, user)
      >>> scorer = inner_product.get_concrete_function()
      >>> unknown = tf.constant([[-5]], tf.int64)
      >>> scores, applied_segment = score_ids(index, [tf.zeros([1, 8])], unknown, scorer=scorer)
      >>> scores.numpy(), applied_segment.numpy()
      (array([[-inf]], dtype=float32), array([0]))
    """
    found = load_library().nann_score_ids(
        index=index.resource_handle,
        user_state=[tf.convert_to_tensor(tensor) for tensor in user_state],
        item_ids=item_ids,
        **_scorer_attributes(scorer, user_functions, item_tables, tile_rows, program, precision),
    )
    return found.scores, found.applied_segment


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
