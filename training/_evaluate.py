"""`evaluate`: the walk against brute force with the same model and against popularity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.files import load_array, write_json
from nann.progress import OnProgress
from nann.run import EMBEDDINGS, load_model
from nann.training._dataset import Dataset, IntArray
from nann.training._run import read_run_dataset
from nann.training._walk import Walk
from nann.training.metrics import overlap, paired_ratio_interval, top_k
from nann.training.ranking import ItemScorer

EVALUATION_FILE = "evaluation.json"

_NEXT_STEP = "Write the embeddings with `nann embed`."


@dataclass(frozen=True)
class EvaluateOptions:
    """What to measure.

    Attributes:
      k: length of the lists.
      level_topn: the walk's beams; None is the index's default. The last value is replaced by `k`.
      brute_force: also score every item for every user, and compare.
      max_users: a random sample of this many users; 0 is all.
      seed: of the sample and the bootstrap.
    """

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


@dataclass(frozen=True)
class Evaluation:
    """What was measured. Recall is the share of users whose held-out event is in their list of k.

    Attributes:
      k, items, level_topn: as asked, and the size of the corpus.
      users: number of users measured.
      users_skipped: users whose held-out item is one they had seen before: no list may hold it.
      recall_walk, recall_popularity, recall_brute_force: None when not measured.
      agreement: mean share of brute force's list that the walk's list holds.
      items_scored_mean, items_scored_share: per request; the share is of the corpus.
      ratio, ratio_low, ratio_high: recall_walk / recall_popularity with its 95 % interval (paired
        bootstrap over users); None where it is not finite.
    """

    k: int
    items: int
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
    """Measure the run in `run_dir` on each user's last event and write `RUN/evaluation.json`.

    The model sees the events before the last. Items of the user's whole history are left out of all lists, at
    the final top k, as a request's `exclude_ids` are.

    Raises:
      InvalidFileError: the run has no embeddings or no index, or they are damaged or do not belong together.
      InvalidInputError: an option is out of range, or the data holds no user that can be measured.
    """
    options = options or EvaluateOptions()
    options.check()
    dataset = read_run_dataset(run_dir)
    item_ids, item_embs = _read_embeddings(run_dir, dataset)
    model = load_model(run_dir)
    scorer = ItemScorer(model, item_embs)
    walk = Walk(run_dir, model, level_topn=options.level_topn, k=options.k)
    users, skipped = _choose_users(dataset, options)
    lists = _Lists(dataset, item_ids, scorer, walk, options)
    for done, (user, state) in enumerate(zip(users, lists.states(users), strict=True), start=1):
        lists.add(int(user), state)
        if on_progress is not None:
            on_progress("evaluate", done, len(users))
    result = lists.result(users=len(users), skipped=skipped)
    write_json(run_dir / EVALUATION_FILE, result.to_json())
    return result


def _read_embeddings(run_dir: Path, dataset: Dataset) -> tuple[IntArray, npt.NDArray[Any]]:
    folder = run_dir / EMBEDDINGS
    item_ids = load_array(folder / "item_ids.npy", next_step=_NEXT_STEP)
    item_embs = load_array(folder / "item_embs.npy", next_step=_NEXT_STEP)
    if not np.array_equal(item_ids, dataset.item_ids):
        raise InvalidFileError(
            f"{folder / 'item_ids.npy'}: expected the {dataset.num_items} item ids of the run's data set, "
            f"found {len(item_ids)} others. Run `nann embed` again."
        )
    if item_embs.ndim != 2 or len(item_embs) != len(item_ids):
        raise InvalidFileError(
            f"{folder / 'item_embs.npy'}: expected [{len(item_ids)}, D], found {list(item_embs.shape)}. "
            "Run `nann embed` again."
        )
    return item_ids, item_embs


def _choose_users(dataset: Dataset, options: EvaluateOptions) -> tuple[IntArray, int]:
    """Positions of the users to measure, and how many were skipped for a held-out item seen before."""
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


class _Lists:
    """Collects, user by user, what the three ways of retrieving found."""

    def __init__(
        self, dataset: Dataset, item_ids: IntArray, scorer: ItemScorer, walk: Walk, options: EvaluateOptions
    ) -> None:
        self._dataset = dataset
        self._item_ids = item_ids
        self._scorer = scorer
        self._walk = walk
        self._options = options
        self._popularity = dataset.popularity(1)[1:].astype(np.float64)
        self._hits: dict[str, list[bool]] = {"walk": [], "popularity": [], "brute_force": []}
        self._agreement: list[float] = []
        self._scored: list[int] = []

    def states(self, users: IntArray) -> Any:
        """Iterate over the users' states."""
        length = self._scorer.sequence_length
        histories = self._dataset.histories(users, self._dataset.lengths[users] - 1, length)
        return self._scorer.states(self._dataset.features(histories))

    def add(self, user: int, state: dict[str, Any]) -> None:
        """Retrieve for one user in every way."""
        seen = self._dataset.seen(user)
        excluded = np.zeros(len(self._item_ids), bool)
        excluded[seen - 1] = True
        target = self._item_ids[self._dataset.target(user) - 1]
        found, scored = self._walk.search(state, self._item_ids[seen - 1])
        self._scored.append(scored)
        popular = top_k(self._popularity, self._item_ids, self._options.k, excluded)
        self._hits["walk"].append(bool(target in found))
        self._hits["popularity"].append(bool(target in popular))
        if self._options.brute_force:
            best = top_k(self._scorer.scores(state), self._item_ids, self._options.k, excluded)
            self._hits["brute_force"].append(bool(target in best))
            self._agreement.append(overlap(found, best))

    def result(self, *, users: int, skipped: int) -> Evaluation:
        """Sum up."""
        hits = {name: np.array(values, bool) for name, values in self._hits.items()}
        interval = paired_ratio_interval(hits["walk"], hits["popularity"], seed=self._options.seed)
        ratio, low, high = (value if math.isfinite(value) else None for value in interval)
        scored = float(np.mean(self._scored))
        brute_force = self._options.brute_force
        return Evaluation(
            k=self._options.k,
            items=len(self._item_ids),
            level_topn=self._walk.level_topn,
            users=users,
            users_skipped=skipped,
            recall_walk=float(hits["walk"].mean()),
            recall_popularity=float(hits["popularity"].mean()),
            recall_brute_force=float(hits["brute_force"].mean()) if brute_force else None,
            agreement=float(np.mean(self._agreement)) if brute_force else None,
            items_scored_mean=scored,
            items_scored_share=scored / len(self._item_ids),
            ratio=ratio,
            ratio_low=low,
            ratio_high=high,
        )
