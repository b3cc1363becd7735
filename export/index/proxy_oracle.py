"""The proxy walk in plain NumPy: the reference of `ops/core/walk/proxy_walk.h`, operation by operation.

Every sum has a fixed order and no operation is fused, so that both make the same decisions to the last bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nann.export.index.cholesky import Doubles, solve
from nann.export.index.files import GraphIndex, Level
from nann.export.index.oracle import (
    ScoreFn,
    Scores,
    adaptive_search,
    answer,
    beam_search,
    widened,
)
from nann.ops import ProxyWalk
from nann.ops.index_meta import check_level_topn, level_0_beam

Search = Callable[..., tuple[npt.NDArray[np.int64], Scores, int]]

# Rules that count results count at least this many: with fewer, the walk stops before it has seen enough.
LEAST_RULE_K = 200
# The widest survey for selected items, in widths of that for all, and in items unless the beams ask for more.
WIDEST_SURVEY, MOST_SURVEYED = 16, 65_536
# What the survey guesses for, per kept item; and selected candidates per result that rules count.
GUESSES_PER_KEPT, CANDIDATES_PER_RESULT = 4, 4
# Patience of rounds that probes follow, at least.
PATIENCE_OF_PROBING = 8
# Selected candidates that rounds and probes choose from at least, and rounds of probes.
KEPT, PROBE_ROUNDS = 4096, 3
# Candidates per hop of the survey, and of the gated walk.
SURVEY_EXPAND, GATED_EXPAND = 64, 32
# Rounds end after this many times K scored items, whatever they found. Share of a new item's mean residual
# around it that its guess takes over.
MOST_SCORED, RESIDUAL_SHARE = 20, 0.7
# The gate's variance: how much more it is at first, and how much one item changes it.
FIRST_VARIANCE, VARIANCE_DECAY = 1.5, 0.99
# Prior of the intercept: next to none.
INTERCEPT_PRIOR = 1e-6
_LANES = 16


class ProxyTables(NamedTuple):
    """A proxy walk with the tables that it names: features [N, C], samples int64 [S].

    base_items: the N of `samples`, where segments have added items; None: that of the graph.
    """

    walk: ProxyWalk
    features: npt.NDArray[Any]
    samples: npt.NDArray[np.int64]
    base_items: int | None = None


def proxy_search(
    graph: GraphIndex,
    item_ids: npt.NDArray[np.int64],
    score_fn: ScoreFn,
    level_topn: Sequence[int] | npt.NDArray[np.int32],
    exclude_ids: Sequence[int] | npt.NDArray[np.int64] = (),
    *,
    proxy: ProxyTables,
    expand: int,
    selected: npt.NDArray[np.bool_] | None = None,
    count: int | None = None,
    filtering: bool = False,
    otherwise: Search | None = None,
) -> tuple[npt.NDArray[np.int64], Scores, int]:
    """The proxy walk for one user.

    expand:    of the adaptive walk (0: the fixed walk), which is taken where the anchors' scores are not
               finite or all equal.
    selected:  bool [N], the items that a filter and `exclude_ids` leave; None: those that `exclude_ids` do.
    count:     how many of `selected` there are, where it is known.
    filtering: whether `selected` leaves out so many that the walk has to look for the others.
    otherwise: what is searched in place of the adaptive or fixed walk.

    The other arguments, the results and the errors are those of `beam_search`.
    """
    beams = [int(beam) for beam in check_level_topn(level_topn, graph.meta)]
    width = level_0_beam(graph.meta, beams)
    keep = max(beams[-1], LEAST_RULE_K)
    if selected is None:
        selected = ~np.isin(item_ids, np.asarray(exclude_ids, np.int64))
        count = int(selected.sum())
    selected = None if count == graph.meta.num_items else selected
    groups, positions = np.divmod(proxy.samples, proxy.base_items or graph.meta.num_items)
    anchors, *clusters = [positions[groups == group] for group in range(groups[-1] + 1)]
    starts = positions.tolist() if proxy.walk.probes else []
    walk = _Walk(
        graph, item_ids, score_fn, proxy.walk, proxy.features, width, keep, selected, count, filtering, starts
    )
    if not walk.score_anchors(anchors.tolist()):
        walked = functools.partial(adaptive_search, expand=expand) if expand else beam_search
        found = (otherwise or walked)(graph, item_ids, score_fn, level_topn, exclude_ids)
        return found[0], found[1], found[2] + anchors.size
    walk.score_cluster_tops(clusters)
    left = walk.score_rounds(walk.candidates())
    if filtering or proxy.walk.probes:
        walk.score_probes(left)
    walk.walk_by_scores()
    known = ~np.isnan(walk.scores) & walk.is_selected(walk.scored)
    found_positions, found_scores = np.array(walk.scored, np.int32)[known], walk.scores[known]
    return *answer(beams[-1], found_positions, found_scores, item_ids, exclude_ids), len(walk.scored)


@dataclass
class _Walk:
    """One search. `scored` and `scores` are all items that were scored, in order."""

    graph: GraphIndex
    item_ids: npt.NDArray[np.int64]
    score_fn: ScoreFn
    proxy: ProxyWalk
    features: npt.NDArray[Any]
    width: int
    keep: int
    selected: npt.NDArray[np.bool_] | None
    count: int | None
    filtering: bool
    samples: list[int]  # where the survey starts, too
    scored: list[int] = field(default_factory=list)
    scores: Scores = field(default_factory=lambda: np.zeros(0, np.float32))
    mean: float = 0.0
    deviation: float = 0.0

    def __post_init__(self) -> None:
        columns = self.features.shape[1]
        prior = [INTERCEPT_PRIOR, *[np.float32(self.proxy.noise)] * (columns - 1)]
        self.normal = np.diag(np.array(prior, np.float64))
        self.right = np.zeros(columns, np.float64)
        self.weights = np.zeros(columns, np.float32)

    def score(self, positions: Sequence[int]) -> Scores:
        new = np.asarray(self.score_fn(np.asarray(positions, np.int32)), np.float32)
        self.scored += [int(position) for position in positions]
        self.scores = np.concatenate([self.scores, new])
        return new

    def standardized(self, scores: Scores) -> Doubles:
        return (scores.astype(np.float64) - self.mean) / self.deviation

    def guesses(self, positions: Sequence[int]) -> Scores:
        """p of each position, -inf where it is not a number."""
        rows = np.asarray(self.features[np.asarray(positions, np.int64)], np.float32)
        coefficients = self.weights.copy()
        coefficients[0] = 1.0  # of the mean score, column 0
        products = (rows * coefficients).reshape(len(rows), rows.shape[1] // _LANES, _LANES)
        sums = functools.reduce(np.add, products.swapaxes(0, 1))
        while sums.shape[1] > 1:
            half = sums.shape[1] // 2
            sums = sums[:, :half] + sums[:, half:]
        found: Scores = sums[:, 0] + self.weights[0]
        return np.where(np.isnan(found), np.float32(-np.inf), found)

    def fit(self, positions: Sequence[int], scores: Scores) -> None:
        """Add observations, those of finite scores, and solve for the weights."""
        for position, score in zip(positions, scores, strict=True):
            if not np.isfinite(score):
                continue
            row = self.features[position].astype(np.float64)
            target = (np.float64(score) - self.mean) / self.deviation - row[0]
            row[0] = 1.0
            self.normal += np.outer(row, row)
            self.right += row * target
        self.weights = solve(self.normal, self.right).astype(np.float32)

    def best(self, positions: Sequence[int], values: npt.NDArray[Any], count: int) -> list[int]:
        """The `count` best by value, best first; of equal ones the smaller item id first."""
        at = np.asarray(positions, np.int64)
        return [int(p) for p in at[np.lexsort((at, self.item_ids[at], -values))[:count]]]

    def score_anchors(self, anchors: list[int]) -> bool:
        """Step 1: fit the scores of the anchors. False where they say nothing."""
        scores = self.score(anchors)
        if not np.isfinite(scores).all():
            return False
        exact = scores.astype(np.float64)
        self.mean = float(np.cumsum(exact)[-1]) / exact.size
        differences = exact - self.mean
        self.deviation = float(np.sqrt(np.cumsum(differences * differences)[-1] / exact.size))
        if self.deviation == 0.0:
            return False
        self.fit(anchors, scores)
        return True

    def score_cluster_tops(self, clusters: list[npt.NDArray[np.int64]]) -> None:
        """Step 2: the best member of each cluster by the first guess, so that no region is overlooked."""
        tops: list[int] = []
        for cluster in clusters:
            members = cluster[~np.isin(cluster, [*self.scored, *tops])].tolist()
            tops += self.best(members, self.guesses(members), 1)
        if tops:
            self.fit(tops, self.score(tops))

    def is_selected(self, positions: Sequence[int]) -> npt.NDArray[np.bool_]:
        """bool [n]."""
        at = np.asarray(positions, np.int64)
        return np.ones(at.shape, np.bool_) if self.selected is None else self.selected[at]

    @property
    def candidates_wanted(self) -> int:
        """How many candidates the rounds start with."""
        width = self.width * self.proxy.survey
        return max(width, CANDIDATES_PER_RESULT * self.keep) if self.filtering else width

    @property
    def widest_survey(self) -> int:
        """How many items the survey keeps, so that as many are selected as there are to be candidates."""
        width = self.candidates_wanted
        widest = max(width, min(WIDEST_SURVEY * width, MOST_SURVEYED))
        if self.count is None:
            return widest
        return min(widest, width + self.graph.meta.num_items - self.count)

    def candidates(self) -> list[int]:
        """Step 3: the best by the guess that nobody scored, of those that the survey meets or of all."""
        width, taken = self.candidates_wanted, set(self.scored)
        looked_at = GUESSES_PER_KEPT * width * self.graph.meta.num_items
        if self.filtering and self.count is not None and self.count**2 <= looked_at:
            return self.scan()
        pool = self.survey()
        if self.selected is not None:
            pool = [p for p in pool if self.selected[p]]
            if len(pool) < width:
                return self.scan()
        kept = max(KEPT, width) if self.filtering else width
        return [p for p in pool[:kept] if p not in taken]

    def scan(self) -> list[int]:
        """The best by the guess of all selected items."""
        assert self.selected is not None
        every = np.flatnonzero(self.selected).tolist()
        kept = self.best(every, self.guesses(every), max(KEPT, self.candidates_wanted))
        taken = set(self.scored)
        return [p for p in kept if p not in taken]

    def survey(self) -> list[int]:
        """An adaptive walk by the guess alone. Returns the best that it met."""
        level, wanted, size = self.graph.levels[0], self.candidates_wanted, self.widest_survey
        width = wanted
        starts = list(dict.fromkeys([*self.scored, *self.samples]))
        seen = dict.fromkeys(starts)
        values = dict(zip(starts, self.guesses(starts), strict=True))
        pool = self.best(starts, np.array(list(values.values())), size)
        expanded: set[int] = set()
        while True:
            candidates = [p for p in pool[:width] if p not in expanded][:SURVEY_EXPAND]
            if not candidates:
                before = width
                if self.selected is not None:
                    width = widened(np.array(pool, np.int32), self.selected, width, wanted)
                if width == before:
                    return pool
                continue
            expanded.update(candidates)
            new = [int(v) for u in candidates for v in level.neighbors(u)]
            new = [v for v in dict.fromkeys(new) if v not in seen]
            if not new:
                continue
            seen.update(dict.fromkeys(new))
            values.update(zip(new, self.guesses(new), strict=True))
            pool = self.best([*pool, *new], np.array([values[p] for p in [*pool, *new]]), size)

    def score_rounds(self, candidates: list[int]) -> list[int]:
        """Step 4: score the best by the guess and fit again, while this finds results. Returns the others."""
        batch, patience = self.proxy.batch, self.proxy.patience
        if self.filtering or self.proxy.probes:
            patience = max(patience, PATIENCE_OF_PROBING)
        while candidates and len(self.scored) < MOST_SCORED * self.keep:
            chosen = self.best(candidates, self.guesses(candidates), batch)
            kth = self.kth_score()
            scores = self.score(chosen)
            self.fit(chosen, scores)
            taken = set(chosen)
            candidates = [p for p in candidates if p not in taken]
            fresh = int((scores > kth).sum())
            if len(self.scored) >= self.keep + batch and patience * fresh < batch:
                break
        return candidates

    def score_probes(self, candidates: list[int]) -> None:
        """Step 5: score the best by the guess that are not near what was scored."""

        def around(p: int) -> set[int]:
            return {p, *self.graph.levels[0].neighbors(p).tolist()}

        marked = {v for p in self.scored for v in around(p)}
        for _ in range(PROBE_ROUNDS):
            chosen: list[int] = []
            for p in self.best(candidates, self.guesses(candidates), len(candidates)):
                if len(chosen) < self.proxy.batch and not marked & around(p):
                    marked |= around(p)
                    chosen.append(p)
            if chosen:
                self.fit(chosen, self.score(chosen))

    def kth_score(self) -> float:
        """The score of the K-th best so far, -inf where there are fewer."""
        known = np.sort(self.scores[~np.isnan(self.scores) & self.is_selected(self.scored)])[::-1]
        return float(known[self.keep - 1]) if known.size >= self.keep else -np.inf

    def walk_by_scores(self) -> None:
        """Step 6: the gated walk, by true scores; only neighbours that are worth it are scored."""
        level = self.graph.levels[0]
        value = dict(zip(self.scored, self.scores, strict=True))
        guess = dict(zip(self.scored, self.guesses(self.scored), strict=True))
        variance = self._first_variance()
        size = max(2 * self.keep, self.width)
        known = ~np.isnan(self.scores) & self.is_selected(self.scored)
        pool = self._best_scored(np.array(self.scored)[known].tolist(), value, size)
        expanded: set[int] = set()
        residuals: dict[int, list[float]] = {}  # pending: sum of the residuals around it, and their number
        while True:
            chosen = [p for p in pool[: self.width] if p not in expanded][:GATED_EXPAND]
            expanded.update(chosen)
            self._add_residuals(level, chosen, value, guess, residuals)
            cut = -np.inf
            if len(pool) >= self.keep:
                kth = self.standardized(np.array([value[pool[self.keep - 1]]], np.float32))[0]
                cut = kth - float(np.float32(self.proxy.slack)) * float(np.sqrt(variance))
            pending = list(residuals)
            refined = self._refined(pending, guess, residuals)
            worth = refined >= cut
            enough = [v for v, is_worth in zip(pending, worth, strict=True) if is_worth]
            taken = self.best(enough, refined[worth], self.proxy.batch)
            if not chosen and not taken:
                return
            if not taken:
                continue
            expected = dict(zip(pending, refined, strict=True))
            scores = self.score(taken)
            for position, z in zip(taken, self.standardized(scores), strict=True):
                del residuals[position]
                if np.isfinite(z):
                    error = z - expected[position]
                    variance = VARIANCE_DECAY * variance + (1 - VARIANCE_DECAY) * (error * error)
            value.update(zip(taken, scores, strict=True))
            pool = self._best_scored([*pool, *(p for p in taken if not np.isnan(value[p]))], value, size)

    def _first_variance(self) -> float:
        finite = np.isfinite(self.scores)
        errors = self.standardized(self.scores[finite])
        errors = errors - self.guesses(np.array(self.scored)[finite].tolist()).astype(np.float64)
        return FIRST_VARIANCE * (float(np.cumsum(errors * errors)[-1]) / errors.size)

    def _best_scored(self, positions: list[int], value: dict[int, np.float32], count: int) -> list[int]:
        return self.best(positions, np.array([value[p] for p in positions], np.float32), count)

    def _add_residuals(
        self,
        level: Level,
        expanded: list[int],
        value: dict[int, np.float32],
        guess: dict[int, np.float32],
        residuals: dict[int, list[float]],
    ) -> None:
        for u in expanded:
            residual = float(self.standardized(np.array([value[u]], np.float32))[0] - np.float64(guess[u]))
            for v in self._reached(level, u):
                if v in value:
                    continue
                if v not in residuals:
                    guess[v] = self.guesses([v])[0]
                    residuals[v] = [0.0, 0]
                residuals[v][0] += residual
                residuals[v][1] += 1

    def _reached(self, level: Level, u: int) -> list[int]:
        """Neighbours of u; in place of one that is not selected, its selected neighbours."""
        if self.selected is None:
            return [int(v) for v in level.neighbors(u)]
        reached: list[int] = []
        for v in level.neighbors(u):
            beyond = [v] if self.selected[v] else level.neighbors(v)
            reached += [int(w) for w in beyond if self.selected[w]]
        return reached

    @staticmethod
    def _refined(
        pending: list[int], guess: dict[int, np.float32], residuals: dict[int, list[float]]
    ) -> Doubles:
        """q of each pending item: its guess, and a share of the mean residual around it."""
        sums = np.array([residuals[v][0] for v in pending], np.float64)
        counts = np.array([residuals[v][1] for v in pending], np.float64)
        refined = np.array([guess[v] for v in pending], np.float64) + RESIDUAL_SHARE * sums / counts
        values: Doubles = np.where(np.isnan(refined), -np.inf, refined)
        return values
