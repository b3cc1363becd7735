"""A `score` that is written for a batch of pairs, as the model declares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export.scorer import freeze_scorer
from nann.export.scorer.scorer import scores_of

L, D, TILE = 3, 4, 7


class _Batch:
    """[B, L, D] events and [B, D] items to [B, 1]; `shape` changes the last."""

    user_state = {"events": tf.TensorSpec([L, D], tf.float32), "bonus": tf.TensorSpec([], tf.float32)}  # noqa: RUF012
    embedding_dim = D
    batch_score = True

    def __init__(self, shape: Any = (-1, 1)) -> None:
        self._shape = shape

    def score(self, user_state: Any, item_embs: Any, item_state: Any = None) -> Any:
        assert user_state["events"].shape == [item_embs.shape[0], L, D]
        products = tf.einsum("bld,bd->b", user_state["events"], item_embs)
        bias = 0.0 if item_state is None else item_state["bias"]
        return tf.reshape(products + user_state["bonus"] + bias, self._shape)


def _inputs() -> tuple[Any, Any, Any]:
    random = np.random.default_rng(0)
    events, embs = random.normal(size=(L, D)), random.normal(size=(TILE, D))
    return *(tf.constant(each, tf.float32) for each in (events, embs)), np.einsum(
        "ld,bd->b", events, embs
    ) + 2


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_the_exporter_repeats_the_user(shape: Any) -> None:
    events, embs, expected = _inputs()
    scorer = freeze_scorer(_Batch(shape), tile_rows=TILE)
    found = np.reshape(scorer.function(events, tf.constant(2.0), embs), -1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    broadcasts = [node for node in scorer.function.graph.as_graph_def().node if node.op == "BroadcastTo"]
    assert len(broadcasts) == 2


def test_item_state_is_that_of_each_pair() -> None:
    events, embs, expected = _inputs()
    bias = tf.range(float(TILE))
    found = scores_of(_Batch((-1,)), {"events": events, "bonus": tf.constant(2.0)}, embs, {"bias": bias})
    np.testing.assert_allclose(found, expected + bias, rtol=1e-5)


def test_nothing_is_guessed() -> None:
    """A model for one user that returns a column is told so."""
    model = _Batch()
    model.batch_score = False
    model.score = lambda user_state, item_embs: tf.matmul(item_embs, tf.ones([D, 1]))  # type: ignore[method-assign]
    with pytest.raises(InvalidInputError, match=r"score: expected scores .* \(7, 1\).*batch_score"):
        freeze_scorer(model, tile_rows=TILE)


def test_a_score_of_pairs_is_not_told_to_say_so_again() -> None:
    model = _Batch()
    model.score = lambda user_state, item_embs: item_embs[:, :2]  # type: ignore[method-assign]
    with pytest.raises(InvalidInputError, match=r"score: expected scores .* \(7, 2\).*model's output\.$"):
        freeze_scorer(model, tile_rows=TILE)
