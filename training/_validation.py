"""A quick recall for the log of a training, by which the best epoch is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.training._dataset import Dataset
from nann.training._features import ItemFeatures, UserFeatures
from nann.training._trainable import embedded_items, score_each

# With 2,000 users the standard error of a recall of 0.2 is 0.009; that of the difference of two epochs,
# on the same users, is less.
_USERS = 2000
_ITEMS = 2000
_CUTOFFS = (10, 50)
_SAMPLE = 3
# Users times items that are scored at a time: some 100 MB of a scoring network's activations.
_PAIRS_AT_ONCE = 2**18

BEST_BY = f"validation_recall_at_{_CUTOFFS[0]}"
"""The key of the figure, in an epoch's entry, by which epochs are compared."""


class SampledRecall:
    """Recall of users' validation events, ranked among some items.

    Up to 2,000 users; up to 2,000 items drawn at random (all, when there are no more), without those of the
    user's history.
    """

    def __init__(self, model: Any, dataset: Dataset, *, seed: int) -> None:
        rng = np.random.default_rng((seed, _SAMPLE))
        held_out = dataset.split.validation
        if not len(held_out):
            raise InvalidInputError(
                f"{dataset.source}: expected users to validate with, found none. Prepare the data again with "
                f"--validation-users of 1 or more."
            )
        chosen = np.sort(rng.permutation(len(held_out))[:_USERS])
        users, cuts = held_out.users[chosen], held_out.cuts[chosen]
        self._model = model
        self._dataset = dataset
        self._features = UserFeatures(dataset, model.user_features)
        self._item_features = ItemFeatures(dataset, model)
        self._rows = np.sort(rng.permutation(dataset.num_items)[:_ITEMS]) + 1
        self._targets = dataset.event_at(users, cuts)
        self._users, self._cuts = users, cuts
        self._items = tf.function(lambda features: embedded_items(model, features), reduce_retracing=True)
        self._better = tf.function(self._count_better, reduce_retracing=True, autograph=False)

    def measure(self) -> dict[str, Any]:
        """Measure the model as it is now: `validation_recall_at_{k}` and the number of items."""
        shared = self._items(self._item_features.of(self._rows))
        own = self._items(self._item_features.of(self._targets))
        at_once = max(1, _PAIRS_AT_ONCE // len(self._rows))
        better = np.concatenate(
            [
                self._better_of(slice(start, start + at_once), own[start : start + at_once], shared)
                for start in range(0, len(self._users), at_once)
            ]
        )
        recalls = {f"validation_recall_at_{k}": round(float((better < k).mean()), 6) for k in _CUTOFFS}
        return {**recalls, "validation_items": len(self._rows)}

    def _better_of(self, part: slice, own: tf.Tensor, shared: tf.Tensor) -> Any:
        users, cuts = self._users[part], self._cuts[part]
        features = {name: tf.constant(v) for name, v in self._features.before(users, cuts).items()}
        # bool [users, items]: what a user has seen, and the target, which has a place of its own.
        left_out = np.stack(
            [
                np.isin(self._rows, np.append(self._dataset.before(user, cut), target))
                for user, cut, target in zip(users, cuts, self._targets[part], strict=True)
            ]
        )
        return self._better(features, own, shared, tf.constant(left_out)).numpy()

    def _count_better(
        self, features: dict[str, tf.Tensor], own: tf.Tensor, shared: tf.Tensor, left_out: tf.Tensor
    ) -> tf.Tensor:
        """int64 [B]: how many items are ranked before each user's own."""
        scores = score_each(self._model, self._model.embed_user(features), own, shared, training=False)
        # Not "greater": a model whose scores are all equal, or NaN, finds nothing.
        before = ~(scores[:, 1:] < scores[:, :1]) & ~left_out
        return tf.math.count_nonzero(before, axis=1)
