"""What the members of the zoo share: three Keras networks over a batch, and the few lines that NANN asks for.

The networks are ranking code: `user_net` embeds a batch of users, `item_net` a batch of items, and `pair_net`
scores a batch of (user, item) pairs. Nothing in them knows of retrieval.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers, ops

Tensors = Mapping[str, Any]
Arrays = dict[str, npt.NDArray[Any]]

# Items of every corpus: indexed and exported in seconds, unless walks are measured (zoo.walks).
N = int(os.environ.get("ZOO_ITEMS", "2000"))
ITEM_IDS = (100_000 + 3 * np.arange(N)).astype(np.int64)
_NETWORKS = ("user_net", "item_net", "pair_net")


def repeated(value: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
    """One user [...] once for each candidate, [n, ...], as most people write it."""
    return tf.repeat(value[tf.newaxis], n, axis=0)


def tiled(value: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
    """The same by `tf.tile`."""
    return tf.tile(value[tf.newaxis], [n, *[1] * value.shape.rank])


def broadcast(value: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
    """The same by `tf.broadcast_to`."""
    return tf.broadcast_to(value, tf.concat([[n], tf.shape(value)], axis=0))


def one_row(value: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
    """A batch of one user; the pair network's own operations broadcast it."""
    return value[tf.newaxis]


