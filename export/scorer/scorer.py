"""The scorer as one frozen function over a tile of items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import tensorflow as tf

from nann.errors import InvalidInputError, NannError
from nann.export._model_specs import plain_names
from nann.export.constants import MAX_CONSTANT_BYTES, freeze
from nann.export.item_state import STATE_SCOPE, state_from_columns, width_of
from nann.export.scorer._effects import effects_of
from nann.export.scorer._encoded import lower_encoded, lower_with_user_part
from nann.export.scorer._ir import NotSplittableError
from nann.export.scorer._lower import lower
from nann.export.scorer._lowering import NotLowerableError, ScorerIr
from nann.export.scorer._partly import lower_partly
from nann.export.scorer._parts import ITEM_EMBS, ITEM_ROWS
from nann.export.scorer._report import SplitReport, not_split
from nann.export.scorer.split import split_function, whole_scorer
from nann.ops import Precision, ProxyWalk
from nann.run import RetrievalModel, item_state_of, scores_batches

# Of float32, relative to the largest score.
RELATIVE_TOLERANCE = 1e-5
# Four roundings of a type whose values have that many bits.
_NARROW = {tf.float16: 4 * 2.0**-10, tf.bfloat16: 4 * 2.0**-7}
# These pass values on.
_MOVES = frozenset(
    [
        "BroadcastTo", "Cast", "ConcatV2", "Const", "ExpandDims", "GatherV2", "Identity", "Pack",
        "Placeholder", "Reshape", "Slice", "Split", "SplitV", "Squeeze", "StridedSlice", "Tile",
        "Transpose", "Unpack",
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Scorer:
    """What a search calls for every user and every tile: ConcreteFunctions without captures.

    function:      (user tensors of one user..., float32 [tile_rows, width] of each item table...)
                   -> float32 [tile_rows].
    item_tables:   names of the item tables that it reads, in the order of its inputs: before a split the one
                   that holds all, item_embs, or item_rows where the model has item state.
    tile_rows:     rows of one call.
    user_function: (state tensors of one user, in the order of `user_state`...) -> the user tensors;
                   None: these are the state tensors.
    item_function: a tile of the table that `freeze_scorer` named -> float32 [tile_rows, W] of the item table
                   "scorer"; None: there is no such table.
    report:        what the split did; None: there was none.
    ir:            user part and tile part as a graph; None: `function` is as the model has it.
    program:       what the native executor runs in place of both functions; empty: TensorFlow runs them.
    unknown_function: what TensorFlow computes of a tile before the program goes on: (user tensors..., float32
                   [tile_rows, width] of each item table...) -> float32 [tile_rows, width]; None: nothing.
    executor_reason: why there is no program, or not for all; None: there is one, or none was asked for.
    in_place:      whether the native executor reads items where they lie: the walk then has no tiles.
    effects:       names of the assertions and prints of the model's `score`.
    tolerance:     how far scores of two implementations may lie apart, relative to the largest: float32's, or
                   that of the narrow type that the model computes in.
    precision:     of the native executor's products while it walks.
    walk_tables:   what it reads meanwhile in place of `item_tables`, with which the results are then scored
                   again in float32; none: it reads those, and nothing is scored again.
    expand:        candidates a hop of the adaptive walk; 0: the fixed walk (docs/design.md#the-search).
    proxy:         the proxy walk; None: that of `expand`.
    filter_proxy:  the proxy walk of searches that filter, where `proxy` is None; None: that of `expand`.
    score_all:     whether a search scores every item in place of a walk.
    jit:           whether XLA compiles `function`, once, when it first runs.
    """

    function: Any
    item_tables: tuple[str, ...]
    tile_rows: int
    user_function: Any | None = None
    item_function: Any | None = None
    report: SplitReport | None = None
    ir: ScorerIr | None = None
    program: bytes = b""
    unknown_function: Any | None = None
    executor_reason: str | None = None
    in_place: bool = False
    effects: tuple[str, ...] = ()
    tolerance: float = RELATIVE_TOLERANCE
    precision: Precision = "float32"
    walk_tables: tuple[str, ...] = ()
    expand: int = 0
    proxy: ProxyWalk | None = None
    filter_proxy: ProxyWalk | None = None
    score_all: bool = False
    jit: bool = False

    @property
    def executor(self) -> Literal["tensorflow", "native"]:
        """Who computes scores; TensorFlow where it computes a part of them."""
        return "native" if self.program and self.unknown_function is None else "tensorflow"

    @property
    def left_out(self) -> tuple[str, ...]:
        """Those of `effects` that do not happen: in parts of a scorer there are none."""
        return self.effects if self.program or self.ir is not None else ()

    @property
    def walk(self) -> Literal["fixed", "adaptive", "proxy", "all"]:
        """What a search does."""
        if self.score_all:
            return "all"
        if self.proxy is not None:
            return "proxy"
        return "adaptive" if self.expand else "fixed"

    @property
    def user_functions(self) -> tuple[Any, ...]:
        """The user function as the ops take it: none or one."""
        return () if self.user_function is None else (self.user_function,)

    def scoring_options(self) -> dict[str, Any]:
        """Keyword arguments of `nann.ops.score_items`: in float32."""
        return {
            "scorer": self.unknown_function or self.function,
            "user_functions": self.user_functions,
            "item_tables": self.item_tables,
            "tile_rows": self.tile_rows,
            "program": self.program,
        }

    def search_options(self) -> dict[str, Any]:
        """Keyword arguments of `nann.ops.beam_search`."""
        return {
            **self.scoring_options(),
            "item_tables": self.walk_tables or self.item_tables,
            "rescore_tables": self.item_tables if self.walk_tables else (),
            "precision": self.precision,
            "expand": self.expand,
            "proxy": self.proxy or self.filter_proxy,
            "proxy_only_filters": self.proxy is None and self.filter_proxy is not None,
            "score_all": self.score_all,
        }


def freeze_scorer(
    model: RetrievalModel, *, tile_rows: int, max_constant_bytes: int = MAX_CONSTANT_BYTES
) -> Scorer:
    """Trace `model.score` for one user and a tile of items, and freeze it. Raises InvalidInputError."""
    names = list(model.user_state)
    state = item_state_of(model)
    base_table = ITEM_ROWS if state else ITEM_EMBS
    plain = plain_names([base_table, *names])
    specs = [tf.TensorSpec(spec.shape, spec.dtype, plain[name]) for name, spec in model.user_state.items()]
    width = model.embedding_dim + width_of(state)
    specs.append(tf.TensorSpec([tile_rows, width], tf.float32, base_table))

    def score(*tensors: tf.Tensor) -> tf.Tensor:
        rows = tensors[-1]
        item_embs = rows[:, : model.embedding_dim] if state else rows
        with tf.name_scope(STATE_SCOPE):
            item_state = state_from_columns(rows[:, model.embedding_dim :], state)
        scores = scores_of(model, dict(zip(names, tensors[:-1], strict=True)), item_embs, item_state)
        if not scores.shape.is_compatible_with([tile_rows]):
            of_pairs = "; a score written for a batch of pairs says batch_score = True"
            raise InvalidInputError(
                f"score: expected scores float32 [n] for n = {tile_rows} items, found "
                f"{scores.dtype.name} {scores.shape}. Squeeze or reshape the model's "
                f"output{'' if scores_batches(model) else of_pairs}."
            )
        return tf.ensure_shape(tf.cast(scores, tf.float32), [tile_rows])

    traced = tf.function(score, input_signature=specs, autograph=False)
    frozen = freeze(traced.get_concrete_function(), what="score", max_constant_bytes=max_constant_bytes)
    return Scorer(
        frozen, (base_table,), tile_rows, effects=effects_of(frozen), tolerance=tolerance_of(frozen)
    )


def tolerance_of(function: Any) -> float:
    """How far a score may be from one whose sums have another order: some roundings of the narrowest type."""
    graph_def = function.graph.as_graph_def()
    functions = [each.node_def for each in graph_def.library.function]
    types = {
        attr.type
        for nodes in [graph_def.node, *functions]
        for node in nodes
        if node.op not in _MOVES or _is_narrowing(node)
        for attr in node.attr.values()
    }
    return max(RELATIVE_TOLERANCE, *(_NARROW.get(tf.as_dtype(each), 0.0) for each in types if each))


def _is_narrowing(node: Any) -> bool:
    """Whether it rounds numbers to a narrow type; those of item state were of that type before."""
    if node.op != "Cast" or node.name.startswith(STATE_SCOPE):
        return False
    wide, narrow = (tf.as_dtype(node.attr[name].type) for name in ("SrcT", "DstT"))
    return narrow in _NARROW and wide not in (tf.bool, tf.int8, tf.uint8, *_NARROW)


def scores_of(
    model: RetrievalModel, user_state: Mapping[str, Any], item_embs: Any, item_state: Mapping[str, Any]
) -> Any:
    """`model.score` of one user and n items; a model that scores batches gets the user n times."""
    items = (item_embs, dict(item_state)) if item_state else (item_embs,)
    if not scores_batches(model):
        return cast(Any, model).score(user_state, *items)
    n = item_embs.shape[0]
    repeated = {name: tf.broadcast_to(value, [n, *value.shape]) for name, value in user_state.items()}
    scores = cast(Any, model).score(repeated, *items)
    return tf.squeeze(scores, 1) if scores.shape.rank == 2 and scores.shape[1] == 1 else scores


def split_scorer(
    scorer: Scorer, *, num_items: int, item_table_bytes: int, keep_effects: bool = False
) -> Scorer:
    """The same scores, with the user's part run once per request and the items' part from an item table.

    item_table_bytes: what the table over `num_items` may take.
    keep_effects:     leave a scorer with assertions or prints whole, so that they happen.

    A scorer that cannot be split, or would not gain, comes back as it is; its report says why.
    """
    (base_table,) = scorer.item_tables
    if keep_effects and scorer.effects:
        reason = f"its assertions and prints are kept: {', '.join(scorer.effects)}"
        return replace(scorer, report=not_split(reason, scorer.function.inputs[-1].shape[1]))
    split = split_function(
        scorer.function, max_table_width=item_table_bytes // (4 * num_items), base_table=base_table
    )
    return Scorer(
        split.function,
        split.item_tables,
        scorer.tile_rows,
        user_function=split.user_function,
        item_function=split.item_function,
        report=split.report,
        ir=split.ir,
        effects=scorer.effects,
        tolerance=scorer.tolerance,
    )


def choose_executor(
    scorer: Scorer, wanted: Literal["auto", "native", "tensorflow"], tables: Mapping[str, Path]
) -> Scorer:
    """The same scorer, run by `wanted` over `tables`; "auto" is the native executor for all that it can.

    Raises InvalidInputError, naming the node, when the native executor is wanted and cannot.
    """
    if wanted == "tensorflow":
        return scorer
    try:
        ir = scorer.ir or whole_scorer(scorer.function)
        program = lower(ir)
        if program.after_user_function:
            program = lower_with_user_part(ir, scorer.user_function) or program
    except NotSplittableError as error:
        if wanted == "auto":
            return replace(scorer, executor_reason=str(error))
        raise _cannot_run(error) from error
    except NotLowerableError as error:
        if wanted == "auto":
            return _run_partly(scorer, ir, error)
        raise _cannot_run(error) from error
    types = {np.load(tables[name], mmap_mode="r").dtype for name in scorer.item_tables}
    in_place = program.is_similarity() and types == {np.dtype(np.float32)}
    return replace(scorer, program=program.to_bytes(), in_place=in_place)


def with_encoder(scorer: Scorer, encoder: Any, *, may_take_apart: bool = False) -> Scorer:
    """The scorer of what a user's state is computed from.

    encoder:        ConcreteFunction without captures: (tensors of one user...) -> the user's state.
    may_take_apart: whether TensorFlow may compute parts of it that follow from integers, user by user.

    Raises NotSplittableError, NotLowerableError: the native executor cannot run the encoder.
    """
    ir = scorer.ir or whole_scorer(scorer.function)
    found = lower_encoded(ir, scorer.user_function, encoder, may_take_apart=may_take_apart)
    return replace(scorer, ir=found.ir, program=found.program.to_bytes(), user_function=found.user_function)


def runs_natively(scorer: Scorer) -> bool:
    """Whether the native executor can run all of it."""
    try:
        lower(scorer.ir or whole_scorer(scorer.function))
    except (NotSplittableError, NotLowerableError):
        return False
    return True


def _cannot_run(error: NannError) -> InvalidInputError:
    return InvalidInputError(
        f"executor: expected a scorer that the native executor can run, found {error}. Export with "
        f"--executor auto: TensorFlow then runs what the native executor cannot."
    )


def _run_partly(scorer: Scorer, ir: ScorerIr, error: NotLowerableError) -> Scorer:
    """The scorer with a program of what TensorFlow does not have to compute; without where that is little."""
    try:
        partly = lower_partly(ir)
    except NotLowerableError:
        return replace(scorer, executor_reason=str(error))
    library = scorer.function.graph.as_graph_def().library
    return replace(
        scorer,
        program=partly.program.to_bytes(),
        unknown_function=partly.to_function(scorer.item_tables, library),
        executor_reason=partly.reason,
    )


def jit_scorer(scorer: Scorer) -> Scorer:
    """The same scorer, compiled by XLA where it runs: once, for a tile is of one shape.

    Raises InvalidInputError for user tensors of open shape, each of whose shapes would be compiled anew
    while a request waits.
    """
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype, tensor.op.name) for tensor in scorer.function.inputs]
    for spec in specs:
        if not spec.shape.is_fully_defined():
            raise InvalidInputError(
                f"jit: expected user tensors of fixed shape, found {spec.name} {spec.shape}. Pad the "
                f"user's state to a fixed length, or export without --jit."
            )
    # The attribute that asks for XLA stands at the call of a function: one calls, one is called.
    compiled = tf.function(
        lambda *tensors: scorer.function(*tensors), input_signature=specs, autograph=False, jit_compile=True
    )
    calling = tf.function(lambda *tensors: compiled(*tensors), input_signature=specs, autograph=False)
    return replace(scorer, function=calling.get_concrete_function(), jit=True)
