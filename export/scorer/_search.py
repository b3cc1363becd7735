"""From the graph as it was traced to the one that costs least, as the cost model has it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import tensorflow as tf

from nann.export.scorer._activations import ACTIVATIONS
from nann.export.scorer._algebra import ALGEBRA, FINISH, MOVES
from nann.export.scorer._beside import BESIDE
from nann.export.scorer._cleanup import CLEANUP, late_reshape
from nann.export.scorer._cost import ITEMS_PER_REQUEST, NS_PER_BYTE, Work, bytes_per_item, work_of
from nann.export.scorer._cut import cheapest_cut
from nann.export.scorer._demand import only_what_is_read
from nann.export.scorer._ir import Tensor, Uses, name_new, topological
from nann.export.scorer._items_first import items_first
from nann.export.scorer._mixed_rows import MIXED_ROWS
from nann.export.scorer._outer import OUTER
from nann.export.scorer._pairs import PAIRS
from nann.export.scorer._read import ScorerGraph
from nann.export.scorer._repeated import user_once
from nann.export.scorer._rewrite import Rule, apply_once, rewrite, substitute
from nann.export.scorer._rows import RowAnalysis
from nann.export.scorer._sequences import SEQUENCES
from nann.export.scorer._taken import TAKEN
from nann.export.scorer._wide_rows import WIDE_ROWS

_MAX_STEPS = 40  # moves that are taken; each makes the scorer cheaper
_MAX_TRIED = 400
# More places than any scorer has that is no loop: each takes a rewrite of the whole graph to try.
_MANY_PLACES = 16
_MAX_PASSES = 20  # Two or three are taken; should rules ever undo them, the graph is right after each.
_UNLIMITED = 2**31
_CLEAN = (*CLEANUP, *SEQUENCES, *ACTIVATIONS)
_FINISH = (*FINISH, *WIDE_ROWS, late_reshape)


@dataclass(frozen=True)
class Plan:
    """A scorer, and where its parts run.

    output:  the scores.
    columns: item-only tensors computed at export and gathered.
    user:    free tensors computed once per request.
    """

    output: Tensor
    columns: tuple[Tensor, ...]
    user: tuple[Tensor, ...]
    user_work: Work
    tile_work: Work
    tile_rows: int

    @property
    def bytes_per_item(self) -> float:
        return bytes_per_item(self.columns, self.tile_rows)

    @property
    def flops_per_item(self) -> float:
        return self.tile_work.flops / self.tile_rows

    @property
    def ns_per_item(self) -> float:
        return (
            self.tile_work.ns / self.tile_rows
            + self.user_work.ns / ITEMS_PER_REQUEST
            + self.bytes_per_item * NS_PER_BYTE
        )


def plans_of(graph: ScorerGraph, *, max_width: int) -> list[Plan]:
    """The scorer rewritten and cut in some ways, the cheapest first.

    max_width: floats of a row of a table, at most.

    Forms differ in what runs them: a matrix product may be known where the sum that it was written as is not.
    """
    rows = RowAnalysis(graph.item)
    clean = _clean(graph)
    normal = _normal(clean)
    plans = [
        _improved(normal, graph.item, rows, max_width),
        _planned(clean, graph.item, rows, max_width),
        _planned(normal, graph.item, rows, max_width),
    ]
    for plan in list(plans):
        mixed = rewrite(plan.output, MIXED_ROWS)
        if mixed != plan.output:
            plans.append(_planned(mixed, graph.item, rows, max_width))
    return sorted(plans, key=lambda plan: plan.ns_per_item)


def _improved(output: Tensor, item: Tensor, rows: RowAnalysis, max_width: int) -> Plan:
    """Take every move that makes the plan cheaper, until none does."""
    best, tried = _planned(output, item, rows, max_width), 0
    for _ in range(_MAX_STEPS):
        for move in _moves(output):
            moved = _normal(move())
            plan = _planned(moved, item, rows, _UNLIMITED)
            if plan.ns_per_item < best.ns_per_item and max_width < _UNLIMITED:
                plan = _planned(moved, item, rows, max_width)
            tried += 1
            if plan.ns_per_item < best.ns_per_item * (1 - 1e-6):
                output, best = moved, plan
                break
            if tried == _MAX_TRIED:
                return best
        else:
            break
    return best


def plan_as_traced(graph: ScorerGraph) -> Plan:
    """The scorer without a split: everything is computed for each tile."""
    work = work_of(node for node in topological([graph.output]) if node.needs)
    return Plan(graph.output, (graph.item,), graph.user, Work(), work, graph.tile_rows)


def as_traced(graph: ScorerGraph) -> Tensor:
    """The scores as the model computes them, without detours in shapes."""
    moved = items_first(_clean(graph), graph.item)
    return rewrite(_clean(replace(graph, output=moved)), _FINISH)


def with_items_first(graph: ScorerGraph) -> ScorerGraph | None:
    """A scorer whose items are on other axes somewhere, with all of them first; None where all are."""
    clean = _clean(graph)  # What is repeated for each item is known to be.
    output = items_first(clean, graph.item)
    return replace(graph, output=output) if output != clean else None


def with_user_once(graph: ScorerGraph) -> ScorerGraph | None:
    """A scorer that repeats its user before operations that are not known, with one of the rows read."""
    clean = _clean(graph)
    output = user_once(clean, graph.tile_rows)
    return replace(graph, output=output) if output != clean else None


def clean_encoder(output: Tensor) -> Tensor:
    """What is computed of one user, without detours in shapes."""
    return rewrite(output, (), free_rules=_CLEAN)


def _clean(graph: ScorerGraph) -> Tensor:
    return _settled(graph.output, _CLEAN, _CLEAN)


def _normal(output: Tensor) -> Tensor:
    shapes = (*CLEANUP, *SEQUENCES)
    return _settled(output, (*shapes, *ALGEBRA, *BESIDE, *PAIRS, *OUTER, *TAKEN), shapes)


def _settled(output: Tensor, rules: Sequence[Rule], free_rules: Sequence[Rule]) -> Tensor:
    """Rewritten, and without what nothing reads, until neither changes the other's result."""
    for _ in range(_MAX_PASSES):
        output = rewrite(output, rules, free_rules=free_rules)
        read = only_what_is_read(output)
        if read == output:
            return output
        output = read
    warnings.warn(f"the rewrites of what is read of {output} do not settle", RuntimeWarning, stacklevel=2)
    return output


