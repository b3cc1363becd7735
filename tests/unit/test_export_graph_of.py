"""Functions of a model are traced, also where what they call is built by its first call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._user_side import rewrite_user_side
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
    index = IndexResource(**random_corpus(1, num_items=20, degree=3, sparsity=0.0).write(tmp_path))
    found = rewrite_user_side(model).function(*_users().values(), index.resource_handle)
    assert tf.nest.flatten(found)[0].numpy().tolist() == expected.numpy().tolist()


class Fails(Profile):
    """`embed_user` that no call makes traceable."""

    def __init__(self) -> None:
        super().__init__(None, 1)
        self.calls = 0

    def embed_user(self, features: Any) -> Any:
        self.calls += 1
        raise RuntimeError(f"failure {self.calls}")


def test_the_first_failure_is_told() -> None:
    model: Any = Fails()
    with pytest.raises(InvalidInputError, match=r"RuntimeError: failure 1 "):
        rewrite_user_side(model)
    assert model.calls == 2
