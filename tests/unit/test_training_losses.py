"""Losses against plain NumPy, and the optimizer of rows against a dense one."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nann.training._losses import corrected, divergence, loss_of_examples
from nann.training._optimizer import RowwiseAdamW, learning_rate


def _logits(seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(4, 6)).astype(np.float32)


def test_the_correction_takes_expected_counts_and_accidental_hits_out() -> None:
    scores, own, others = _logits(), np.log([1.0, 2.0, 3.0, 4.0]), np.log([1.0, 2.0, 3.0, 4.0, 5.0])
    hits = np.zeros((4, 5), bool)
    hits[2, 3] = True
    found = corrected(scores, hits, own.astype(np.float32), others.astype(np.float32)).numpy()
    expected = scores - np.concatenate([own[:, None], np.tile(others, (4, 1))], axis=1)
    assert found[2, 4] < -1e8
    found[2, 4] = expected[2, 4]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_sampled_softmax_over_all_items_is_the_softmax() -> None:
    """Each item once, the target among them as an accidental hit."""
    logits = _logits()
    targets = np.array([3, 0, 5, 1])
    scores = np.concatenate([logits[np.arange(4), targets][:, None], logits], axis=1)
    hits = targets[:, None] == np.arange(6)
    zeros = np.zeros(6, np.float32)
    found = loss_of_examples("softmax", corrected(scores, hits, zeros[:4], zeros)).numpy()
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(4), targets]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_binary_loss_is_the_cross_entropy_of_each_pair() -> None:
    logits = _logits()
    probabilities = 1 / (1 + np.exp(-logits))
    expected = -np.log(probabilities[:, 0]) - np.log(1 - probabilities[:, 1:]).sum(axis=1)
    np.testing.assert_allclose(loss_of_examples("bce", logits), expected, rtol=1e-5)


def test_divergence_is_zero_of_equal_scores_and_positive_of_others() -> None:
    logits = _logits()
    np.testing.assert_allclose(divergence(logits, logits + 3.0), np.zeros(4), atol=1e-5)
    assert (divergence(logits, _logits(1)).numpy() > 0).all()


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_the_learning_rate_rises_and_then_follows_its_schedule(kind: Any) -> None:
    rates = [learning_rate(kind, 0.5, step, total=100, warm_up=10) for step in range(100)]
    assert rates[:10] == pytest.approx([0.05 * step for step in range(1, 11)])
    assert max(rates) == 0.5
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[9:]))
    assert rates[-1] == 0.5 if kind == "constant" else rates[-1] < 0.02


def _table(rows: int = 6) -> keras.Variable:
    return keras.Variable(np.random.default_rng(1).normal(size=(rows, 3)).astype(np.float32), name="table")


def test_rows_with_a_gradient_change_as_in_keras_adamw_and_others_not_at_all() -> None:
    ours, theirs = _table(), _table()
    before = theirs.numpy()
    optimizer = RowwiseAdamW([ours], weight_decay=0.1, clip_norm=0.0)
    keras_optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.1, epsilon=1e-8)
    keras_optimizer.build([theirs])
    for seed in range(3):
        # Row 4 stands twice: both of its gradients count.
        values = np.random.default_rng(seed).normal(size=(3, 3)).astype(np.float32)
        slices = tf.IndexedSlices(tf.constant(values), tf.constant([4, 1, 4]), tf.constant([6, 3]))
        optimizer.apply([slices], tf.constant(0.01))
        keras_optimizer.apply([tf.convert_to_tensor(slices)])
    touched = [1, 4]
    np.testing.assert_allclose(ours.numpy()[touched], theirs.numpy()[touched], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(ours.numpy()[[0, 2, 3, 5]], before[[0, 2, 3, 5]])


def test_gradients_are_clipped_together_without_becoming_dense() -> None:
    table, weight = _table(), keras.Variable(np.ones((2, 2), np.float32), name="kernel")
    optimizer = RowwiseAdamW([table, weight], weight_decay=0.0, clip_norm=1.0)
    slices = tf.IndexedSlices(tf.fill([1, 3], 30.0), tf.constant([2]), tf.constant([6, 3]))
    optimizer.apply([slices, tf.fill([2, 2], 40.0)], tf.constant(0.01))
    norm = np.sqrt(3 * 30.0**2 + 4 * 40.0**2)
    state = {name: variable.numpy() for name, variable in optimizer.checkpointed().items()}
    np.testing.assert_allclose(state["first 0"][2], 0.1 * 30.0 / norm, rtol=1e-5)
    assert not state["first 0"][[0, 1, 3, 4, 5]].any()
    np.testing.assert_allclose(state["first 1"], 0.1 * 40.0 / norm, rtol=1e-5)
