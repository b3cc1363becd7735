"""`evaluate`: an export's answers against brute force by the same scorer, and against popularity."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.export import ExportOptions, Tuning, export_model
from nann.export.agreement import overlap, worst_share, worst_users
from nann.export.loaded import loaded
from nann.export.manifest import read_manifest
from nann.files import load_array, write_json
from nann.ops import IndexMeta, default_level_topn
from nann.ops.index_meta import check_level_topn, read_meta
from nann.progress import OnProgress, ignore_progress
from nann.run import EMBEDDINGS, INDEX
from nann.training._asked import Answer, AskedExport, choose_users, scores_of_users, seen_items, target_of
from nann.training._dataset import Dataset, IntArray
from nann.training._run import read_run_dataset
from nann.training.metrics import mean_interval, ndcg, paired_ratio_interval, top_k

EVALUATION_FILE = "evaluation.json"

# Scores by two copies of one model differ in the last bits of float32, by another checkpoint in the first
# digits.
_SAME_SCORES = 1e-3


@dataclass(frozen=True)
class EvaluateOptions:
    """What to measure.

    Attributes:
      model_dir: version folder of the run's export to measure; None makes a temporary export, as
        `nann export` does without options, except for the walk and for beams that are given here.
      walk: of the temporary export.
      k: length of the lists.
      level_topn: beams of the walk; None takes the export's. The last value is replaced by `k`.
      brute_force: also score every item for every user, and compare.
      max_users: size of the random sample of users; 0 measures all users.
      seed: seed of the sample and of the bootstrap.
    """

    model_dir: Path | None = None
    walk: Literal["auto", "fixed", "adaptive", "proxy", "all"] = "auto"
    k: int = 50
    level_topn: Sequence[int] | None = None
    brute_force: bool = False
    max_users: int = 1000
    seed: int = 0

    def check(self) -> None:
        """Raise InvalidInputError when a value is out of range."""
        if self.k < 1:
            raise InvalidInputError(f"k: expected 1 or more, found {self.k}.")
        if self.max_users < 0 or self.seed < 0:
            raise InvalidInputError(f"max_users and seed: expected 0 or more, found {self}.")

    def beams(self, meta: IndexMeta, default: Sequence[int]) -> list[int]:
        """The walk's beams over an index, ending with k; InvalidInputError when they do not fit it."""
        beams = check_level_topn(default if self.level_topn is None else self.level_topn, meta)
        return [int(beam) for beam in check_level_topn([*beams[:-1].tolist(), self.k], meta)]


