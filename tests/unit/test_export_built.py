"""Layers that their first call builds are built outside of a graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nann.export._built import build_by_calls
from nann.export._user_side import rewrite_user_side
from nann.export.scorer.scorer import freeze_scorer
from nann.ops import IndexResource
from support.graphs import random_corpus

_SPACE = keras.utils.FeatureSpace


class Profile:
    """A FeatureSpace that was loaded, called in `embed_user`."""

    user_features = {  # noqa: RUF012
        "age": tf.TensorSpec([], tf.float32),
        "country": tf.TensorSpec([], tf.string),
    }
    embedding_dim = 4
    embed_item = score = None

    def __init__(self, space: Any, width: int) -> None:
        self.space = space
        self.user_state = {"profile": tf.TensorSpec([width], tf.float32)}

    def embed_user(self, features: Any) -> Any:
        return {"profile": tf.cast(self.space(dict(features)), tf.float32)}


def _users() -> dict[str, tf.Tensor]:
    return {"age": tf.constant([20.0, 50.0]), "country": tf.constant(["fr", "de"])}


def test_a_feature_space_that_was_loaded_is_built_before_it_is_traced(tmp_path: Path) -> None:
    space = _SPACE(
        features={
            "age": _SPACE.float_discretized(num_bins=3),
            "country": _SPACE.string_categorical(num_oov_indices=1),
        },
        output_mode="concat",
    )
    space.adapt(tf.data.Dataset.from_tensor_slices({**_users()}).batch(2))
    expected = space(_users())
    space.save(tmp_path / "space.keras")
    model: Any = Profile(keras.models.load_model(tmp_path / "space.keras"), expected.shape[-1])
    build_by_calls(model)
    index = IndexResource(**random_corpus(1, num_items=20, degree=3, sparsity=0.0).write(tmp_path))
    found = rewrite_user_side(model).function(*_users().values(), index.resource_handle)
    assert tf.nest.flatten(found)[0].numpy().tolist() == expected.numpy().tolist()


class Scaled(Profile):
    """`score` and `embed_user` share a layer that keeps tensors of the graph that it was built in."""

    def __init__(self) -> None:
        super().__init__(None, 4)
        self.norm = keras.layers.Normalization(mean=[0.5] * 4, variance=[2.0] * 4)

    def embed_user(self, features: Any) -> Any:
        return {"profile": self.norm(features["age"][:, tf.newaxis] * tf.ones([1, 4]))}

    def score(self, user_state: Any, item_embs: Any) -> Any:
        return tf.linalg.matvec(self.norm(item_embs), user_state["profile"])


def test_a_layer_that_both_functions_build_is_of_no_graph() -> None:
    model: Any = Scaled()
    build_by_calls(model)
    freeze_scorer(model, tile_rows=8)
    state = model.embed_user(_users())["profile"]
    expected = (np.array([20.0, 50.0]) - 0.5) / np.sqrt(2.0)
    assert np.allclose(state, expected[:, np.newaxis])


class Fails(Profile):
    """Functions that cannot be called."""

    def __init__(self) -> None:
        super().__init__(None, 1)

    def embed_user(self, features: Any) -> Any:
        raise RuntimeError("failure")


def test_what_fails_is_left_to_the_trace() -> None:
    model: Any = Fails()
    build_by_calls(model)


class Counts(Profile):
    """A model whose layers are built."""

    calls = 0

    def __init__(self) -> None:
        super().__init__(None, 4)
        self.parts = {"norm": [keras.layers.Dense(4)]}
        self.parts["norm"][0].build([None, 4])

    def embed_user(self, features: Any) -> Any:
        self.calls += 1
        return {"profile": self.parts["norm"][0](features["age"][:, tf.newaxis] * tf.ones([1, 4]))}

    def score(self, user_state: Any, item_embs: Any) -> Any:
        self.calls += 1
        return tf.linalg.matvec(item_embs, user_state["profile"])


def test_a_model_of_built_layers_is_not_called() -> None:
    model: Any = Counts()
    build_by_calls(model)
    assert model.calls == 0
    model.parts["more"] = [keras.layers.Dense(4)]
    build_by_calls(model)
    assert model.calls == 2
