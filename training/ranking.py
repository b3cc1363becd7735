"""Scoring many items for many users, without the index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.training._dataset import Dataset, IntArray
from nann.training._features import UserFeatures
from nann.training._splits import Examples

Scores = npt.NDArray[np.float32]

_TILE = 4096
_USERS_AT_ONCE = 256


class ItemScorer:
    """Scores given item embeddings for one user at a time.

    Args:
      model: anything with the retrieval model's `embed_user` and `score`.
      item_embs: float32 or float16 [n, D].
    """

    def __init__(self, model: Any, item_embs: npt.NDArray[Any]) -> None:
        self.item_embs = item_embs
        batch = {
            name: tf.TensorSpec([None, *spec.shape], spec.dtype, name)
            for name, spec in model.user_features.items()
        }
        items = tf.TensorSpec([None, model.embedding_dim], tf.float32)
        self._embed = tf.function(model.embed_user, input_signature=[batch])
        self._score = tf.function(model.score, input_signature=[dict(model.user_state), items])

    def states(self, features: Mapping[str, npt.NDArray[Any]]) -> Iterator[dict[str, tf.Tensor]]:
        """User features [B, ...] -> one user's state after the other."""
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


def states_before(model: Any, dataset: Dataset, examples: Examples) -> Iterator[dict[str, tf.Tensor]]:
    """The state of the user of each example before the event that is to be found."""
    scorer = ItemScorer(model, np.empty((0, model.embedding_dim), np.float32))
    return scorer.states(UserFeatures(dataset, model.user_features).before(examples.users, examples.cuts))


def states_before_last_event(model: Any, dataset: Dataset, users: IntArray) -> Iterator[dict[str, tf.Tensor]]:
    """The state of each of `users`, positions in `dataset.user_ids`, before the user's last event."""
    return states_before(model, dataset, Examples(users, dataset.lengths[users] - 1))
