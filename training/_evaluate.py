"""`evaluate`: an export's answers against brute force by the same scorer, and against popularity."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.export import export_model
from nann.export.agreement import overlap, score_every_item
from nann.export.loaded import LoadedModel, loaded
from nann.export.manifest import describe_scorer, read_manifest
from nann.files import load_array, write_json
from nann.ops import IndexMeta, default_level_topn
from nann.ops.index_meta import check_level_topn, read_meta
from nann.progress import OnProgress, ignore_progress
from nann.run import EMBEDDINGS, INDEX, load_model
from nann.training._dataset import Dataset, IntArray
from nann.training._run import read_run_dataset
from nann.training.metrics import paired_ratio_interval, top_k
from nann.training.ranking import states_before_last_event

EVALUATION_FILE = "evaluation.json"

# Scores by two copies of one model differ in the last bits of float32, by another checkpoint in the first
# digits.
_SAME_SCORES = 1e-3


@dataclass(frozen=True)
class EvaluateOptions:
    """What to measure.

    Attributes:
      model_dir: version folder of the run's export to measure; None makes a temporary export with the
        defaults of `nann export`.
      k: length of the lists.
      level_topn: beams of the walk; None takes the export's. The last value is replaced by `k`.
      brute_force: also score every item for every user, and compare.
      max_users: size of the random sample of users; 0 measures all users.
      seed: seed of the sample and of the bootstrap.
    """

    model_dir: Path | None = None
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
      agreement: mean share of brute force's list that the walk's list contains; None when not measured.
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
    agreement: float | None
    items_scored_mean: float
    items_scored_share: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**asdict(self), "level_topn": list(self.level_topn)}


def evaluate(
    run_dir: Path,
    options: EvaluateOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measure an export of the run in `run_dir` on each user's last event and write `RUN/evaluation.json`.

    Users ask the signature `retrieve_by_ids` with the events before their last one, and exclude the items of
    all of these events, as they would ask a server. Brute force ranks the scores of the signature `score`.

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
    users, skipped = _choose_users(dataset, options)
    with (
        _export_to_measure(run_dir, dataset, options, report) as model_dir,
        loaded(model_dir) as model,
    ):
        walk = _Walk(model, model_dir, dataset, options)
        scores = _scores_of_users(run_dir, model, dataset, users) if options.brute_force else None
        lists = _Lists(dataset, options)
        for done, user in enumerate(users.tolist(), start=1):
            lists.add(user, walk.search(user), None if scores is None else next(scores))
            report("evaluate", done, len(users))
        result = lists.result(walk, skipped)
    write_json(run_dir / EVALUATION_FILE, result.to_json())
    return result


@contextmanager
def _export_to_measure(
    run_dir: Path, dataset: Dataset, options: EvaluateOptions, report: OnProgress
) -> Iterator[Path]:
    """The version folder of the export; a temporary one is deleted at the end."""
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
        export_model(run_dir, model_dir, on_progress=report)
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


def _choose_users(dataset: Dataset, options: EvaluateOptions) -> tuple[IntArray, int]:
    """Positions of the users to measure, and how many were skipped because they had their held-out item."""
    users = np.arange(dataset.num_users)
    if 0 < options.max_users < len(users):
        users = np.sort(np.random.default_rng(options.seed).permutation(users)[: options.max_users])
    new = np.array([dataset.target(user) not in dataset.seen(user) for user in users.tolist()], bool)
    if not new.any():
        raise InvalidInputError(
            f"{dataset.source}: expected users whose last item is new to them, found none among "
            f"{len(users)}. Measure more users, or use other data."
        )
    return users[new], int((~new).sum())


@dataclass(frozen=True)
class _Answer:
    """The walk's answer for one user, without padding: ids and scores [<= k], best first."""

    ids: IntArray
    scores: npt.NDArray[np.float32]
    items_scored: int


