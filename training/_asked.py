"""Asking an export for the data set's users, as they were before the event to be found."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export.agreement import score_every_item
from nann.export.loaded import LoadedModel
from nann.export.manifest import describe_scorer, read_manifest
from nann.run import load_model
from nann.training._dataset import Dataset, IntArray
from nann.training._features import UserFeatures
from nann.training._splits import Examples
from nann.training.ranking import states_before


def choose_users(dataset: Dataset, *, most: int, seed: int) -> tuple[Examples, int]:
    """Test examples to measure, and how many were skipped because their users had the held-out item.

    most: how many are drawn at random; 0 takes all. Raises InvalidInputError when all are skipped.
    """
    examples = dataset.split.test
    if 0 < most < len(examples):
        examples = _some(examples, np.sort(np.random.default_rng(seed).permutation(len(examples))[:most]))
    new = np.array(
        [target_of(dataset, *pair) not in dataset.before(*pair) for pair in examples.pairs()], bool
    )
    if not new.any():
        raise InvalidInputError(
            f"{dataset.source}: expected users whose held-out item is new to them, found none among "
            f"{len(examples)}. Measure more users, or use other data."
        )
    return _some(examples, np.flatnonzero(new)), int((~new).sum())


def _some(examples: Examples, places: IntArray) -> Examples:
    return Examples(examples.users[places], examples.cuts[places])


def target_of(dataset: Dataset, user: int, cut: int) -> int:
    """The item row of event number `cut` of a user."""
    return int(dataset.events[dataset.row_splits[user] + cut])


@dataclass(frozen=True)
class Answer:
    """The walk's answer for one user, without padding: ids and scores [<= k], best first."""

    ids: IntArray
    scores: npt.NDArray[np.float32]
    items_scored: int
    milliseconds: float


class AskedExport:
    """An export, asked by the ids of a user's events.

    scorer: executor, precision and walk by name.
    """

    def __init__(self, model: LoadedModel, model_dir: Path, dataset: Dataset) -> None:
        manifest = read_manifest(model_dir)
        features = manifest["model"]["user_features"]
        specs = {name: tf.TensorSpec(each["shape"], each["dtype"], name) for name, each in features.items()}
        self.scorer = describe_scorer(manifest)
        self._model = model
        self._dataset = dataset
        self._features = UserFeatures(dataset, specs)

    def search(self, user: int, cut: int, level_topn: Sequence[int]) -> Answer:
        """The answer for the user at this position of the data set, before event number `cut`."""
        inputs = {
            **self._features.sent(Examples(np.array([user]), np.array([cut]))),
            "level_topn": np.array([level_topn], np.int32),
            "exclude_ids": self._dataset.item_ids[self._dataset.before(user, cut) - 1][np.newaxis],
        }
        started = time.perf_counter()
        outputs = self._model.run("retrieve_by_ids", inputs)
        millis = 1e3 * (time.perf_counter() - started)
        ids, scores = outputs["top_k"][0], outputs["scores"][0]
        return Answer(ids[ids != -1], scores[ids != -1], int(outputs["items_scored"][0]), millis)


def scores_of_users(
    run_dir: Path, model: LoadedModel, dataset: Dataset, examples: Examples
) -> Iterator[npt.NDArray[np.float32]]:
    """float32 [N] for one example after another: the export's scores of all items of the data set."""
    for state in states_before(load_model(run_dir), dataset, examples):
        flat = {name: tensor.numpy().reshape(1, -1) for name, tensor in state.items()}
        yield score_every_item(model.run, flat, dataset.item_ids)[0]


def seen_items(dataset: Dataset, user: int, cut: int) -> npt.NDArray[np.bool_]:
    """bool [N]: the items that the user had before event number `cut`, which lists leave out."""
    seen = np.zeros(dataset.num_items, bool)
    seen[dataset.before(user, cut) - 1] = True
    return seen
