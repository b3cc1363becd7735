"""Rows on a trained model: the walk against brute force, and the adaptive walk against fixed beams."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nann.bench.corpus import brute_force_run
from nann.bench.exports import Tuned, export
from nann.bench.peers.rounds import least_effort
from nann.bench.peers.walks import WALKS
from nann.bench.requests import Request, retrieve_request
from nann.bench.statistics import Ratio, interleaved, ratio_of_medians, timed_each
from nann.bench.targets import SavedModelTarget
from nann.bench.workloads import Check, Outcome, TableOptions, medians_ms
from nann.export.agreement import overlap
from nann.progress import OnProgress

_K = 200
_ENTRY_BEAM = 100
# Users of the synthetic data, which train the model in minutes; users whose walks are measured.
_USERS, _MEASURED_USERS = 20_000, 50
# The target of the agreement with brute force.
_AGREEMENT = 0.98
# When no fixed beams reach the target, those within this distance of the best ones stand for them.
_NEAR = 0.01
_NARROWEST, _WIDEST = 25, 16_384
# Shapes of beams as shares of a width: beams above level 0; beams of the three hops of level 0.
_UPPER_SHARES = (0.125, 0.5, 1.0)
_HOP_SHARES = ((1.0, 1.0, 1.0), (0.25, 0.5, 1.0), (1.0, 0.5, 0.25), (0.5, 1.0, 1.0))

State = npt.NDArray[np.float32]


class Found(NamedTuple):
    """Agreement and cost of some beams."""

    level_topn: tuple[int, ...]
    agreement: float
    items_scored: float


def against_brute_force(options: TableOptions, on_progress: OnProgress, *, items: int) -> Outcome:
    """The cheapest beams that reach the agreement, and the time they save against brute force.

    Brute force is a walk over an index whose entry points are all items: the same op, scorer and tables.
    """
    trained = TrainedModel(options, items, on_progress)
    adaptive = trained.cheapest("adaptive walk")
    fixed = trained.fixed_beams_cheaper_than(adaptive)
    found, name = (adaptive, "adaptive walk") if fixed is None else (fixed, "fixed beams")
    requests = [_request(state, found.level_topn) for state in trained.states[: options.requests]]
    everything = [_request(state, (_K, _K, _K)) for state in trained.states[: options.requests]]
    seconds = interleaved(
        {
            "walk": timed_each(trained.walk(name).outputs, requests),
            "brute force": timed_each(trained.all.outputs, everything),
        },
        options.rounds,
        seed=options.seed,
        on_round=lambda done: on_progress("rounds", done, options.rounds),
    )
    fewer = trained.num_items / found.items_scored
    speedup = ratio_of_medians(seconds["brute force"], seconds["walk"])
    return Outcome(
        [
            Check("agreement with brute force", found.agreement, _AGREEMENT, unit="%"),
            Check.of(
                "times faster / times fewer items scored", Ratio(*(value / fewer for value in speedup)), 0.5
            ),
        ],
        {
            "times faster": speedup.value,
            "times fewer items scored": fewer,
            "walk": name,
            "beams": _text(found),
            "items scored": found.items_scored,
            **medians_ms(seconds, len(requests)),
        },
    )


def adaptive_against_fixed(options: TableOptions, on_progress: OnProgress, *, items: int) -> Outcome:
    """Items that the adaptive walk scores, against the cheapest fixed beams with the same agreement."""
    trained = TrainedModel(options, items, on_progress)
    adaptive = trained.cheapest("adaptive walk")
    shapes = list(itertools.product(_widths(trained.num_items), _UPPER_SHARES, _HOP_SHARES))
    swept = []
    for done, (width, upper, hops) in enumerate(shapes):
        on_progress("fixed beams", done, len(shapes))
        swept.append(trained.found("fixed beams", trained.beams(width, upper, hops)))
    on_progress("fixed beams", len(shapes), len(shapes))
    as_good = [found for found in swept if found.agreement >= _AGREEMENT]
    figures: dict[str, float | str] = {
        "adaptive: agreement": adaptive.agreement,
        "adaptive: items scored": adaptive.items_scored,
        "adaptive: beams": _text(adaptive),
        "fixed beams tried": len(swept),
        "fixed beams that agree as well": len(as_good),
    }
    for best in pareto_best(swept):
        name = f"Pareto-best fixed, {best.agreement:.4f} at beams {_text(best)}: items scored"
        figures[name] = best.items_scored
    # When none reach the agreement, the nearest stand for them, which favours fixed beams.
    fixed = cheapest_of(swept)
    figures["fixed beams compared with: agreement"] = fixed.agreement
    figures["fixed beams compared with: items scored"] = fixed.items_scored
    return Outcome(
        [
            Check("agreement of the adaptive walk", adaptive.agreement, _AGREEMENT, unit="%"),
            Check(
                "items scored, adaptive / Pareto-best fixed",
                adaptive.items_scored / fixed.items_scored,
                0.5,
                at_least=False,
            ),
        ],
        figures,
    )


def cheapest_of(found: Sequence[Found]) -> Found:
    """The beams with the fewest items among those that reach the agreement, or else among the nearest."""
    best = max(beams.agreement for beams in found)
    least = _AGREEMENT if best >= _AGREEMENT else best - _NEAR
    return min((beams for beams in found if beams.agreement >= least), key=lambda beams: beams.items_scored)


def pareto_best(swept: Sequence[Found]) -> list[Found]:
    """The beams that no others beat in agreement without scoring more items, by agreement."""
    best: list[Found] = []
    for found in sorted(swept, key=lambda found: (found.items_scored, -found.agreement)):
        if not best or found.agreement > best[-1].agreement:
            best.append(found)
    return best


class TrainedModel:
    """The reference model trained on synthetic data, its index and brute force; kept for later runs."""

    def __init__(self, options: TableOptions, items: int, on_progress: OnProgress) -> None:
        self.num_items = options.items(items)
        self._folder = options.work / f"trained-n{self.num_items}-s{options.seed}"
        self._run = self._folder / "run"
        if not (self._run / "index").exists():
            self._train(options, on_progress)
        self.states = self._states(_MEASURED_USERS)
        brute_force = brute_force_run(self._run, self._folder / "run-brute-force")
        self.all = SavedModelTarget(self._export(brute_force, "brute-force", {}, reorder=False))
        self._best = _top_k(self.all, [_request(state, (_K, _K, _K)) for state in self.states])
        self._walks: dict[str, SavedModelTarget] = {}

    def walk(self, name: str) -> SavedModelTarget:
        """The export that walks the index by the walk `name` of `WALKS`."""
        if name not in self._walks:
            self._walks[name] = SavedModelTarget(self._export(self._run, "walk", WALKS[name].tuning))
        return self._walks[name]

    def found(self, walk: str, level_topn: tuple[int, ...]) -> Found:
        """Mean agreement and cost of some beams over the measured users."""
        answers = [self.walk(walk).outputs(_request(state, level_topn)) for state in self.states]
        agreement = overlap(np.concatenate([answer["top_k"] for answer in answers]), self._best)
        return Found(level_topn, agreement, float(np.mean([answer["items_scored"] for answer in answers])))

    def cheapest(self, walk: str) -> Found:
        """The beams with one width on level 0 that reach the agreement with the fewest items."""
        return cheapest_of([self._narrowest(walk, upper) for upper in _UPPER_SHARES])

    def fixed_beams_cheaper_than(self, other: Found) -> Found | None:
        """The cheapest fixed beams that reach the agreement with fewer items than `other`, if any."""
        enough = []
        for upper in _UPPER_SHARES:
            for width in _widths(self.num_items):
                found = self.found("fixed beams", self.beams(width, upper, (1.0, 1.0, 1.0)))
                if found.items_scored >= other.items_scored:
                    break
                if found.agreement >= _AGREEMENT:
                    enough.append(found)
                    break
        return min(enough, key=lambda beams: beams.items_scored, default=None)

    def _narrowest(self, walk: str, upper: float) -> Found:
        tried: dict[int, Found] = {}

        def agreement(width: int) -> float:
            tried[width] = self.found(walk, self.beams(width, upper, (1.0, 1.0, 1.0)))
            return tried[width].agreement

        widest = min(_WIDEST, self.num_items)
        return tried[least_effort(agreement, _AGREEMENT, (_NARROWEST, widest))[0]]

    def beams(self, width: int, upper: float, hops: Sequence[float]) -> tuple[int, ...]:
        """Beams of one shape: `upper` and `hops` are shares of `width`."""
        above = max(_ENTRY_BEAM // 2, round(width * upper))
        count = self._level_topn_length() - 2 - len(hops)
        return (above, *[above] * count, *(max(1, round(width * share)) for share in hops), _K)

    def _level_topn_length(self) -> int:
        from nann.export import read_index

        return read_index(self._run / "index").level_topn_length

    def _train(self, options: TableOptions, on_progress: OnProgress) -> None:
        from nann.export import build_index
        from nann.training import TrainOptions, embed, prepare_data, train

        users = _USERS if options.scale >= 1.0 else max(200, round(_USERS * options.scale))
        source = f"synthetic:items={self.num_items},users={users},seed={options.seed}"
        prepare_data(source, self._folder / "data", overwrite=True)
        # A part of the size is for trying the table out: its model need not be the best.
        trained = TrainOptions() if options.scale >= 1.0 else TrainOptions(epochs=3)
        train(self._folder / "data", self._run, trained, on_progress=on_progress)
        embed(self._run, on_progress=on_progress)
        build_index(self._run, m=options.m, ef_construction=options.ef_construction, on_progress=on_progress)

    def _states(self, count: int) -> list[State]:
        """States float32 [1, L*E] of the first users of the data set before their last event."""
        from nann.run import load_model
        from nann.training import read_dataset
        from nann.training.ranking import states_before_last_event

        dataset = read_dataset(self._folder / "data")
        users = np.arange(min(count, dataset.num_users))
        states = states_before_last_event(load_model(self._run), dataset, users)
        return [state["comm_seq"].numpy().reshape(1, -1) for state in states]

    def _export(self, run: Path, name: str, tuning: Tuned, *, reorder: bool = True) -> Path:
        from nann.run import load_model

        model = load_model(self._run)
        return export(run, model, models=self._folder / "models", name=name, tuning=tuning, reorder=reorder)


def _widths(num_items: int) -> list[int]:
    """Widths of the sweep, two per doubling."""
    widths = [round(_NARROWEST * 2 ** (step / 2)) for step in range(24)]
    return [width for width in widths if width <= min(num_items, _WIDEST)]


def _text(found: Found) -> str:
    return ",".join(map(str, found.level_topn))


def _request(state: State, level_topn: Sequence[int]) -> Request:
    return retrieve_request({"comm_seq": state}, level_topn)


def _top_k(target: SavedModelTarget, requests: Sequence[Request]) -> npt.NDArray[np.int64]:
    return np.concatenate([target.outputs(request)["top_k"] for request in requests])
