"""What one training step sees: shuffled examples and sampled negatives, all a function of the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.training._dataset import Dataset, IntArray, RowArray
from nann.training.order import RandomOrder

_ORDER, _NEGATIVES, _BLOCK = 1, 2, 3
# Sequences of this many steps are sorted by length, so that a step pads its sequences little.
_STEPS_PER_BLOCK = 16
# Lengths, rows and examples of a step are multiples of these: few shapes, for each of which TensorFlow's
# kernels are prepared anew.
_LENGTH_UNIT, _ROW_UNIT, _EXAMPLE_UNIT = 8, 8, 64

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """One step's input: M examples that lie in R sequences.

    Attributes:
      users: int64 [R], positions in `Dataset.user_ids`.
      cuts: int64 [R], the number of the first event after each sequence; 0 where a sequence is padding.
      history: int32 [R, L], item rows, oldest first, padded at the front with 0.
      places: int32 [M], for each example the position of its newest event in the flattened `history`.
      targets: int32 [M], the item row that followed.
      weights: float32 [M], 1, or 0 where an example is padding.
      negatives: int32 [S], sampled item rows, shared by the whole batch.
      target_log_counts: float32 [M], log of how often the sampler is expected to draw the target in S draws.
      negative_log_counts: float32 [S], the same of the negatives.
    """

    users: IntArray
    cuts: IntArray
    history: RowArray
    places: RowArray
    targets: RowArray
    weights: Floats
    negatives: RowArray
    target_log_counts: Floats
    negative_log_counts: Floats


class NegativeSampler:
    """Draws item rows with replacement, with probability proportional to (1 + popularity) ** power.

    As many negatives as there are items, or more, stand for all items, each once: the loss is then that of
    the full softmax.
    """

    def __init__(self, dataset: Dataset, *, negatives: int, popularity_power: float, seed: int) -> None:
        self._seed = seed
        self._items = dataset.num_items
        self._negatives = negatives
        self.takes_all = negatives >= dataset.num_items
        weights = (1.0 + dataset.train_counts) ** popularity_power
        weights[0] = 0.0
        self._cumulative = np.cumsum(weights / weights.sum())
        expected = np.ones(len(weights)) if self.takes_all else negatives * weights / weights.sum()
        self._log_counts = np.log(np.maximum(expected, np.finfo(np.float32).tiny)).astype(np.float32)

    def draw(self, step: int) -> RowArray:
        """int32 [S]: the negatives of step number `step`."""
        if self.takes_all:
            return np.arange(1, self._items + 1, dtype=np.int32)
        uniform = np.random.default_rng((self._seed, _NEGATIVES, step)).random(self._negatives)
        drawn = np.searchsorted(self._cumulative, uniform, side="right")
        return np.minimum(drawn, self._items).astype(np.int32)

    def batch(self, step: int, *, targets: RowArray, **examples: Any) -> Batch:
        """These examples with the negatives of step number `step`."""
        negatives = self.draw(step)
        return Batch(
            **examples,
            targets=targets,
            negatives=negatives,
            target_log_counts=self._log_counts[targets],
            negative_log_counts=self._log_counts[negatives],
        )


class BatchSampler:
    """Every prefix of every user's training events is an example: its last event is the target.

    `batch(step)` depends on nothing but the arguments of the constructor and the step, so that a training
    that was interrupted goes on exactly as if it had not been. Memory grows with the users, not the examples.
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
        self._sequence_length = sequence_length
        self._seed = seed
        self._negatives = NegativeSampler(
            dataset, negatives=negatives, popularity_power=popularity_power, seed=seed
        )
        self._batch_size = min(batch_size, max(1, self.examples))

    @property
    def examples(self) -> int:
        return self._dataset.num_train_examples

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
        start = place * self._batch_size
        order = RandomOrder(self.examples, seed=(self._seed, _ORDER, epoch))
        chosen = order[start : start + self._batch_size]
        examples = self._dataset.train_examples(chosen)
        users, cuts = examples.users, examples.cuts
        length = self._sequence_length
        return self._negatives.batch(
            step,
            users=users,
            cuts=cuts,
            history=self._dataset.histories(users, cuts, length),
            places=(np.arange(1, len(users) + 1) * length - 1).astype(np.int32),
            targets=self._dataset.event_at(users, cuts),
            weights=np.ones(len(users), np.float32),
        )


