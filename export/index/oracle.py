"""The search in plain NumPy: the reference for every other implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from nann.export.index.files import GraphIndex, Level
from nann.ops.index_meta import MAX_BEAM, check_level_topn

Positions = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
# bool [N]
Deleted = npt.NDArray[np.bool_] | None
ScoreFn = Callable[[Positions], Scores]


def beam_search(
    graph: GraphIndex,
    item_ids: npt.NDArray[np.int64],
    score_fn: ScoreFn,
    level_topn: Sequence[int] | npt.NDArray[np.int32],
    exclude_ids: Sequence[int] | npt.NDArray[np.int64] = (),
    *,
    deleted: Deleted = None,
) -> tuple[npt.NDArray[np.int64], Scores, int]:
    """Walk `graph` for one user.

    item_ids:    int64 [N], the id of each position.
    score_fn:    int32 [n] positions -> float32 [n] scores; NaN drops the item.
    level_topn:  entry beam, one beam per hop (top level first), final k.
    exclude_ids: item ids that are walked like any others but left out of the answer; -1 and unknown ids are
                 ignored.
    deleted:     bool [N], the positions that segments have deleted (docs/live.md): they are walked through,
                 and are no results. None: there are none.

    Returns ids int64 [k], scores float32 [k], best first, padded with id -1 and score -inf, and the
    number of items scored. Raises InvalidInputError when level_topn does not fit the index.
    """
    beams = [int(beam) for beam in check_level_topn(level_topn, graph.meta)]
    entry_beam, hop_beams, k = beams[0], iter(beams[1:-1]), beams[-1]

    result, result_scores, items_scored = _score(score_fn, graph.enter_points)
    result, result_scores = _top(entry_beam, result, result_scores, item_ids, deleted)

    for level in reversed(range(graph.meta.start_level)):
        visited = np.zeros(graph.meta.num_items, dtype=bool)
        visited[result] = True
        candidates = result
        beam = entry_beam
        for _ in range(graph.meta.hops_per_level[level]):
            beam = next(hop_beams)
            new = _neighbors(graph.levels[level], candidates)
            new = new[~visited[new]]
            visited[new] = True
            new, new_scores, count = _score(score_fn, new)
            items_scored += count
            candidates, candidate_scores = _top(beam, new, new_scores, item_ids, deleted)
            result = np.concatenate([result, candidates])
            result_scores = np.concatenate([result_scores, candidate_scores])
        if level > 0:
            result, result_scores = _top(beam, result, result_scores, item_ids, deleted)

    live = _live(result, deleted)
    return *answer(k, result[live], result_scores[live], item_ids, exclude_ids), items_scored


def adaptive_search(
    graph: GraphIndex,
    item_ids: npt.NDArray[np.int64],
    score_fn: ScoreFn,
    level_topn: Sequence[int] | npt.NDArray[np.int32],
    exclude_ids: Sequence[int] | npt.NDArray[np.int64] = (),
    *,
    expand: int,
    selected: npt.NDArray[np.bool_] | None = None,
    deleted: Deleted = None,
) -> tuple[npt.NDArray[np.int64], Scores, int]:
    """The adaptive walk for one user: a level ends when the best candidates are all expanded.

    This is Algorithm 2 of the HNSW paper (arXiv 1603.09320) with `expand` candidates per hop. A pool keeps
    the best items so far, as many as the widest beam and at least k + the number of `exclude_ids`. A level
    expands those of them that are among the best of its widest beam. The pool starts with as many entry
    points as the entry beam says; the others join it at level 0. No item is scored twice.

    selected: bool [N], the items that a filter leaves: no other is a result, and level 0 goes on until it has
              expanded as many of them as its widest beam says, and at least k. None: there is no filter.
    deleted:  as in `beam_search`; sizes and widths count the others. With `selected`, which leaves them out,
              it is not needed.

    The other arguments, the results and the errors are those of `beam_search`.
    """
    beams = [int(beam) for beam in check_level_topn(level_topn, graph.meta)]
    hop_beams, k = iter(beams[1:-1]), beams[-1]
    excluded = np.isin(item_ids[_live(slice(None), deleted)], np.asarray(exclude_ids, np.int64))
    size = max(*beams[1:], k + int(excluded.sum()))
    if selected is not None:
        size, deleted = MAX_BEAM, None

    visited = np.zeros(graph.meta.num_items, dtype=bool)
    visited[graph.enter_points] = True
    pool, pool_scores, items_scored = _score(score_fn, graph.enter_points)
    entered, entered_scores = _top(beams[0], pool, pool_scores, item_ids, deleted)
    waits = ~np.isin(pool, entered)
    waiting, waiting_scores = pool[waits], pool_scores[waits]
    pool, pool_scores = _top(size, entered, entered_scores, item_ids, deleted)
    expanded = np.zeros(graph.meta.num_items, dtype=bool)

    for level in reversed(range(graph.meta.start_level)):
        if level == 0:
            pool, pool_scores = _top(
                size, np.append(pool, waiting), np.append(pool_scores, waiting_scores), item_ids, deleted
            )
        width = max(next(hop_beams) for _ in range(graph.meta.hops_per_level[level]))
        wanted = max(width, k)
        while True:
            best = pool[: _entries_of_width(pool, width, deleted)]
            if expanded[best].all():
                if selected is None or level > 0 or width == widened(pool, selected, width, wanted):
                    break
                width = widened(pool, selected, width, wanted)
                continue
            candidates = best[~expanded[best]][:expand]
            expanded[candidates] = True
            new = _neighbors(graph.levels[level], candidates)
            new = new[~visited[new]]
            visited[new] = True
            new, new_scores, count = _score(score_fn, new)
            items_scored += count
            met, met_scores = np.append(pool, new), np.append(pool_scores, new_scores)
            pool, pool_scores = _top(size, met, met_scores, item_ids, deleted)
        expanded[:] = False

    kept = _live(pool, deleted) if selected is None else selected[pool]
    return *answer(k, pool[kept], pool_scores[kept], item_ids, exclude_ids), items_scored


def widened(pool: Positions, selected: npt.NDArray[np.bool_], width: int, wanted: int) -> int:
    """The width at which a walk goes on whose best `width` of `pool` are expanded; `width`: it ends.

    It grows to where `wanted` of the pool's best are selected, at most twofold.
    """
    widest = pool[: 2 * width]
    counts = np.cumsum(selected[widest])
    return max(width, min(int(np.searchsorted(counts, wanted)) + 1, widest.size))


def score_all(
    graph: GraphIndex,
    item_ids: npt.NDArray[np.int64],
    score_fn: ScoreFn,
    level_topn: Sequence[int] | npt.NDArray[np.int32],
    exclude_ids: Sequence[int] | npt.NDArray[np.int64] = (),
    *,
    selected: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.int64], Scores, int]:
    """Brute force for one user: every item is scored, and of `level_topn` only k counts.

    selected: bool [N], the items that a filter leaves: no other is scored. None: there is no filter.

    The other arguments, the results and the errors are those of `beam_search`.
    """
    k = int(check_level_topn(level_topn, graph.meta)[-1])
    every = np.ones(graph.meta.num_items, np.bool_) if selected is None else selected
    result, scores, items_scored = _score(score_fn, np.flatnonzero(every).astype(np.int32))
    return *answer(k, result, scores, item_ids, exclude_ids), items_scored


def answer(
    k: int,
    result: Positions,
    result_scores: Scores,
    item_ids: npt.NDArray[np.int64],
    exclude_ids: Sequence[int] | npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], Scores]:
    """Ids and scores of the best k that are not excluded, padded with id -1 and score -inf."""
    kept = ~np.isin(item_ids[result], np.asarray(exclude_ids, np.int64))
    result, result_scores = _top(k, result[kept], result_scores[kept], item_ids)
    ids = np.full(k, -1, np.int64)
    scores = np.full(k, -np.inf, np.float32)
    ids[: result.size] = item_ids[result]
    scores[: result.size] = result_scores
    return ids, scores


def _neighbors(level: Level, nodes: Positions) -> Positions:
    """The neighbours of all of `nodes`, each once, ascending."""
    lists = [level.neighbors(node) for node in nodes]
    return np.unique(np.concatenate(lists)) if lists else np.zeros(0, np.int32)


def _score(score_fn: ScoreFn, positions: Positions) -> tuple[Positions, Scores, int]:
    """Positions and scores without NaN scores, and the number of items scored."""
    if positions.size == 0:
        return positions, np.zeros(0, np.float32), 0
    scores = np.asarray(score_fn(positions), np.float32)
    known = ~np.isnan(scores)
    return positions[known], scores[known], positions.size


def _live(positions: Positions | slice, deleted: Deleted) -> npt.NDArray[np.bool_] | slice:
    """An index of those of `positions` that are not deleted."""
    return slice(None) if deleted is None else ~deleted[positions]


def _entries_of_width(pool: Positions, width: int, deleted: Deleted) -> int:
    """How many entries, from the best on, have the best `width` that are not deleted."""
    if deleted is None:
        return width
    live = np.flatnonzero(~deleted[pool])
    return int(live[width - 1]) + 1 if live.size >= width else pool.size


def _top(
    count: int,
    positions: Positions,
    scores: Scores,
    item_ids: npt.NDArray[np.int64],
    deleted: Deleted = None,
) -> tuple[Positions, Scores]:
    """The `count` best positions and scores, best first; of equal scores the smaller item id first.

    A deleted position may have the id of a live one: of these the smaller position comes first. Deleted
    positions do not count: those that are better than the last of the others are there too, at most `count`.
    """
    order = np.lexsort((positions, item_ids[positions], -scores))
    if deleted is None:
        return positions[order[:count]], scores[order[:count]]
    gone = deleted[positions[order]]
    better_live: npt.NDArray[np.int64] = np.cumsum(~gone) - ~gone
    better_gone: npt.NDArray[np.int64] = np.cumsum(gone) - gone
    order = order[(better_live < count) & (~gone | (better_gone < count))]
    return positions[order], scores[order]