class _Walk:
    """The export's walk, asked by the ids of a user's events."""

    def __init__(
        self, model: LoadedModel, model_dir: Path, dataset: Dataset, options: EvaluateOptions
    ) -> None:
        manifest = read_manifest(model_dir)
        features = manifest["model"]["user_features"]
        if set(features) != {"item_ids", "cate_ids"}:
            raise InvalidInputError(
                f"{model_dir}: expected the user features of the data set, item_ids and cate_ids, found "
                f"{sorted(features)}. Measure this model with the signature score."
            )
        self.model_dir = model_dir
        self.scorer = describe_scorer(manifest)
        self.level_topn = options.beams(read_meta(model_dir / "assets"), manifest["level_topn"])
        self._model = model
        self._dataset = dataset
        self._length = int(features["item_ids"]["shape"][0])
        # Row 0 stands for a missing event; requests send id 0 for it.
        self._ids = {name: np.append(0, getattr(dataset, name)) for name in ("item_ids", "cate_ids")}

    def search(self, user: int) -> _Answer:
        """The answer for the user at this position of the data set."""
        users = np.array([user])
        history = self._dataset.histories(users, self._dataset.lengths[users] - 1, self._length)
        features = self._dataset.features(history)
        outputs = self._model.run(
            "retrieve_by_ids",
            {
                **{name: self._ids[name][rows] for name, rows in features.items()},
                "level_topn": np.array([self.level_topn], np.int32),
                "exclude_ids": self._ids["item_ids"][self._dataset.seen(user)][np.newaxis],
            },
        )
        ids, scores = outputs["top_k"][0], outputs["scores"][0]
        return _Answer(ids[ids != -1], scores[ids != -1], int(outputs["items_scored"][0]))


def _scores_of_users(
    run_dir: Path, model: LoadedModel, dataset: Dataset, users: IntArray
) -> Iterator[npt.NDArray[np.float32]]:
    """float32 [N] for one user after another: the export's scores of all items of the data set."""
    for state in states_before_last_event(load_model(run_dir), dataset, users):
        flat = {name: tensor.numpy().reshape(1, -1) for name, tensor in state.items()}
        yield score_every_item(model.run, flat, dataset.item_ids)[0]


class _Lists:
    """Collects the lists of all users."""

    def __init__(self, dataset: Dataset, options: EvaluateOptions) -> None:
        self._dataset = dataset
        self._options = options
        self._popularity = dataset.popularity(1)[1:].astype(np.float64)
        self._hits: dict[str, list[bool]] = {"walk": [], "popularity": [], "brute_force": []}
        self._agreement: list[float] = []
        self._scored: list[int] = []

    def add(self, user: int, found: _Answer, scores: npt.NDArray[np.float32] | None) -> None:
        """Add a user: the walk's answer, and the scores [N] of all items for brute force."""
        seen = np.zeros(self._dataset.num_items, bool)
        seen[self._dataset.seen(user) - 1] = True
        self._scored.append(found.items_scored)
        self._add_list("walk", user, found.ids)
        self._add_list("popularity", user, self._best(self._popularity, seen))
        if scores is not None:
            self._check_same_model(found, scores)
            best = self._best(scores, seen)
            self._add_list("brute_force", user, best)
            self._agreement.append(overlap([found.ids], [best]))

    def _best(self, scores: npt.NDArray[Any], seen: npt.NDArray[np.bool_]) -> IntArray:
        return top_k(scores, self._dataset.item_ids, self._options.k, seen)

    def _add_list(self, name: str, user: int, ids: IntArray) -> None:
        target = self._dataset.item_ids[self._dataset.target(user) - 1]
        self._hits[name].append(bool(target in ids))

    def _check_same_model(self, found: _Answer, scores: npt.NDArray[np.float32]) -> None:
        """Brute force takes the user's state from the run's model, the walk from the export's."""
        expected = scores[np.searchsorted(self._dataset.item_ids, found.ids)]
        tolerance = _SAME_SCORES * np.abs(expected).max(initial=0.0)
        if not np.allclose(found.scores, expected, rtol=0.0, atol=tolerance):
            raise InvalidInputError(
                f"{self._options.model_dir}: expected an export of the run's model as it is now, found "
                "another model's scores. Export the run again with `nann export`."
            )

    def result(self, walk: _Walk, skipped: int) -> Evaluation:
        """The figures over all users."""
        hits = {name: np.array(values, bool) for name, values in self._hits.items()}
        interval = paired_ratio_interval(hits["walk"], hits["popularity"], seed=self._options.seed)
        ratio, low, high = (value if math.isfinite(value) else None for value in interval)
        scored = float(np.mean(self._scored))
        brute_force = self._options.brute_force
        model_dir = self._options.model_dir
        return Evaluation(
            k=self._options.k,
            items=self._dataset.num_items,
            model=None if model_dir is None else str(model_dir),
            **walk.scorer,
            level_topn=tuple(walk.level_topn),
            users=len(self._scored),
            users_skipped=skipped,
            recall_walk=float(hits["walk"].mean()),
            recall_popularity=float(hits["popularity"].mean()),
            recall_brute_force=float(hits["brute_force"].mean()) if brute_force else None,
            agreement=float(np.mean(self._agreement)) if brute_force else None,
            items_scored_mean=scored,
            items_scored_share=scored / self._dataset.num_items,
            ratio=ratio,
            ratio_low=low,
            ratio_high=high,
        )