class SequenceSampler:
    """The same examples, taken together where they share their history: one sequence has many.

    A sequence is a window of up to L + 1 training events of a user. Of each but a user's oldest window only
    the newer half is predicted, so that every prediction has L / 2 events before it, or all there are.
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
        self._length = sequence_length
        self._stride = max(1, sequence_length // 2)
        self._seed = seed
        self._negatives = NegativeSampler(
            dataset, negatives=negatives, popularity_power=popularity_power, seed=seed
        )
        self._first = dataset.split.first_target
        self._predicted = np.diff(dataset.split.train_splits)
        beyond = np.maximum(self._predicted - sequence_length, 0)
        # Where each user's windows end in the list of all.
        self._ends = np.cumsum((self._predicted > 0) + -(-beyond // self._stride))
        self._steps = max(1, min(self.examples // batch_size, int(self._ends[-1])))
        self._block: tuple[tuple[int, int], list[IntArray]] = ((-1, -1), [])

    @property
    def examples(self) -> int:
        return self._dataset.num_train_examples

    @property
    def batch_size(self) -> int:
        """Examples a step, on average."""
        return -(-self.examples // self._steps)

    @property
    def steps_per_epoch(self) -> int:
        return self._steps

    def batch(self, step: int) -> Batch:
        """The input of step number `step`, from 0."""
        users, lasts, counts = self._windows(self._windows_of_step(step))
        inputs = np.minimum(lasts, self._length)
        length = min(self._length, _rounded_up(int(inputs.max()), _LENGTH_UNIT))
        rows, examples = _rounded_up(len(users), _ROW_UNIT), _rounded_up(int(counts.sum()), _EXAMPLE_UNIT)
        padding = np.zeros(rows - len(users), np.int64)
        of_rows = np.append(users, padding), np.append(lasts, padding)
        # Event number `lasts` is what the last position of a sequence predicts.
        sequence = np.repeat(np.arange(len(users)), counts)
        back = np.arange(len(sequence)) - np.repeat(np.cumsum(counts) - counts, counts)
        places, targets = np.zeros(examples, np.int32), np.zeros(examples, np.int32)
        places[: len(sequence)] = sequence * length + length - 1 - back
        targets[: len(sequence)] = self._dataset.event_at(users[sequence], lasts[sequence] - back)
        return self._negatives.batch(
            step,
            users=of_rows[0],
            cuts=of_rows[1],
            history=self._dataset.histories(*of_rows, length),
            places=places,
            targets=targets,
            weights=(np.arange(examples) < len(sequence)).astype(np.float32),
        )

    def _windows(self, numbers: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Users, the number of the last event that is predicted, and how many are, of windows by number."""
        users = np.searchsorted(self._ends, numbers, side="right")
        back = self._ends[users] - 1 - numbers
        left = self._predicted[users] - back * self._stride
        oldest = numbers == np.append(0, self._ends)[users]
        return users, self._first + left - 1, np.where(oldest, left, self._stride)

    def _windows_of_step(self, step: int) -> IntArray:
        epoch, place = divmod(step, self._steps)
        blocks = -(-self._steps // _STEPS_PER_BLOCK)
        first_steps = np.arange(blocks + 1) * self._steps // blocks
        block = int(np.searchsorted(first_steps, place, side="right")) - 1
        if self._block[0] != (epoch, block):
            count = int(first_steps[block + 1] - first_steps[block])
            self._block = ((epoch, block), self._parts(epoch, first_steps[block : block + 2], count))
        return self._block[1][place - int(first_steps[block])]

    def _parts(self, epoch: int, steps: IntArray, count: int) -> list[IntArray]:
        """The windows of a block, sorted by length and cut into `count` parts of as many examples each."""
        windows = int(self._ends[-1])
        start, end = (steps * windows // self._steps).tolist()
        numbers = RandomOrder(windows, seed=(self._seed, _ORDER, epoch))[start:end]
        _, lasts, counts = self._windows(numbers)
        order = np.argsort(np.minimum(lasts, self._length), kind="stable")
        reached = np.cumsum(counts[order])
        cuts = np.searchsorted(reached, np.arange(1, count) * reached[-1] / count)
        # Each part has a window at least.
        cuts = np.maximum.accumulate(np.maximum(cuts, 1) - np.arange(count - 1)) + np.arange(count - 1)
        cuts = np.minimum(cuts, len(numbers) - np.arange(count - 1, 0, -1))
        parts = np.split(numbers[order], cuts)
        shuffle = np.random.default_rng((self._seed, _BLOCK, epoch, start)).permutation(count)
        return [parts[part] for part in shuffle]


def _rounded_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit
