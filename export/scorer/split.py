"""Splitting a scorer by what its operations depend on: user, item, or both (docs/scorer-split.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nann.export.scorer._ir import NotSplittableError
from nann.export.scorer._lower import lower
from nann.export.scorer._lowering import NotLowerableError, ScorerIr
from nann.export.scorer._parts import ITEM_EMBS as ITEM_EMBS
from nann.export.scorer._parts import SCORER_TABLE as SCORER_TABLE
from nann.export.scorer._parts import build_parts, tile_graph
from nann.export.scorer._read import ScorerGraph, read_scorer
from nann.export.scorer._report import SplitReport as SplitReport
from nann.export.scorer._report import not_split, report_of
from nann.export.scorer._search import (
    Plan,
    as_traced,
    plan_as_traced,
    plans_of,
    with_items_first,
    with_user_once,
)


@dataclass(frozen=True)
class SplitScorer:
    """ConcreteFunctions without captures, and what was done.

    user_function: state tensors of one user -> the user tensors of `function`; None: the state tensors are.
    item_function: float32 [tile_rows, D] of item_embs -> float32 [tile_rows, W], rows of the item table
                   SCORER_TABLE; None where there is none.
    function:      (user tensors..., float32 [tile_rows, width] of each of `item_tables`...)
                   -> float32 [tile_rows].
    ir:            user part and tile part as a graph; None: the scorer is as it was.
    """

    user_function: Any | None
    item_function: Any | None
    function: Any
    item_tables: tuple[str, ...]
    report: SplitReport
    ir: ScorerIr | None = None


def split_function(function: Any, *, max_table_width: int, base_table: str = ITEM_EMBS) -> SplitScorer:
    """Split a frozen scorer (tensors of one user..., item embeddings [tile_rows, D]) -> float32 [tile_rows].

    max_table_width: floats that an item may take in the item table.
    base_table:      the name of the table whose rows are the last input.

    A scorer that cannot be split, or would not gain, comes back as it is; the report says why.
    """
    try:
        return _split(function, max_table_width, base_table)
    except NotSplittableError as error:
        report = not_split(str(error), function.inputs[-1].shape[1])
        return SplitScorer(None, None, function, (base_table,), report)


def _split(function: Any, max_table_width: int, base_table: str) -> SplitScorer:
    graph = read_scorer(function)
    before, after = plan_as_traced(graph), _best_plan(graph, max_table_width)
    if after.ns_per_item > before.ns_per_item and not _is_lowered_alone(graph, after, max_table_width):
        raise NotSplittableError("nothing would be saved")
    parts = build_parts(graph, after, max_width=max_table_width, base_table=base_table)
    report = report_of(graph, before, after, stored=parts.stored, table_width=parts.table_width)
    return SplitScorer(
        parts.user_function, parts.item_function, parts.function, parts.item_tables, report, parts.ir
    )


def _best_plan(graph: ScorerGraph, max_width: int) -> Plan:
    """The cheapest plan that the native executor runs; the cheapest where it runs none."""
    plans = plans_of(graph, max_width=max_width)
    found = _lowerable(graph, plans, max_width)
    for simpler in (with_user_once, with_items_first):
        if found is None and (simple := simpler(graph)) is not None:
            graph = simple
            found = _lowerable(graph, plans_of(graph, max_width=max_width), max_width)
    return found or plans[0]


def _lowerable(graph: ScorerGraph, plans: Sequence[Plan], max_width: int) -> Plan | None:
    """The first that the native executor runs."""
    return next((each for each in plans if _is_lowered(tile_graph(graph, each, max_width=max_width))), None)


def _is_lowered_alone(graph: ScorerGraph, plan: Plan, max_width: int) -> bool:
    """Whether the native executor runs a plan, but not the scorer as it was traced.

    The costs are TensorFlow's then: many small operations, as those of a loop, cost the native executor less.
    """
    return _is_lowered(tile_graph(graph, plan, max_width=max_width)) and not _is_lowered(_as_traced(graph))


def _is_lowered(ir: ScorerIr) -> bool:
    try:
        lower(ir)
    except NotLowerableError:
        return False
    return True


def whole_scorer(function: Any) -> ScorerIr:
    """A frozen scorer as a graph, not split. Raises NotSplittableError."""
    return _as_traced(read_scorer(function))


def _as_traced(graph: ScorerGraph) -> ScorerIr:
    return ScorerIr(as_traced(graph), graph.user, graph.user, (graph.item,))
