"""What one training step sees: shuffled examples and sampled negatives, all a function of the step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nann.training._dataset import Dataset, IntArray, RowArray

HELD_OUT = 2
"""A user's last event is the test, the one before the validation; both are kept from training."""

_ORDER, _NEGATIVES = 1, 2


@dataclass(frozen=True)
class Batch:
    """One step's input.

    Attributes:
      history: int32 [B, L], item rows, oldest first, padded at the front with 0.
      targets: int32 [B], the item row that followed.
      negatives: int32 [S], sampled item rows, shared by the whole batch.
      target_log_counts: float32 [B], log of how often the sampler is expected to draw the target in S draws.
      negative_log_counts: float32 [S], the same of the negatives.
    """

    history: RowArray
    targets: RowArray
    negatives: RowArray
    target_log_counts: npt.NDArray[np.float32]
    negative_log_counts: npt.NDArray[np.float32]


class BatchSampler:
    """Every prefix of every user's training events is an example: its last event is the target.

    Negatives are drawn with replacement with probability proportional to (1 + popularity) ** power.
    `batch(step)` depends on nothing but the arguments of the constructor and the step, so that a training
    that was interrupted goes on exactly as if it had not been.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        negatives: int,
        popularity_power: float,
        sequence_length: int,
        seed: int,
    ) -> None:
        self._dataset = dataset
        self._negatives = negatives
        self._sequence_length = sequence_length
        self._seed = seed
        targets_per_user = dataset.lengths - HELD_OUT - 1
        self._users = np.repeat(np.arange(dataset.num_users), targets_per_user)
        first = np.cumsum(targets_per_user) - targets_per_user
        self._cuts = np.arange(len(self._users)) - np.repeat(first, targets_per_user) + 1
        self._batch_size = min(batch_size, max(1, len(self._users)))
        self._weigh(dataset, popularity_power)
        self._epoch = -1
        self._order: IntArray = np.empty(0, np.int64)

    def _weigh(self, dataset: Dataset, popularity_power: float) -> None:
        """How likely each row is drawn as a negative, and how often per step."""
        weights = (1.0 + dataset.popularity(HELD_OUT)) ** popularity_power
        weights[0] = 0.0
        self._cumulative = np.cumsum(weights / weights.sum())
        expected = self._negatives * weights / weights.sum()
        self._log_counts = np.log(np.maximum(expected, np.finfo(np.float32).tiny)).astype(np.float32)

    @property
    def examples(self) -> int:
        return len(self._users)

    @property
    def batch_size(self) -> int:
        """Examples a step; at most the number of examples there are."""
        return self._batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches; which examples are left over differs from epoch to epoch."""
        return self.examples // self._batch_size

    def batch(self, step: int) -> Batch:
        """The input of step number `step`, from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = np.random.default_rng((self._seed, _ORDER, epoch)).permutation(self.examples)
            self._epoch = epoch
        chosen = self._order[place * self._batch_size : (place + 1) * self._batch_size]
        users, cuts = self._users[chosen], self._cuts[chosen]
        targets = self._dataset.event_at(users, cuts)
        uniform = np.random.default_rng((self._seed, _NEGATIVES, step)).random(self._negatives)
        drawn = np.searchsorted(self._cumulative, uniform, side="right")
        negatives = np.minimum(drawn, self._dataset.num_items).astype(np.int32)
        return Batch(
            history=self._dataset.histories(users, cuts, self._sequence_length),
            targets=targets,
            negatives=negatives,
            target_log_counts=self._log_counts[targets],
            negative_log_counts=self._log_counts[negatives],
        )