class Ranker:
    """A functional Keras model in three parts, of an untrained model with random weights.

    A member says what it is by `inputs`, `user`, `item` and `pair`. Its features, its state and its width
    follow from the networks.
    """

    events, width = 12, 16  # L and E
    # Integer features that arrive as rows of a vocabulary, and how many ids each has.
    vocabularies: ClassVar[dict[str, int]] = {"item_ids": N}
    item_state: ClassVar[dict[str, tf.TensorSpec]] = {}
    takes_real_users_only: ClassVar[bool] = False
    repeat: ClassVar[Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = staticmethod(repeated)

    def __init__(self, seed: int | None = 0) -> None:
        """seed: of the weights; None leaves Keras' own."""
        self.items = layers.Embedding(N + 1, self.width, name="items")
        self.user_net, self.item_net = self.build_user(), self.build_item()
        self.pair_net = self.build_pair()
        if seed is not None:
            randomize((getattr(self, name) for name in _NETWORKS), seed)

    # What a member is.

    def inputs(self) -> dict[str, keras.KerasTensor]:
        """The user's features."""
        return {"item_ids": keras.Input([self.events], dtype="int64", name="item_ids")}

    def user(self, item_ids: Any) -> dict[str, Any]:
        """Features [B, ...] to the user's state [B, ...]."""
        return {"hist": self.embedded(item_ids)}

    def item(self, item_ids: Any) -> Any:
        """Rows [B] to item embeddings [B, D]."""
        return self.items(item_ids)

    def pair(self, *, item: Any, **state: Any) -> Any:
        """State [B, ...] and item embeddings [B, D] to logits [B, 1]."""
        raise NotImplementedError

    def embedded(self, item_ids: Any) -> Any:
        """[B, L] rows to [B, L, E], zeros where the row is 0."""
        return self.items(item_ids) * ops.cast(item_ids > 0, self.items.compute_dtype)[..., None]

    # The networks.

    def build_user(self) -> keras.Model:
        inputs = self.inputs()
        return keras.Model(inputs, self.user(**inputs))

    def build_item(self) -> keras.Model:
        ids = keras.Input([], dtype="int64", name="item_ids")
        return keras.Model({"item_ids": ids}, self.item(ids))

    def build_pair(self) -> keras.Model:
        inputs = {
            name: keras.Input(spec.shape, dtype=spec.dtype.name, name=name)
            for name, spec in {**self.user_state, **self.item_state}.items()
        }
        inputs["item"] = keras.Input([self.embedding_dim], name="item")
        return keras.Model(inputs, self.pair(**inputs))

    # What NANN asks for.

    @property
    def user_features(self) -> dict[str, tf.TensorSpec]:
        return {name: _spec_of_one(tensor) for name, tensor in self.user_net.input.items()}

    @property
    def user_state(self) -> dict[str, tf.TensorSpec]:
        return {name: _spec_of_one(tensor) for name, tensor in self.user_net.output.items()}

    @property
    def embedding_dim(self) -> int:
        return int(self.item_net.output.shape[-1])

    @classmethod
    def from_run(cls, run_dir: Path) -> Ranker:
        model = cls(seed=None)
        for name in _NETWORKS:
            getattr(model, name).load_weights(Path(run_dir) / f"{name}.weights.h5")
        return model

    def save(self, run_dir: Path) -> None:
        """Write what `from_run` reads."""
        for name in _NETWORKS:
            getattr(self, name).save_weights(run_dir / f"{name}.weights.h5")

    def embed_user(self, features: Tensors) -> Tensors:
        state: Tensors = self.user_net(dict(features), training=False)
        return state

    def embed_item(self, features: Tensors) -> Any:
        return self.item_net(dict(features), training=False)

    def score(
        self, user_state: Tensors, item_embs: tf.Tensor, item_state: Tensors | None = None
    ) -> tf.Tensor:
        n = tf.shape(item_embs)[0]
        users = {name: type(self).repeat(value, n) for name, value in user_state.items()}
        return self.pair_net({**users, **(item_state or {}), "item": item_embs}, training=False)[:, 0]

    # What a data set would bring.

    def draw(self, random: np.random.Generator, users: int) -> Arrays:
        """Features of some users as callers know them: numbers, and ids, 0 for a missing event."""
        features: Arrays = {}
        for name, spec in self.user_features.items():
            shape = (users, *spec.shape)
            if name not in self.vocabularies:
                features[name] = random.gamma(2.0, 5.0, shape).astype(spec.dtype.as_numpy_dtype)
                continue
            drawn = random.choice(vocabulary(name, self.vocabularies[name]), shape)
            missing = (random.random(shape) < 0.2) & (np.arange(drawn[0].size) > 0).reshape(shape[1:])
            features[name] = np.where(missing, 0, drawn).astype(spec.dtype.as_numpy_dtype)
        return features

    def rows(self, features: Arrays) -> Arrays:
        """Those features as `embed_user` gets them: rows of the vocabularies."""
        return {
            name: rows_of(values, name, self.vocabularies[name]) if name in self.vocabularies else values
            for name, values in features.items()
        }

    def item_features(self) -> Arrays:
        """Features of all items, [N, ...]."""
        return {"item_ids": np.arange(1, N + 1)}


def vocabulary(name: str, size: int) -> npt.NDArray[np.int64]:
    """The ids of a feature, ascending."""
    return ITEM_IDS if name == "item_ids" else 7 + 2 * np.arange(size, dtype=np.int64)


def rows_of(ids: npt.NDArray[Any], name: str, size: int) -> npt.NDArray[Any]:
    """1 + the position of each id; 0 for those that the vocabulary lacks."""
    known = vocabulary(name, size)
    position = np.searchsorted(known, ids).clip(0, size - 1)
    return np.where(known[position] == ids, position + 1, 0).astype(ids.dtype)


def _spec_of_one(tensor: Any) -> tf.TensorSpec:
    return tf.TensorSpec(tensor.shape[1:], tensor.dtype)


def randomize(networks: Iterable[keras.Model], seed: int) -> None:
    """Weights as training leaves them: none at its initial zero or one, batch norms that saw data."""
    random = np.random.default_rng(seed)
    variables = {id(variable): variable for network in networks for variable in network.weights}
    for variable in variables.values():
        if "float" in keras.backend.standardize_dtype(variable.dtype):
            variable.assign(_trained(random, variable.path.rsplit("/", 1)[-1], tuple(variable.shape)))


def _trained(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    normal = random.normal(size=shape)
    if name in ("gamma", "scale"):
        return 1 + 0.2 * normal
    if name in ("bias", "beta", "moving_mean"):
        return 0.2 * normal
    if name == "moving_variance":
        return random.uniform(0.3, 2.0, shape)
    if name == "alpha":  # of PReLU and Dice
        return random.uniform(0.05, 0.5, shape)
    if name == "embeddings":
        return 0.4 * normal
    if len(shape) < 2:  # a lone scale, such as a temperature
        return 0.5 + 0.1 * normal
    return normal * np.sqrt(2.0 / np.prod(shape[:-1]))
