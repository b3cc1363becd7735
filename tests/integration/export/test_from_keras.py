"""Keras networks that do not fit together, and what else is no model: each has its sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from nann.errors import InvalidInputError
from nann.export import ExportOptions, export_model, export_shards, from_keras
from support.tiny_run import write_run

N, L, E = 60, 4, 8


def _networks() -> dict[str, keras.Model]:
    items = layers.Embedding(N + 1, E)
    ids = keras.Input([L], dtype="int64", name="item_ids")
    hist, item = keras.Input([L, E], name="hist"), keras.Input([E], name="item")
    scorer = keras.Model([hist, item], layers.Dense(1)(ops.mean(hist, axis=1) * item))
    return {"user": keras.Model(ids, {"hist": items(ids)}), "scorer": scorer}


def _other_features() -> Any:
    a, b = keras.Input([2], name="a"), keras.Input([2], name="b")
    two = keras.Model([a, b], a + b)
    return from_keras(user=two, user_features={"a": tf.TensorSpec([2]), "c": tf.TensorSpec([2])})


def _unnamed() -> Any:
    return from_keras(user=keras.Sequential([keras.Input([L]), layers.Dense(E)]))


def _without_item() -> Any:
    x = keras.Input([E], name="candidate")
    return from_keras(scorer=keras.Model({"candidate": x}, layers.Dense(1)(x)))


def _other_names() -> Any:
    networks = _networks()
    item, profile = keras.Input([E], name="item"), keras.Input([L, E], name="profile")
    other = keras.Input([E], name="other")
    score = layers.Dense(1)(item + ops.mean(profile, axis=1) + other)
    return from_keras(user=networks["user"], scorer=keras.Model([item, profile, other], score))


def _with_item_features() -> Any:
    """A scorer that reads price and brand beside the item embedding."""
    networks = _networks()
    hist, item = keras.Input([L, E], name="hist"), keras.Input([E], name="item")
    price, brand = keras.Input([], name="price"), keras.Input([], dtype="string", name="brand")
    codes = layers.StringLookup(vocabulary=["a", "b"])(brand)
    joined = layers.Concatenate()(
        [ops.mean(hist, axis=1), item, price[:, None], layers.Embedding(3, 2)(codes)]
    )
    scorer = keras.Model([hist, item, price, brand], layers.Dense(1)(joined))
    return from_keras(user=networks["user"], scorer=scorer)


def _whole() -> keras.Model:
    """A ranking network of one piece."""
    clicked = keras.Input([L], dtype="int64", name="item_ids")
    item_id = keras.Input([], dtype="int64", name="item_id")
    items = layers.Embedding(N + 1, E)
    joined = layers.Concatenate()([ops.mean(items(clicked), axis=1), items(item_id)])
    return keras.Model([clicked, item_id], layers.Dense(1)(joined))


def _whole_by_other_names() -> keras.Model:
    """Its ids are called as an embedding would be."""
    clicked = keras.Input([L], dtype="int64", name="item_ids")
    item = keras.Input([], dtype="int64", name="item")
    items = layers.Embedding(N + 1, E)
    return keras.Model([clicked, item], layers.Dense(1)(ops.mean(items(clicked), axis=1) * items(item)))


def _whole_beside_item() -> Any:
    """It has the embedding of the item, and the features of the user."""
    clicked, item = keras.Input([L], dtype="int64", name="item_ids"), keras.Input([E], name="item")
    pooled = ops.mean(layers.Embedding(N + 1, E)(clicked), axis=1)
    scorer = keras.Model([clicked, item], layers.Dense(1)(pooled * item))
    return from_keras(user=_networks()["user"], scorer=scorer)


def test_a_sequential_tower_that_was_never_called_gets_its_one_feature() -> None:
    """Towers of TensorFlow Recommenders: a StringLookup does not say its input."""
    tower = keras.Sequential([layers.StringLookup(vocabulary=["a", "b"]), layers.Embedding(3, E)])
    features = {"user_id": tf.TensorSpec([], tf.string)}
    model = from_keras(user=tower, user_features=features, embedding_dim=E)
    state = model.embed_user({"user_id": tf.constant(["b", "c"])})
    assert {name: spec.shape.as_list() for name, spec in model.user_state.items()} == {"user": [E]}
    np.testing.assert_array_equal(state["user"], tower(tf.constant(["b", "c"])))


_CUT = "Cut it at its layers into a user network, an item network and a scorer"


class _Subclassed(keras.Model):
    def call(self, inputs: Any) -> Any:
        return inputs


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (_unnamed, "expected inputs with names"),
        (_other_features, "user_features: expected the inputs of the user network, a, b, found a, c"),
        (_without_item, 'expected an input called "item"'),
        (_other_names, "expected inputs as the user network's outputs are called"),
        (_with_item_features, "If price, brand describe the item, cut the network behind them, .*item_state"),
        (
            lambda: from_keras(scorer=_whole()),
            f"item_ids int64 .*item_id int64 .* as a whole .*{_CUT}",
        ),
        (lambda: from_keras(scorer=_whole_by_other_names()), rf"found item int64 \[\?\], as .*{_CUT}"),
        (lambda: from_keras(user=_networks()["user"], scorer=_whole()), _CUT),
        (_whole_beside_item, f"A scorer reads no features of the user. {_CUT}"),
        (lambda: from_keras(user=_whole()), f"expected one vector .*found user .1., as a whole .*{_CUT}"),
        (lambda: from_keras(user=_networks()["user"]), r"found hist \[4, 8\]. Give from_keras a scorer"),
        (lambda: from_keras(user=_Subclassed()), "user_features="),
        (lambda: from_keras(scorer=lambda x: x), "expected a keras.Model"),
        (from_keras, "found neither"),
    ],
)
def test_networks_that_do_not_fit_are_named(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(InvalidInputError, match=text):
        make()


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (_whole, "model: expected a retrieval model, found keras.*from_keras.user="),
        (lambda: _Subclassed, "found the class _Subclassed. Give an object"),
        (lambda: "ctr.keras", "found builtins.str without user_features, .*score"),
        (lambda: {"user": 1}, "found builtins.dict without user_features"),
    ],
)
def test_what_is_no_model_is_told_where_to_go(tmp_path: Path, model: Callable[[], Any], text: str) -> None:
    run = write_run(tmp_path / "run", items=N)
    for call in (
        lambda given: export_model(run, tmp_path / "models/1", model=given),
        lambda given: export_shards(run, tmp_path / "models/1", model=given, shards=2),
    ):
        with pytest.raises(InvalidInputError, match=text):
            call(model())
    assert not (tmp_path / "models").exists()


def test_keras_warns_of_a_cut_network_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """When it is cut, of each name, and not again when its file is loaded, traced or called."""
    ids = keras.Input([L], dtype="int64", name="item_ids")
    hist = layers.Embedding(N + 1, E)(ids)
    item = layers.Dense(E)(keras.Input([2], name="features"))
    score = layers.Dense(1)(ops.mean(hist, axis=1) * item)
    networks = {
        "user": keras.Model(ids, {"hist": hist}),
        "scorer": keras.Model({"hist": hist, "item": item}, score),
    }
    cut = [str(each.message) for each in recwarn.list]
    assert sum("all keys in the dict must match" in each for each in cut) == 2
    recwarn.clear()
    run = write_run(tmp_path / "run", items=N)
    (run / "keras").mkdir()
    for name, network in networks.items():
        network.save(run / f"keras/{name}.keras")
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "keras:keras"}))
    export_model(run, tmp_path / "models/1", ExportOptions(level_topn=(20, 40, 40, 40, 40, 10)))
    assert not [str(each.message) for each in recwarn.list if each.category is UserWarning]
