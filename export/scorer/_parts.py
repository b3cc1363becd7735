"""The functions of a split scorer: user part, item part and what is left for each tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from nann.export.scorer._cut import table_width
from nann.export.scorer._emit import to_function
from nann.export.scorer._ir import Needs, Spec, Tensor, constant, source
from nann.export.scorer._lowering import ScorerIr
from nann.export.scorer._ops import broadcast, columns, concat, reshape
from nann.export.scorer._read import ScorerGraph
from nann.export.scorer._rewrite import substitute
from nann.export.scorer._search import Plan
from nann.export.scorer._whole_numbers import with_bounds_of

ITEM_EMBS = "item_embs"
ITEM_ROWS = "item_rows"  # embedding and item state of each item
SCORER_TABLE = "scorer"


@dataclass(frozen=True)
class Parts:
    """ConcreteFunctions without captures.

    user_function: state tensors of one user -> user tensors; None: the state tensors are the user tensors.
    item_function: float32 [tile_rows, D] -> float32 [tile_rows, W], the rows of SCORER_TABLE; None: no table.
    function:      (user tensors..., a tile of each of `item_tables`...) -> float32 [tile_rows].
    ir:            the same, as a graph.
    stored:        what the columns of SCORER_TABLE are, from the left.
    """

    user_function: Any | None
    item_function: Any | None
    function: Any
    item_tables: tuple[str, ...]
    ir: ScorerIr
    stored: tuple[Tensor, ...]
    table_width: int


def build_parts(graph: ScorerGraph, plan: Plan, *, max_width: int, base_table: str) -> Parts:
    """The functions that `plan` describes.

    max_width: as the plan was made with. base_table: what holds the rows that the whole scorer reads.
    """
    stored = _stored(graph, plan, max_width)
    width = table_width(stored, graph.tile_rows)
    ir = tile_graph(graph, plan, max_width=max_width)
    tables = [SCORER_TABLE if each != graph.item else base_table for each in ir.tables]
    item_function = None
    if stored:
        item_function = to_function(
            "item_part",
            [(base_table, _spec(graph.item))],
            [_row(stored, graph.tile_rows, width)],
            {graph.item: base_table},
            library=graph.library,
            finish=lambda outputs: outputs[0],
        )
    user_function = None if ir.user == graph.user else _user_function(graph, ir.user)
    function = _tile_function(graph, ir, tables)
    return Parts(user_function, item_function, function, tuple(tables), ir, stored, width)


def _user_function(graph: ScorerGraph, results: Sequence[Tensor]) -> Any:
    arguments = [(each.node.name, _spec(each)) for each in graph.user]
    bound = {each: each.node.name for each in graph.user}
    return to_function("user_part", arguments, results, bound, library=graph.library)


def _stored(graph: ScorerGraph, plan: Plan, max_width: int) -> tuple[Tensor, ...]:
    """What SCORER_TABLE holds, from the left."""
    stored = tuple(each for each in plan.columns if each != graph.item)
    if stored and table_width(plan.columns, graph.tile_rows) <= max_width:
        stored = plan.columns  # one row to fetch instead of two
    return stored


def _row(stored: Sequence[Tensor], tile_rows: int, width: int) -> Tensor:
    parts = [reshape(each, (tile_rows, each.size // tile_rows)) for each in stored]
    rest = width - sum(part.shape[1] for part in parts)
    return concat([*parts, broadcast(constant(np.float32(0)), (tile_rows, rest))], 1)


def tile_graph(graph: ScorerGraph, plan: Plan, *, max_width: int) -> ScorerIr:
    """The scores of a tile as `plan` computes them, from the user's tensors and the tables."""
    user = graph.user if set(plan.user) <= set(graph.user) else plan.user
    stored = _stored(graph, plan, max_width)
    width = table_width(stored, graph.tile_rows)
    table = source(SCORER_TABLE, Spec(tf.float32, (graph.tile_rows, width)), Needs.ITEM)
    taken: dict[Tensor, Tensor] = {}
    begin = 0
    for each in stored:
        end = begin + each.size // graph.tile_rows
        taken[each] = with_bounds_of(each, reshape(columns(table, begin, end), each.shape))
        begin = end
    output = substitute(plan.output, taken) if taken else plan.output
    tables = [table] if stored else []
    if not stored or (graph.item in plan.columns and graph.item not in stored):
        tables.insert(0, graph.item)
    return ScorerIr(output, graph.user, user, tuple(tables))


def _tile_function(graph: ScorerGraph, ir: ScorerIr, tables: Sequence[str]) -> Any:
    bound = {each: f"user_{number}" for number, each in enumerate(ir.user)}
    bound.update(zip(ir.tables, tables, strict=True))
    arguments = [(name, _spec(each)) for each, name in bound.items()]
    return to_function(
        "tile_part",
        arguments,
        [ir.output],
        bound,
        library=graph.library,
        finish=lambda outputs: outputs[0],
    )


def _spec(tensor: Tensor) -> tf.TensorSpec:
    return tf.TensorSpec(tensor.shape, tensor.dtype)
