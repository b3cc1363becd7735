"""Events that a user masks are not computed: the native executor's scores stay those of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import nann.ops
from nann.export.constants import freeze
from nann.export.scorer._lower import lower
from nann.export.scorer.split import whole_scorer
from support.graphs import DIM, random_corpus

EVENTS, TILE_ROWS, ITEMS = 7, 8, 50
_RANDOM = np.random.default_rng(5)
_WEIGHTS = {
    n: _RANDOM.normal(size=(n, 6)).astype(np.float32) / n**0.5 for n in (DIM, 2 * DIM, (EVENTS + 1) * DIM)
}
_OUT = _RANDOM.normal(size=(6, 1)).astype(np.float32)

Score = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


def _network(x: tf.Tensor) -> tf.Tensor:
    return (tf.nn.relu(x @ _WEIGHTS[x.shape[-1]]) @ _OUT)[:, 0]


def _pairs(events: tf.Tensor, mask: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """DIN: a network on every pair of event and item, whose weights the mask multiplies."""
    pairs = tf.reshape(items[:, tf.newaxis] * events, [-1, DIM])
    weights = tf.reshape(tf.nn.sigmoid(_network(pairs)), [-1, EVENTS]) * mask
    return _network(tf.concat([weights @ events, items], 1))


def _attention(masked: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Score:
    def score(events: tf.Tensor, mask: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        logits = tf.matmul(items, events, transpose_b=True)
        return _network(tf.concat([tf.nn.softmax(masked(logits, mask)) @ events, items], 1))

    return score


def _sequence(events: tf.Tensor, mask: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """BST: self-attention of events and item, of which all rows are read."""
    events = tf.tile(events[tf.newaxis], [items.shape[0], 1, 1])
    x = tf.concat([events, items[:, tf.newaxis]], 1)
    there = tf.concat([mask, tf.ones([1])], 0)
    logits = tf.matmul(x, tf.tanh(x), transpose_b=True)
    x += tf.nn.softmax(tf.where(there > 0, logits, -1e9)) @ x
    return _network(tf.reshape(x * there[:, tf.newaxis], [-1, (EVENTS + 1) * DIM]))


SCORES: dict[str, Score] = {
    "pairs": _pairs,
    "where": _attention(lambda logits, mask: tf.where(mask > 0, logits, -1e9)),
    "infinity": _attention(lambda logits, mask: tf.where(mask > 0, logits, -np.inf)),
    "missing": _attention(lambda logits, mask: tf.where(mask < 1, np.float32(-(2.0**32)), logits)),
    "added": _attention(lambda logits, mask: logits + (1 - mask) * -1e9),
    "subtracted": _attention(lambda logits, mask: logits - (1 - mask) * 1e9),
    "little": _attention(lambda logits, mask: logits - (1 - mask) * 3),
    "sequence": _sequence,
}


class _Scorer:
    """A scorer by both executors."""

    def __init__(self, function: Score, folder: Path) -> None:
        signature = [tf.TensorSpec([EVENTS, DIM]), tf.TensorSpec([EVENTS]), tf.TensorSpec([TILE_ROWS, DIM])]
        traced = tf.function(function, input_signature=signature, autograph=False)
        self._frozen = freeze(traced.get_concrete_function(), what="score")
        self._program = lower(whole_scorer(self._frozen)).to_bytes()
        corpus = random_corpus(3, num_items=ITEMS, degree=8, sparsity=0.0)
        self._index = nann.ops.IndexResource(**corpus.write(folder))

    def scores(self, user: list[Any], *, native: bool) -> Any:
        positions = np.arange(ITEMS, dtype=np.int32)[np.newaxis]
        options = {"program": self._program} if native else {}
        scorer = {"scorer": self._frozen, "tile_rows": TILE_ROWS, **options}
        return nann.ops.score_items(self._index, user, positions, **scorer).numpy()[0]


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, _Scorer]:
    return {name: _Scorer(score, tmp_path_factory.mktemp(name)) for name, score in SCORES.items()}


@pytest.mark.parametrize("name", SCORES)
@settings(max_examples=25, deadline=None)
@given(
    mask=st.lists(st.booleans(), min_size=EVENTS, max_size=EVENTS),
    seed=st.integers(0, 99),
    zeros=st.booleans(),
)
def test_masked_events_change_no_score(
    scorers: dict[str, _Scorer], name: str, mask: list[bool], seed: int, zeros: bool
) -> None:
    """zeros: whether masked events are rows of zeros, as an embedding's mask leaves them."""
    events = np.random.default_rng(seed).normal(size=(EVENTS, DIM)).astype(np.float32)
    there = np.asarray(mask, np.float32)
    user = [(events * there[:, np.newaxis] if zeros else events)[np.newaxis], there[np.newaxis]]
    expected = scorers[name].scores(user, native=False)
    found = scorers[name].scores(user, native=True)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))  # All masked by an infinity.
    np.testing.assert_allclose(
        found, expected, atol=1e-5 * max(1.0, np.nanmax(np.abs(expected), initial=0.0))
    )


@pytest.mark.parametrize("name", ["pairs", "where", "sequence"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_a_mask_does_not_take_away_stays(scorers: dict[str, _Scorer], name: str, number: float) -> None:
    events = np.random.default_rng(1).normal(size=(1, EVENTS, DIM)).astype(np.float32)
    events[0, 2] = number
    there = np.asarray([[1, 1, 0, 1, 0, 0, 1]], np.float32)
    expected = scorers[name].scores([events, there], native=False)
    assert np.isnan(expected).all()
    assert np.isnan(scorers[name].scores([events, there], native=True)).all()
