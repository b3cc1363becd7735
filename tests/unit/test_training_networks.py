"""Keras networks of a function: in training, and chosen by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.training import load_source
from nann.training._models import choose_model
from nann.training._trainable import Scored, score_each, score_examples

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SEED = tf.constant([0, 7], tf.int64)


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    import my_networks

    return my_networks.din_like({"item_ids": 30}, length=5, width=8)


def step(model: Any, examples: int, shared: int) -> tuple[Scored, Any, tf.Tensor, tf.Tensor]:
    random = np.random.default_rng(0)
    features = {"item_ids": tf.constant(random.integers(0, 30, (examples, 5)))}
    own = tf.constant(random.normal(size=(examples, 8)), tf.float32)
    others = tf.constant(random.normal(size=(shared, 8)), tf.float32)
    places = tf.zeros([examples], tf.int32)
    (scored,) = score_examples(model, features, places, own, others, dropout=0.0, seed=SEED)
    return scored, model.embed_user(features), own, others


def test_pairs_are_scored_as_the_model_scores_them(networks: Any) -> None:
    for layer in networks._scorer.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    scored, state, own, others = step(networks, 6, 9)
    expected = score_each(networks, state, own, others, training=False).numpy()
    assert sorted(scored.examples.numpy()) == list(range(6))
    assert sorted(scored.shared.numpy()) == list(range(9))
    columns = np.concatenate([[0], 1 + scored.shared.numpy()])
    np.testing.assert_allclose(scored.scores, expected[scored.examples.numpy()][:, columns], rtol=1e-5)


def test_a_step_has_no_more_pairs_than_fit_into_memory(
    networks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nann.training._trainable._PAIR_BYTES", 4 * (5 * 8 + 8) * 64 * 3)
    scored, *_ = step(networks, 10, 500)
    assert scored.scores.shape == [3, 64]
    assert len(set(scored.shared.numpy().tolist())) == 63


def test_networks_drop_values_in_training_alone(networks: Any) -> None:
    state = {"events": tf.ones([64, 5, 8])}
    items = tf.ones([64, 8])
    assert np.ptp(networks.score_pairs(state, items)) == 0
    with networks.training_mode():
        assert np.ptp(networks.score_pairs(state, items)) > 0
    assert np.ptp(networks.score_pairs(state, items)) == 0


def test_shared_layers_are_trained_once(networks: Any) -> None:
    names = [each.path for each in networks.trainable_variables]
    assert len(names) == len(set(names)) == 5


def test_a_function_is_chosen_by_name(networks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_source("synthetic:items=29,users=20,events=9,categories=3,seed=0")
    chosen = choose_model("my_networks:din_like", data, {"width": 16})
    assert chosen.name == "nann.training:Networks"
    assert chosen.create(0).embedding_dim == 16
    with pytest.raises(InvalidInputError, match="expected sizes length, width, found 'depth'"):
        choose_model("my_networks:din_like", data, {"depth": 2})
    import my_networks

    monkeypatch.setattr(my_networks, "din_like", lambda rows: 7)
    with pytest.raises(InvalidInputError, match="one that returns int"):
        choose_model("my_networks:din_like", data, {}).create(0)
