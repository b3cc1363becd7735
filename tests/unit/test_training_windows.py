"""Sequences as a step sees them: the same examples as prefixes, each once an epoch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from nann.training import Dataset, load_source
from nann.training._sampling import BatchSampler, SequenceSampler


def _data(events: int = 10) -> Dataset:
    return load_source(f"synthetic:items=90,users=30,events={events},seed=2")


def _sampler(kind: Any, data: Dataset, *, batch_size: int, length: int, seed: int = 0) -> Any:
    return kind(
        data, batch_size=batch_size, negatives=5, popularity_power=0.5, sequence_length=length, seed=seed
    )


def _examples(sampler: Any, context: int, epoch: int = 0) -> Counter[tuple[int, ...]]:
    """The last `context` events before each target, and the target, of all examples of an epoch."""
    shown: Counter[tuple[int, ...]] = Counter()
    for step in range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch):
        batch = sampler.batch(step)
        length = batch.history.shape[1]
        for place, target, weight in zip(batch.places, batch.targets, batch.weights, strict=True):
            if weight:
                row, column = divmod(int(place), length)
                history = batch.history[row, : column + 1].tolist()
                shown[(*([0] * context + history)[-context:], int(target))] += 1
    return shown


@pytest.mark.parametrize(("events", "length"), [(10, 20), (28, 8), (28, 9)])
@pytest.mark.parametrize("batch_size", [1, 7, 64, 10_000])
def test_an_epoch_shows_the_examples_of_the_prefixes_once(events: int, length: int, batch_size: int) -> None:
    """Compared by the events that every example has: half of the length, where sequences are cut."""
    data = _data(events)
    context = length // 2
    prefixes = _examples(_sampler(BatchSampler, data, batch_size=1, length=length), context)
    sequences = _sampler(SequenceSampler, data, batch_size=batch_size, length=length)
    assert _examples(sequences, context) == prefixes
    assert sequences.examples == sum(prefixes.values())
    assert _examples(sequences, context, epoch=1) == prefixes


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    data = _data()
    ahead, direct = (_sampler(SequenceSampler, data, batch_size=20, length=8) for _ in range(2))
    last = 2 * ahead.steps_per_epoch - 1
    for step in range(last + 1):
        batch = ahead.batch(step)
    again = direct.batch(last)
    for name, values in vars(batch).items():
        assert np.array_equal(values, getattr(again, name)), name
    other = _sampler(SequenceSampler, data, batch_size=20, length=8, seed=1).batch(last)
    assert batch.targets.shape != other.targets.shape or (batch.targets != other.targets).any()


def test_steps_have_as_many_examples_as_each_other_and_little_padding() -> None:
    data = load_source("synthetic:items=300,users=400,events=20,seed=3")
    sampler = _sampler(SequenceSampler, data, batch_size=500, length=50)
    batches = [sampler.batch(step) for step in range(sampler.steps_per_epoch)]
    counts = [batch.weights.sum() for batch in batches]
    assert max(counts) - min(counts) <= 60  # Two sequences of the longest.
    padded = sum(batch.history.size for batch in batches)
    assert padded < 1.5 * sum((batch.history > 0).sum() for batch in batches)


def test_as_many_negatives_as_items_are_all_items_once() -> None:
    data = _data()
    sampler = SequenceSampler(
        data, batch_size=20, negatives=90, popularity_power=0.5, sequence_length=8, seed=0
    )
    batch = sampler.batch(3)
    assert batch.negatives.tolist() == list(range(1, 91))
    assert not batch.negative_log_counts.any()
    assert not batch.target_log_counts.any()
