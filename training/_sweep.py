"""`sweep`: agreement with brute force against cost, for several walks and beams of a run's exports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidInputError
from nann.export import TARGET_AGREEMENT
from nann.export.agreement import overlap, worst_share, worst_users
from nann.export.loaded import loaded
from nann.export.manifest import read_manifest
from nann.files import write_json
from nann.ops import IndexMeta, default_level_topn
from nann.ops.index_meta import MAX_BEAM, read_meta, with_level_0_beam
from nann.progress import OnProgress, ignore_progress
from nann.run import INDEX
from nann.training._asked import AskedExport, choose_users, scores_of_users, seen_items
from nann.training._dataset import Dataset, IntArray
from nann.training._evaluate import EvaluateOptions, export_to_measure
from nann.training._run import read_run_dataset
from nann.training._splits import Examples
from nann.training.metrics import mean_interval, top_k

SWEEP_FILE = "sweep.json"
WALKS: tuple[Literal["fixed", "adaptive", "proxy", "all"], ...] = ("fixed", "adaptive", "proxy", "all")
# Beams of level 0: from what is certainly too narrow to what costs more than most can pay.
WIDTHS = (25, 50, 100, 200, 400, 800)


@dataclass(frozen=True)
class SweepPoint:
    """One walk with one `level_topn`, measured on U users.

    Attributes:
      walk: fixed, adaptive, proxy, all.
      level_topn: its beams.
      agreement, agreement_low, agreement_high: mean share of brute force's list that is found, and its 95 %
        interval (bootstrap over users).
      agreement_worst_5_percent: the mean over the 5 % of users with the least agreement.
      worst_users: ids of these users, the worst first.
      items_scored: per request, mean.
      milliseconds: per request of one user, median.
    """

    walk: str
    level_topn: tuple[int, ...]
    agreement: float
    agreement_low: float
    agreement_high: float
    agreement_worst_5_percent: float
    worst_users: tuple[int, ...]
    items_scored: float
    milliseconds: float

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


@dataclass(frozen=True)
class Sweep:
    """The result.

    Attributes:
      k, items, users: length of the lists, size of the corpus, number of measured users.
      model: the measured export; None for temporary ones.
      target: the agreement that `recommended` reaches.
      recommended: the fastest point whose agreement is at least `target`; None when no point reaches it.
      points: walk after walk, each with the narrowest beams first.
    """

    k: int
    items: int
    users: int
    model: str | None
    target: float
    recommended: SweepPoint | None
    points: tuple[SweepPoint, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        recommended = None if self.recommended is None else self.recommended.to_json()
        points = [point.to_json() for point in self.points]
        return {**asdict(self), "recommended": recommended, "points": points}


def cheapest(points: Sequence[SweepPoint], target: float) -> SweepPoint | None:
    """The fastest point that reaches `target`; of equally fast ones that which scores fewer items."""
    enough = [point for point in points if point.agreement >= target]
    return min(enough, key=lambda point: (point.milliseconds, point.items_scored), default=None)


def sweep(
    run_dir: Path,
    options: EvaluateOptions | None = None,
    *,
    target: float = TARGET_AGREEMENT,
    on_progress: OnProgress | None = None,
) -> Sweep:
    """Measure walks and beams on the users of the run's data set, and write `RUN/sweep.json`.

    The result recommends the fastest of them whose agreement is at least `target`, a share in (0, 1].

    With `options.model_dir` the beams of that export are swept; its walk is what it was exported with.
    Without it a temporary export is made for each walk, or for `options.walk` alone. All beams of level 0 get
    the same width; the others are the export's. Users ask as `evaluate` has them ask.

    Raises the errors of `evaluate`.

    Example: `sweep(Path("RUN"), EvaluateOptions(max_users=200)).points[0].agreement`.
    """
    options = options or EvaluateOptions()
    options.check()
    if options.level_topn is not None:
        raise InvalidInputError(
            "level_topn: expected none for a sweep, which tries beams of its own. Leave it out."
        )
    if not 0.0 < target <= 1.0:
        raise InvalidInputError(f"target: expected a share in (0, 1], found {target}. Correct it.")
    report = on_progress or ignore_progress
    dataset = read_run_dataset(run_dir)
    examples, _ = choose_users(dataset, most=options.max_users, seed=options.seed)
    truth = _Truth(run_dir, dataset, examples, options, report)
    points = tuple(
        point
        for each in _exports(run_dir, options)
        for point in _points_of_export(run_dir, dataset, examples, each, truth, report)
    )
    model = None if options.model_dir is None else str(options.model_dir)
    recommended = cheapest(points, target)
    result = Sweep(options.k, dataset.num_items, len(examples), model, target, recommended, points)
    write_json(run_dir / SWEEP_FILE, result.to_json())
    return result


def _exports(run_dir: Path, options: EvaluateOptions) -> list[EvaluateOptions]:
    if options.model_dir is not None:
        return [options]
    # Given beams are not calibrated: the sweep tries others anyway.
    beams = default_level_topn(read_meta(run_dir / INDEX)).tolist()
    walks = WALKS if options.walk == "auto" else (options.walk,)
    return [replace(options, walk=walk, level_topn=beams) for walk in walks]


class _Truth:
    """Brute force's list of every user, computed when the first export is at hand."""

    def __init__(
        self,
        run_dir: Path,
        dataset: Dataset,
        examples: Examples,
        options: EvaluateOptions,
        report: OnProgress,
    ) -> None:
        self._run_dir, self._dataset, self._examples = run_dir, dataset, examples
        self._k, self._report = options.k, report
        self._lists: list[IntArray] = []

    def lists(self, model: Any) -> list[IntArray]:
        """The best k of each user by the scores of this export, the same for all exports of a run."""
        if not self._lists:
            scores = scores_of_users(self._run_dir, model, self._dataset, self._examples)
            for pair, of_user in zip(self._examples.pairs(), scores, strict=True):
                seen = seen_items(self._dataset, *pair)
                self._lists.append(top_k(of_user, self._dataset.item_ids, self._k, seen))
                self._report("score every item", len(self._lists), len(self._examples))
        return self._lists