@dataclass(frozen=True)
class Evaluation:
    """The result. Recall is the share of users whose held-out event is in their list of k items.

    Attributes:
      k, items: length of the lists, size of the corpus.
      model: the measured export; None for a temporary one.
      executor, precision, walk: how the export walks.
      level_topn: beams of the walk.
      users: number of measured users.
      users_skipped: number of users whose held-out item is one they had before: no list may contain it.
      recall_walk, recall_popularity, recall_brute_force: recall@k; None when not measured.
      recall_interval, recall_brute_force_interval: 95 % intervals (bootstrap over users).
      ndcg_walk, ndcg_popularity, ndcg_brute_force: NDCG@k; with one held-out event per user, the mean of
        1 / log2(2 + place), place from 0, and 0 where it is not in the list.
      ndcg_interval: the 95 % interval of ndcg_walk.
      agreement: mean share of brute force's list that the walk's list contains; None when not measured.
      agreement_low, agreement_high: its 95 % interval (bootstrap over users).
      agreement_worst_5_percent: the mean over the 5 % of users with the least agreement.
      worst_users: ids of these users, the worst first.
      items_scored_mean, items_scored_share: items scored per request, and their share of the corpus.
      ratio, ratio_low, ratio_high: recall_walk / recall_popularity and its 95 % interval (paired bootstrap
        over users); None where they are not finite.
    """

    k: int
    items: int
    model: str | None
    executor: str
    precision: str
    walk: str
    level_topn: tuple[int, ...]
    users: int
    users_skipped: int
    recall_walk: float
    recall_popularity: float
    recall_brute_force: float | None
    recall_interval: tuple[float, float]
    recall_brute_force_interval: tuple[float, float] | None
    ndcg_walk: float
    ndcg_popularity: float
    ndcg_brute_force: float | None
    ndcg_interval: tuple[float, float]
    agreement: float | None
    agreement_low: float | None
    agreement_high: float | None
    agreement_worst_5_percent: float | None
    worst_users: tuple[int, ...] | None
    items_scored_mean: float
    items_scored_share: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def evaluate(
    run_dir: Path,
    options: EvaluateOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measure an export of the run in `run_dir` on the data set's test events; write `RUN/evaluation.json`.

    Users ask the signature `retrieve_by_ids` with the events before the held-out one, and exclude the items
    of all of these events, as they would ask a server. Brute force ranks the scores of the signature `score`.

    Raises:
      InvalidFileError: embeddings, index or export are missing or damaged, or do not belong together.
      InvalidInputError: an option is out of range, or the data has no user that can be measured.
      VerificationError: the export does not load or does not answer.

    Example: `evaluate(Path("RUN"), EvaluateOptions(brute_force=True)).agreement`.
    """
    options = options or EvaluateOptions()
    options.check()
    report = on_progress or ignore_progress
    dataset = read_run_dataset(run_dir)
    examples, skipped = choose_users(dataset, most=options.max_users, seed=options.seed)
    with (
        export_to_measure(run_dir, dataset, options, report) as model_dir,
        loaded(model_dir) as model,
    ):
        asked = AskedExport(model, model_dir, dataset)
        beams = options.beams(read_meta(model_dir / "assets"), read_manifest(model_dir)["level_topn"])
        scores = scores_of_users(run_dir, model, dataset, examples) if options.brute_force else None
        lists = _Lists(dataset, options)
        for done, (user, cut) in enumerate(examples.pairs(), start=1):
            found = asked.search(user, cut, beams)
            lists.add(user, cut, found, None if scores is None else next(scores))
            report("evaluate", done, len(examples))
        result = lists.result(asked.scorer, beams, skipped)
    write_json(run_dir / EVALUATION_FILE, result.to_json())
    return result


@contextmanager
def export_to_measure(
    run_dir: Path, dataset: Dataset, options: EvaluateOptions, report: OnProgress
) -> Iterator[Path]:
    """The version folder of the export to measure; a temporary one is deleted at the end."""
    if options.model_dir is not None:
        read_manifest(options.model_dir)  # its errors name the folder that is no export
        next_step = "Name an export of this run that has all items, not a shard."
        _check_item_ids(options.model_dir / "assets" / "item_ids.npy", dataset, next_step=next_step)
        yield options.model_dir
        return
    _check_run(run_dir, dataset, options)
    # In the run folder: its arrays are then linked instead of copied.
    with tempfile.TemporaryDirectory(prefix=".evaluate-", dir=run_dir) as folder:
        model_dir = Path(folder) / "1"
        to_export = ExportOptions(level_topn=options.level_topn, tuning=Tuning(walk=options.walk))
        export_model(run_dir, model_dir, to_export, on_progress=report)
        yield model_dir


def _check_run(run_dir: Path, dataset: Dataset, options: EvaluateOptions) -> None:
    """Find what an export takes minutes to find, or does not look at."""
    _check_item_ids(run_dir / EMBEDDINGS / "item_ids.npy", dataset, next_step="Run `nann embed` again.")
    meta = read_meta(run_dir / INDEX)
    if meta.num_items != dataset.num_items:
        raise InvalidFileError(
            f"{run_dir / INDEX}: expected an index of the {dataset.num_items} embedded items, found one of "
            f"{meta.num_items}. Build it again: `nann index`."
        )
    options.beams(meta, default_level_topn(meta).tolist())


def _check_item_ids(path: Path, dataset: Dataset, *, next_step: str) -> None:
    item_ids = load_array(path, next_step=next_step)
    if not np.array_equal(np.sort(item_ids), dataset.item_ids):
        raise InvalidFileError(
            f"{path}: expected the {dataset.num_items} item ids of the run's data set, found {len(item_ids)} "
            f"others. {next_step}"
        )


class _Lists:
    """Collects the lists of all users."""

    def __init__(self, dataset: Dataset, options: EvaluateOptions) -> None:
        self._dataset = dataset
        self._options = options
        self._popularity = dataset.popularity(1)[1:].astype(np.float64)
        # The place of the held-out item in each list, from 0; infinite where it is not there.
        self._places: dict[str, list[float]] = {"walk": [], "popularity": [], "brute_force": []}
        self._agreement: list[float] = []
        self._users: list[int] = []
        self._scored: list[int] = []

    def add(self, user: int, cut: int, found: Answer, scores: npt.NDArray[np.float32] | None) -> None:
        """Add a user: the walk's answer, and the scores [N] of all items for brute force."""
        seen = seen_items(self._dataset, user, cut)
        self._target = int(self._dataset.item_ids[target_of(self._dataset, user, cut) - 1])
        self._users.append(int(self._dataset.user_ids[user]))
        self._scored.append(found.items_scored)
        self._add_list("walk", found.ids)
        self._add_list("popularity", self._best(self._popularity, seen))
        if scores is not None:
            self._check_same_model(found, scores)
            best = self._best(scores, seen)
            self._add_list("brute_force", best)
            self._agreement.append(overlap([found.ids], [best]))

    def _best(self, scores: npt.NDArray[Any], seen: npt.NDArray[np.bool_]) -> IntArray:
        return top_k(scores, self._dataset.item_ids, self._options.k, seen)

    def _add_list(self, name: str, ids: IntArray) -> None:
        places = np.flatnonzero(ids == self._target)
        self._places[name].append(float(places[0]) if len(places) else np.inf)

    def _check_same_model(self, found: Answer, scores: npt.NDArray[np.float32]) -> None:
        """Brute force takes the user's state from the run's model, the walk from the export's."""
        expected = scores[np.searchsorted(self._dataset.item_ids, found.ids)]
        tolerance = _SAME_SCORES * np.abs(expected).max(initial=0.0)
        if not np.allclose(found.scores, expected, rtol=0.0, atol=tolerance):
            raise InvalidInputError(
                f"{self._options.model_dir}: expected an export of the run's model as it is now, found "
                "another model's scores. Export the run again with `nann export`."
            )

    def result(self, scorer: Mapping[str, str], beams: Sequence[int], skipped: int) -> Evaluation:
        """The figures over all users."""
        places = {name: np.array(values) for name, values in self._places.items()}
        hits = {name: np.isfinite(values) for name, values in places.items()}
        interval = paired_ratio_interval(hits["walk"], hits["popularity"], seed=self._options.seed)
        ratio, low, high = (value if math.isfinite(value) else None for value in interval)
        scored = float(np.mean(self._scored))
        brute_force = self._options.brute_force
        model_dir = self._options.model_dir
        return Evaluation(
            k=self._options.k,
            items=self._dataset.num_items,
            model=None if model_dir is None else str(model_dir),
            executor=scorer["executor"],
            precision=scorer["precision"],
            walk=scorer["walk"],
            level_topn=tuple(beams),
            users=len(self._scored),
            users_skipped=skipped,
            recall_walk=float(hits["walk"].mean()),
            recall_popularity=float(hits["popularity"].mean()),
            recall_brute_force=float(hits["brute_force"].mean()) if brute_force else None,
            recall_interval=self._interval(hits["walk"]),
            recall_brute_force_interval=self._interval(hits["brute_force"]) if brute_force else None,
            ndcg_walk=float(ndcg(places["walk"]).mean()),
            ndcg_popularity=float(ndcg(places["popularity"]).mean()),
            ndcg_brute_force=float(ndcg(places["brute_force"]).mean()) if brute_force else None,
            ndcg_interval=self._interval(ndcg(places["walk"])),
            **self._agreement_figures(),
            items_scored_mean=scored,
            items_scored_share=scored / self._dataset.num_items,
            ratio=ratio,
            ratio_low=low,
            ratio_high=high,
        )

    def _interval(self, values: npt.NDArray[Any]) -> tuple[float, float]:
        return mean_interval(values.astype(np.float64), seed=self._options.seed)[1:]

    def _agreement_figures(self) -> dict[str, Any]:
        if not self._agreement:
            names = ("agreement", "agreement_low", "agreement_high", "agreement_worst_5_percent")
            return {**dict.fromkeys(names), "worst_users": None}
        shares = np.array(self._agreement)
        mean, low, high = mean_interval(shares, seed=self._options.seed)
        return {
            "agreement": mean,
            "agreement_low": low,
            "agreement_high": high,
            "agreement_worst_5_percent": worst_share(shares),
            "worst_users": tuple(self._users[place] for place in worst_users(shares)),
        }
