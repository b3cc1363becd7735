"""Choosing the walk of an export: each is calibrated on some users, and measured on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nann.export._calibrate import Agreement, TargetOutOfReachError, Truth, calibrate, calibrate_proxy
from nann.export._clock import EQUAL_TIMES, milliseconds
from nann.export._options import Tuning
from nann.export._precision import PrecisionReport, fastest_precision, in_float32
from nann.export._samples import Sample
from nann.export.agreement import worst_share
from nann.export.scorer import Scorer
from nann.ops import IndexResource, ProxyWalk

# Candidates per hop of the adaptive walk. Few expand fewer items in vain, and are right where a score costs
# next to nothing; many give a hop enough tiles for several threads (docs/speed.md).
EXPAND_IN_PLACE, EXPAND = 8, 32
# A walk that saves less than this share of the items, and no time, is not worth what it may miss.
_LEAST_SAVED = 0.5
# A walk that saves less than this share of the items takes longer than scoring all: it reads the graph too.
# Where the clock says otherwise, another process disturbed the measurement.
_SAVES_NOTHING = 0.05
# What helps where a walk's widest beams agree too little, by walk.
_ADVICE = {
    "fixed": "Take another walk (--walk auto or adaptive), whose hops do not end before the best candidates "
    "are expanded; build a denser graph (nann index --m); or lower the target.",
    "adaptive": "Let the export choose the walk (--walk auto), build a denser graph (nann index --m), or "
    "lower the target.",
}
_BRUTE_FORCE = "all"


@dataclass(frozen=True)
class CalibrationReport:
    """The chosen walk and what was measured with it, on users that it was not chosen by.

    walk, level_topn: what was chosen.
    target:           the agreement that was looked for; `reached`: whether these users have it.
    agreement:        share of brute force's top k that is found, mean over users, for the k found least.
    worst_5_percent:  the same, mean over the worst 5 % of users.
    by_k:             both, and the least user's, for each k that was measured.
    items_scored:     per request, mean over users.
    milliseconds:     per request of one user, median; brute_force_milliseconds: of scoring every item.
    brute_force_is_cheaper: whether scoring every item takes less time, beyond what a measurement may err.
    users, tuned_on:  how many users it was measured on, and how many others it was chosen by.
    source:           the file that the users come from; None where they are made up.
    considered:       every walk that was tried, by name, with the same figures.
    """

    walk: str
    level_topn: list[int]
    target: float
    reached: bool
    agreement: float
    worst_5_percent: float
    by_k: dict[str, dict[str, float]]
    items_scored: float
    milliseconds: float
    brute_force_milliseconds: float
    brute_force_is_cheaper: bool
    users: int
    tuned_on: int
    source: str | None
    considered: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class _Candidate:
    """A walk with its narrowest beams. `error` says that the target is out of their reach."""

    scorer: Scorer
    tuned: Agreement
    error: TargetOutOfReachError | None = None


class WalkChoice:
    """Calibrates walks on some users, measures them on others, and chooses one."""

    def __init__(
        self,
        index: IndexResource,
        tuned_on: Sample,
        held_out: Sample,
        level_topn: Sequence[int],
        target: float,
        on_progress: Callable[[str, int, int], None],
        *,
        with_filters: bool = False,
    ) -> None:
        self._with_filters = with_filters
        self._index, self._level_topn, self._target = index, level_topn, target
        self._tuned_on, self._held_out = tuned_on, held_out
        self._on_progress = on_progress

    def choose(
        self,
        scorer: Scorer,
        proxy: ProxyWalk | None,
        tuning: Tuning,
        precision: PrecisionReport,
        source: Path | None,
    ) -> tuple[Scorer, CalibrationReport, PrecisionReport]:
        """The scorer with the chosen walk, the figures of the walk, and the precision that it takes.

        Raises TargetOutOfReachError where the user asked for a target.
        """
        to_tune, to_measure = (
            Truth(self._index, scorer, sample, self._level_topn, self._report(f"score every item {part}"))
            for part, sample in (("to tune", self._tuned_on), ("to measure", self._held_out))
        )
        candidates = self._candidates(to_tune, scorer, proxy, tuning)
        mine: dict[str, _Candidate] = (
            candidates
            if tuning.walk == "auto"
            else {name: each for name, each in candidates.items() if each.scorer.walk == scorer.walk}
        )
        tuned = [name for name, each in mine.items() if each.error is None]
        if not tuned and tuning.target_agreement is not None:
            raise next(each.error for each in mine.values() if each.error is not None)
        measured = {name: to_measure.measure(c.scorer, c.tuned.level_topn) for name, c in candidates.items()}
        walks = {name: (each.scorer, each.tuned.level_topn) for name, each in candidates.items()}
        times = milliseconds(self._index, self._held_out, walks)
        self._on_progress("tune the walk", len(candidates), len(candidates))
        name = _fastest(
            {name: times[name] for name in _served(tuned, list(mine), measured, self._target)}, measured
        )
        if tuning.precision == "auto" and scorer.walk_tables:
            wide = self._add_in_float32(name, candidates, measured, times, to_measure)
            by_precision = {precision.precision: times[name], "float32": times[wide]}
            precision = replace(
                precision, precision=fastest_precision(by_precision), milliseconds=by_precision
            )
            name = wide if precision.precision == "float32" else name
        figures = {each: self._figures(candidates[each], measured[each], times[each]) for each in candidates}
        brute_force = min(times[each] for each in candidates if candidates[each].scorer.score_all)
        report = CalibrationReport(
            target=self._target,
            brute_force_milliseconds=brute_force,
            brute_force_is_cheaper=EQUAL_TIMES * brute_force < times[name],
            users=self._held_out.users,
            tuned_on=self._tuned_on.users,
            source=None if source is None else source.name,
            considered=figures,
            **figures[name],
        )
        return self._with_filter_proxy(candidates[name].scorer, candidates), report, precision

    def _add_in_float32(
        self,
        name: str,
        candidates: dict[str, _Candidate],
        measured: dict[str, Agreement],
        times: dict[str, float],
        truth: Truth,
    ) -> str:
        """Add the walk `name` in float32 to all that is known of walks, with both times anew; its name.

        The precision was chosen with other beams. Results of a narrow walk are scored again, which costs more
        than narrow numbers save where the walk scores few items.
        """
        wide = f"{name} in float32"
        candidates[wide] = replace(candidates[name], scorer=in_float32(candidates[name].scorer))
        beams = measured[name].level_topn
        walks = {each: (candidates[each].scorer, beams) for each in (name, wide)}
        times |= milliseconds(self._index, self._held_out, walks)
        measured[wide] = truth.measure(candidates[wide].scorer, beams)
        return wide

    def _with_filter_proxy(self, scorer: Scorer, candidates: Mapping[str, _Candidate]) -> Scorer:
        """The scorer; searches that filter take the proxy walk where another one is faster for the rest."""
        if (
            not self._with_filters
            or scorer.score_all
            or scorer.proxy is not None
            or "proxy" not in candidates
        ):
            return scorer
        return replace(scorer, filter_proxy=candidates["proxy"].scorer.proxy)

    def _candidates(
        self, truth: Truth, scorer: Scorer, proxy: ProxyWalk | None, tuning: Tuning
    ) -> dict[str, _Candidate]:
        """Every walk to measure, by name; brute force is always one of them."""
        scorers: dict[str, Scorer] = {scorer.walk: scorer}
        if tuning.walk == "auto" and tuning.expand is None and not scorer.in_place:
            scorers[f"{scorer.walk} {EXPAND_IN_PLACE}"] = replace(scorer, expand=EXPAND_IN_PLACE)
        if tuning.walk == "auto" and proxy is not None:
            scorers["proxy"] = replace(scorer, proxy=proxy)
        scorers[_BRUTE_FORCE] = replace(scorer, score_all=True, expand=0, proxy=None)
        found: dict[str, _Candidate] = {}
        for done, (name, each) in enumerate(scorers.items()):
            self._on_progress("tune the walk", done, len(scorers))
            if each.proxy is not None:
                found |= self._calibrated_proxies(truth, each)
            else:
                found[name] = self._calibrated(truth, each)
        return found

    def _calibrated(self, truth: Truth, scorer: Scorer) -> _Candidate:
        if scorer.score_all:
            return _Candidate(scorer, truth.measure(scorer, self._level_topn))
        meta, advice = self._index.meta, _ADVICE[scorer.walk]
        try:
            tuned = calibrate(truth, scorer, meta, self._level_topn, target=self._target, advice=advice)
        except TargetOutOfReachError as error:
            return _Candidate(scorer, error.best, error)
        return _Candidate(scorer, tuned)

    def _calibrated_proxies(self, truth: Truth, scorer: Scorer) -> dict[str, _Candidate]:
        """ "proxy", the one with the narrowest survey; wider ones are numbered."""
        settings, error = calibrate_proxy(truth, scorer, self._index.meta, self._level_topn, self._target)
        names = ["proxy", *(f"proxy {number}" for number in range(2, len(settings) + 1))]
        return {
            name: _Candidate(replace(scorer, proxy=proxy), tuned, error)
            for name, (tuned, proxy) in zip(names, settings, strict=True)
        }

    def _figures(self, candidate: _Candidate, measured: Agreement, millis: float) -> dict[str, Any]:
        return {
            "walk": candidate.scorer.walk,
            "level_topn": measured.level_topn,
            "reached": measured.reaches(self._target),
            "agreement": measured.mean,
            "worst_5_percent": measured.worst,
            "by_k": {
                str(k): {
                    "agreement": float(shares.mean()),
                    "worst_5_percent": worst_share(shares),
                    "least": float(shares.min()),
                }
                for k, shares in sorted(measured.shares.items())
            },
            "items_scored": measured.items_scored,
            "milliseconds": millis,
        }

    def _report(self, step: str) -> Callable[[int, int], None]:
        return lambda done, total: self._on_progress(step, done, total)


def _served(
    tuned: Sequence[str], names: Sequence[str], measured: Mapping[str, Agreement], target: float
) -> Sequence[str]:
    """The walks to choose from: those that reach the target for other users than they were tuned on.

    Those that reached it for both kinds of users come first, then those that nearly did. A walk that falls a
    little short is not given up for scoring every item: the summary says so.

    tuned: of `names`, those that reached it for the users that they were tuned on.
    """
    for group in (tuned, names):
        reaching = [name for name in group if measured[name].reaches(target)]
        if set(reaching) - {_BRUTE_FORCE}:
            return reaching
    return tuned or names


def _fastest(times: Mapping[str, float], measured: Mapping[str, Agreement]) -> str:
    """The walk of the least time; of those as good as equal, the one that scores the fewest items.

    Scoring every item misses nothing: it is taken where it is as good as equal and the walk scores most of
    them, and, whatever the times are, where the walk scores all but a few.
    """
    if _BRUTE_FORCE in times:
        most = (1 - _SAVES_NOTHING) * measured[_BRUTE_FORCE].items_scored
        times = {
            name: time
            for name, time in times.items()
            if name == _BRUTE_FORCE or measured[name].items_scored <= most
        }
    limit = EQUAL_TIMES * min(times.values())
    equal = [name for name in times if times[name] <= limit]
    fewest = min(equal, key=lambda name: measured[name].items_scored)
    if _BRUTE_FORCE in equal:
        of_all = measured[_BRUTE_FORCE].items_scored
        return fewest if measured[fewest].items_scored <= (1 - _LEAST_SAVED) * of_all else _BRUTE_FORCE
    return fewest