def _points_of_export(
    run_dir: Path,
    dataset: Dataset,
    examples: Examples,
    options: EvaluateOptions,
    truth: _Truth,
    report: OnProgress,
) -> Iterator[SweepPoint]:
    with contextlib.ExitStack() as stack:
        model_dir = stack.enter_context(export_to_measure(run_dir, dataset, options, report))
        model = stack.enter_context(loaded(model_dir))
        meta, asked = read_meta(model_dir / "assets"), AskedExport(model, model_dir, dataset)
        expected = truth.lists(model)
        default = options.beams(meta, read_manifest(model_dir)["level_topn"])
        tried = _beams(meta, default, asked.scorer["walk"])
        for done, level_topn in enumerate(tried):
            report(f"{asked.scorer['walk']} walk", done, len(tried))
            yield _measure(asked, dataset, examples, level_topn, expected, options.seed)
        report(f"{asked.scorer['walk']} walk", len(tried), len(tried))


def _beams(meta: IndexMeta, default: Sequence[int], walk: str) -> list[list[int]]:
    """The beams to try: `default` with other widths of level 0. Scoring every item has none."""
    if walk == "all":
        return [list(default)]
    widest = min(meta.num_items, MAX_BEAM)
    widths = sorted({min(width, widest) for width in WIDTHS})
    return [with_level_0_beam(meta, default, width) for width in widths]


def _measure(
    asked: AskedExport,
    dataset: Dataset,
    examples: Examples,
    level_topn: Sequence[int],
    expected: Sequence[IntArray],
    seed: int,
) -> SweepPoint:
    pairs = examples.pairs()
    asked.search(*pairs[0], level_topn)  # the first request of a kind is slower
    answers = [asked.search(*pair, level_topn) for pair in pairs]
    shares: npt.NDArray[np.float64] = np.array(
        [overlap([answer.ids], [best]) for answer, best in zip(answers, expected, strict=True)]
    )
    mean, low, high = mean_interval(shares, seed=seed)
    return SweepPoint(
        walk=asked.scorer["walk"],
        level_topn=tuple(level_topn),
        agreement=mean,
        agreement_low=low,
        agreement_high=high,
        agreement_worst_5_percent=worst_share(shares),
        worst_users=tuple(int(dataset.user_ids[examples.users[place]]) for place in worst_users(shares)),
        items_scored=float(np.mean([answer.items_scored for answer in answers])),
        milliseconds=float(np.median([answer.milliseconds for answer in answers])),
    )