def _moves(output: Tensor) -> Iterator[Callable[[], Tensor]]:
    """Yield what applies each rewrite that is not always an improvement.

    One that is possible at many places alike, as in the rounds of a loop, is applied to all of them at once.
    """
    found, kept, nodes = [], set[Any](), list(topological([output]))
    # A part that is computed twice may differ in its last bit from itself, and a model may compare the two.
    read_whole = {each for node in nodes if node.op != "slice" for each in node.inputs}
    for node in nodes:
        tensor = Tensor(node)
        if node.op == "slice" and node.inputs[0] in read_whole:
            kept.add(_kind(tensor))
        elif not tensor.is_free and len(node.outputs) == 1:
            for move in MOVES:
                if (moved := move(tensor)) is not None:
                    found.append((move, tensor, name_new(moved, node.name)))
    places = Counter((move, _kind(tensor)) for move, tensor, _ in found if _kind(tensor) not in kept)
    many = [each for each, count in places.items() if count > _MANY_PLACES]
    for move, kind in many:
        yield partial(apply_once, output, partial(_moved_if, move, kind))
    for move, tensor, result in found:
        if (move, _kind(tensor)) not in many:
            yield partial(substitute, output, {tensor: result})


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    """What the same operation has in common in all rounds of a loop."""
    return tensor.op, tensor.shape, tensor.dtype, tuple(each.known_shape for each in tensor.inputs)


def _moved_if(move: Callable[[Tensor], Tensor | None], kind: Any, tensor: Tensor, _: Uses) -> Tensor | None:
    return move(tensor) if _kind(tensor) == kind else None


def _planned(output: Tensor, item: Tensor, rows: RowAnalysis, max_width: int) -> Plan:
    output = rewrite(output, _FINISH)
    columns = cheapest_cut(output, item, rows, max_width=max_width)
    cross = topological([output], stop=lambda each: each in columns or is_user_part(each))
    read = [each for node in cross for each in node.inputs] + [output]
    user = tuple(dict.fromkeys(each for each in read if is_user_part(each)))
    return Plan(
        output,
        tuple(columns),
        user,
        user_work=work_of(topological(user)),
        tile_work=work_of(cross),
        tile_rows=item.shape[0],
    )


def is_user_part(tensor: Tensor) -> bool:
    """Whether it is computed once per request: free, of a fixed shape, no constant and no repetition."""
    is_value = tensor.dtype not in (tf.resource, tf.variant) and tensor.op not in ("const", "broadcast")
    return tensor.is_free and tensor.known_shape is not None and is_value
