"""What a split did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nann.export.scorer._ir import Needs, Tensor
from nann.export.scorer._read import ScorerGraph
from nann.export.scorer._search import Plan


@dataclass(frozen=True)
class SplitReport:
    """Figures of a scorer before and after its split.

    reason:         why the scorer was left as it is; None: it was split.
    nodes:          operations of the traced scorer by what they depend on: constants, user, item, both.
    user_tensors:   what is computed once per request: {"name", "shape", "dtype"}.
    item_columns:   what is computed once at export: {"name", "width"}, in the order of the table's columns.
    table_width:    floats of a row of the item table, filled up to cache lines; 0: there is no table.
    flops_per_item: {"before", "after"}; before, every tile of items did the user's part again.
    bytes_per_item: gathered for an item: {"before", "after"}.
    user_flops:     once per request.
    """

    reason: str | None
    nodes: dict[str, int]
    user_tensors: list[dict[str, Any]]
    item_columns: list[dict[str, Any]]
    table_width: int
    flops_per_item: dict[str, int]
    bytes_per_item: dict[str, int]
    user_flops: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def not_split(reason: str, width: int) -> SplitReport:
    """The report of a scorer that is left as it is; `width` of an item's embedding."""
    same = {"before": 4 * width, "after": 4 * width}
    return SplitReport(reason, {}, [], [], 0, {}, same, 0)


def report_of(
    graph: ScorerGraph, before: Plan, after: Plan, *, stored: Sequence[Tensor], table_width: int
) -> SplitReport:
    kinds = {
        "constant": Needs.NOTHING, "user": Needs.USER, "item": Needs.ITEM, "both": Needs.USER | Needs.ITEM,
    }  # fmt: skip
    return SplitReport(
        reason=None,
        nodes={kind: graph.sizes[needs] for kind, needs in kinds.items()},
        user_tensors=[
            {"name": each.node.name, "shape": list(each.shape), "dtype": each.dtype.name}
            for each in after.user
        ],
        item_columns=[{"name": each.node.name, "width": each.size // graph.tile_rows} for each in stored],
        table_width=table_width,
        flops_per_item={"before": round(before.flops_per_item), "after": round(after.flops_per_item)},
        bytes_per_item={"before": round(before.bytes_per_item), "after": round(after.bytes_per_item)},
        user_flops=round(after.user_work.flops),
    )
