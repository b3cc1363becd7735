"""The search with a filter in plain NumPy: how an export's walk looks for the items that pass."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nann.export.index.files import GraphIndex
from nann.export.index.oracle import ScoreFn, Scores, adaptive_search, beam_search, score_all
from nann.export.index.proxy_oracle import LEAST_RULE_K, ProxyTables, Search, proxy_search
from nann.ops.index_meta import check_level_topn, level_0_beam

# A walk scores at least this many items per result, and the adaptive walk this many per expanded candidate.
SCORED_PER_RESULT, SCORED_PER_EXPANDED = 2.5, 2
# Candidates per hop of a fixed walk that has to filter, and so becomes the adaptive one.
FILTER_EXPAND = 32


def filtered_search(
    graph: GraphIndex,
    item_ids: npt.NDArray[np.int64],
    score_fn: ScoreFn,
    level_topn: Sequence[int] | npt.NDArray[np.int32],
    exclude_ids: Sequence[int] | npt.NDArray[np.int64] = (),
    *,
    passes: npt.NDArray[np.bool_] | None = None,
    counted: bool = True,
    everything: bool = False,
    expand: int = 0,
    proxy: ProxyTables | None = None,
    deleted: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.int64], Scores, int, bool]:
    """The search for one user, whatever the walk, by the rules of docs/design.md, "Filters".

    passes:     bool [N], the items that the filter passes; None: there is no filter.
    counted:    whether the search knows how many pass.
    everything: score every item that passes, in place of a walk.
    expand, proxy: as in `adaptive_search` and `proxy_search`.
    deleted:    bool [N], the positions that segments have deleted (docs/live.md); None: there are none.

    Returns what `beam_search` does, and whether every item that may be a result was scored.
    """
    beams = check_level_topn(level_topn, graph.meta)
    k, items = int(beams[-1]), graph.meta.num_items
    width = level_0_beam(graph.meta, beams)
    if passes is not None and counted and passes.all():
        passes = None
    live = np.ones(items, np.bool_) if deleted is None else ~deleted
    excluded = np.isin(item_ids, np.asarray(exclude_ids, np.int64)) & live
    selected = live & ~excluded if passes is None else passes & live & ~excluded
    count = int(selected.sum()) if passes is None or counted else None
    request = (graph, item_ids, score_fn, level_topn, exclude_ids)
    if passes is None and excluded.sum() <= max(width, LEAST_RULE_K):
        walked: Search = functools.partial(beam_search, deleted=deleted)
        if expand:
            walked = functools.partial(adaptive_search, expand=expand, deleted=deleted)
        if everything:
            return *score_all(*request, selected=live), True
        if proxy is not None:
            found = proxy_search(
                *request, proxy=proxy, expand=expand, selected=selected, count=count, otherwise=walked
            )
            return *found, False
        return *walked(*request), False

    few = count is not None and count <= SCORED_PER_RESULT * max(k, LEAST_RULE_K)
    fewer_than_walked = count is not None and count**2 <= SCORED_PER_EXPANDED * width * items
    if everything or few or (proxy is None and fewer_than_walked):
        return *score_all(*request, selected=selected), True
    expand = expand or FILTER_EXPAND
    widened: Search = functools.partial(adaptive_search, expand=expand, selected=selected)
    if proxy is None:
        return *widened(*request), False
    all_selected: Search = functools.partial(score_all, selected=selected)
    otherwise = all_selected if fewer_than_walked else widened
    gave_up = False

    def instead(*arguments: object) -> tuple[npt.NDArray[np.int64], Scores, int]:
        nonlocal gave_up
        gave_up = True
        return otherwise(*arguments)

    found = proxy_search(
        *request,
        proxy=proxy,
        expand=expand,
        selected=selected,
        count=count,
        filtering=True,
        otherwise=instead,
    )
    return *found, gave_up and fewer_than_walked
