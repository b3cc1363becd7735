"""Scoring many items for many users, without the index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.training._dataset import Dataset, IntArray

Scores = npt.NDArray[np.float32]

_TILE = 4096
_USERS_AT_ONCE = 256
_VALIDATION_USERS = 500
_VALIDATION_ITEMS = 2000
_SAMPLE = 3


class ItemScorer:
    """Scores given item embeddings for one user at a time.

    Args:
      model: anything with the retrieval model's `embed_user` and `score`.
      item_embs: float32 or float16 [n, D].
    """

    def __init__(self, model: Any, item_embs: npt.NDArray[Any]) -> None:
        self.item_embs = item_embs
        self.sequence_length = int(model.user_features["item_ids"].shape[0])
        batch = {
            name: tf.TensorSpec([None, *spec.shape], spec.dtype, name)
            for name, spec in model.user_features.items()
        }
        items = tf.TensorSpec([None, model.embedding_dim], tf.float32)
        self._embed = tf.function(model.embed_user, input_signature=[batch])
        self._score = tf.function(model.score, input_signature=[dict(model.user_state), items])

    def states(self, features: dict[str, IntArray]) -> Iterator[dict[str, tf.Tensor]]:
        """int64 [B, L] each -> one user's state after the other."""
        count = len(next(iter(features.values())))
        for start in range(0, count, _USERS_AT_ONCE):
            part = {
                name: tf.convert_to_tensor(rows[start : start + _USERS_AT_ONCE])
                for name, rows in features.items()
            }
            states = self._embed(part)
            for user in range(min(_USERS_AT_ONCE, count - start)):
                yield {name: tensor[user] for name, tensor in states.items()}

    def scores(self, state: dict[str, tf.Tensor], positions: npt.NDArray[Any]) -> Scores:
        """float32 [n]: the user's scores of the items at `positions`."""
        wanted = self.item_embs[positions]
        tiles = [
            self._score(state, tf.convert_to_tensor(wanted[start : start + _TILE].astype(np.float32)))
            for start in range(0, len(wanted), _TILE)
        ]
        return np.concatenate([tile.numpy() for tile in tiles])


def states_before_last_event(model: Any, dataset: Dataset, users: IntArray) -> Iterator[dict[str, tf.Tensor]]:
    """The state of each of `users`, positions in `dataset.user_ids`, before the user's last event."""
    scorer = ItemScorer(model, np.empty((0, model.embedding_dim), np.float32))
    histories = dataset.histories(users, dataset.lengths[users] - 1, scorer.sequence_length)
    return scorer.states(dataset.features(histories))


def item_features(dataset: Dataset, rows: IntArray) -> dict[str, tf.Tensor]:
    """The model's item features int64 [n] each, of the items with `rows` (1-based) of `dataset`."""
    return {
        "item_ids": tf.convert_to_tensor(rows),
        "cate_ids": tf.convert_to_tensor(dataset.item_cates[rows]),
    }


class SampledRecall:
    """A quick recall@k for the log of a training: some users, some items.

    Each of up to 500 users' event number `back` from the end is ranked among up to 2,000 items drawn at
    random (all, when there are no more), without those of the user's history.
    """

    def __init__(self, model: Any, dataset: Dataset, *, back: int, seed: int, k: int = 50) -> None:
        rng = np.random.default_rng((seed, _SAMPLE))
        users = np.sort(rng.permutation(dataset.num_users)[:_VALIDATION_USERS])
        cuts = dataset.lengths[users] - back
        self._k = k
        self._model = model
        self._dataset = dataset
        self._scorer = ItemScorer(model, np.empty((0, model.embedding_dim), np.float32))
        self._rows = np.sort(rng.permutation(dataset.num_items)[:_VALIDATION_ITEMS]) + 1
        self._targets = dataset.event_at(users, cuts)
        histories = dataset.histories(users, cuts, self._scorer.sequence_length)
        self._features = dataset.features(histories)
        starts = dataset.row_splits[users]
        # bool [users, items]: what a user has seen, and the target, which has a place of its own.
        self._left_out = np.stack(
            [
                np.isin(self._rows, np.append(dataset.events[start : start + cut], target))
                for start, cut, target in zip(starts, cuts, self._targets, strict=True)
            ]
        )

    def measure(self) -> dict[str, Any]:
        """Measure the model as it is now."""
        rows = np.concatenate([self._rows, self._targets]).astype(np.int64)
        self._scorer.item_embs = self._model.embed_item(item_features(self._dataset, rows)).numpy()
        candidates = np.arange(len(self._rows))
        hits = 0
        for number, state in enumerate(self._scorer.states(self._features)):
            scores = self._scorer.scores(state, np.append(candidates, len(candidates) + number))
            better = scores[:-1][~self._left_out[number]] > scores[-1]
            hits += int(better.sum() < self._k)
        return {
            f"validation_recall_at_{self._k}": round(hits / len(self._targets), 6),
            "validation_items": len(candidates),
        }
