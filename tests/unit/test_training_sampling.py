"""What a training step sees."""

from __future__ import annotations

import numpy as np
import pytest

from nann.training import Dataset, load_source
from nann.training._sampling import BatchSampler

# A user's last event is the test, the one before the validation; both are kept from training.
HELD_OUT = 2


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_source("synthetic:items=60,users=20,events=10,seed=2")


def _sampler(data: Dataset, *, batch_size: int = 7, negatives: int = 5, seed: int = 0) -> BatchSampler:
    return BatchSampler(
        data,
        batch_size=batch_size,
        negatives=negatives,
        popularity_power=0.75,
        sequence_length=4,
        seed=seed,
    )


def test_an_epoch_shows_every_prefix_once_and_no_held_out_event(data: Dataset) -> None:
    expected = set()
    for user in range(data.num_users):
        events = data.events[data.row_splits[user] : data.row_splits[user + 1]].tolist()
        for cut in range(1, len(events) - HELD_OUT):
            history = ([0] * 4 + events[:cut])[-4:]
            expected.add((*history, events[cut]))
    sampler = _sampler(data, batch_size=1)
    shown = []
    for step in range(sampler.steps_per_epoch):
        batch = sampler.batch(step)
        shown.append((*batch.history[0].tolist(), int(batch.targets[0])))
    assert len(shown) == sampler.examples
    assert set(shown) == expected


def test_a_batch_is_a_function_of_seed_and_step(data: Dataset) -> None:
    ahead, direct = _sampler(data), _sampler(data)
    for step in range(2 * ahead.steps_per_epoch):
        last = ahead.batch(step)
    again = direct.batch(2 * ahead.steps_per_epoch - 1)
    assert np.array_equal(last.history, again.history)
    assert np.array_equal(last.negatives, again.negatives)
    other = _sampler(data, seed=1).batch(2 * ahead.steps_per_epoch - 1)
    assert not np.array_equal(last.history, other.history)


def test_log_counts_are_the_expected_counts_of_the_draws(data: Dataset) -> None:
    sampler = _sampler(data, batch_size=64, negatives=50)
    counts = np.zeros(data.num_items + 1)
    expected: dict[int, float] = {}
    steps = 2000
    for step in range(steps):
        batch = sampler.batch(step)
        np.add.at(counts, batch.negatives, 1)
        expected.update(
            zip(batch.negatives.tolist(), np.exp(batch.negative_log_counts).tolist(), strict=True)
        )
        for target, log_count in zip(batch.targets.tolist(), batch.target_log_counts.tolist(), strict=True):
            assert expected.setdefault(target, np.exp(log_count)) == pytest.approx(np.exp(log_count))
    assert counts[0] == 0, "row 0 is no item"
    assert sum(expected.values()) == pytest.approx(50, rel=1e-4)
    rows = np.array(sorted(expected))
    assert counts[rows] / steps == pytest.approx(np.array([expected[row] for row in rows.tolist()]), rel=0.15)


def test_the_batch_is_no_larger_than_the_data(data: Dataset) -> None:
    sampler = _sampler(data, batch_size=10_000)
    assert sampler.batch_size == sampler.examples
    assert sampler.steps_per_epoch == 1
