"""The protocol of a model that can be exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nann.errors import InvalidFileError, InvalidInputError

if TYPE_CHECKING:
    import tensorflow as tf


@runtime_checkable
class RetrievalModel(Protocol):
    """A trained model: a user side, an item side, and a scorer that takes both.

    B users, n items. All functions run in inference mode, and `tf.function` can trace them.
    docs/your-model.md explains each member.

    Example:
      >>> class InnerProduct:
      ...     user_features = {}  # Users are embedded elsewhere.
      ...     user_state = {"user": tf.TensorSpec([8], tf.float32)}
      ...     embedding_dim = 8
      ...     def embed_user(self, features): ...
      ...     def embed_item(self, features): ...
      ...     def score(self, user_state, item_embs):
      ...         return tf.linalg.matvec(item_embs, user_state["user"])
      >>> isinstance(InnerProduct(), RetrievalModel)
      True
    """

    @property
    def user_features(self) -> Mapping[str, tf.TensorSpec]:
        """Per user, without a batch dimension, for example `{"item_ids": int64 [L], "country": string []}`.

        Of any type. An integer feature that has a `vocabulary/{feature}.npy` arrives as rows: 1 + the
        position of the id there, 0 = missing. All others arrive as they were sent. A first dimension of None
        is of any length: `embed_user` is then called for one user at a time, B = 1, without padding.
        """

    @property
    def user_state(self) -> Mapping[str, tf.TensorSpec]:
        """What `score` reads of one user, without a batch dimension: `{"comm_seq": float32 [L, E]}`."""

    @property
    def embedding_dim(self) -> int:
        """D, the width of an item embedding."""

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        """Features [B, ...] -> user state [B, ...]; row 0 becomes exact zeros."""

    def embed_item(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Features of n items, rows [n] -> item embeddings float32 [n, D]."""

    def score(self, user_state: Mapping[str, tf.Tensor], item_embs: tf.Tensor) -> tf.Tensor:
        """State of one user, without B, and float32 [n, D] -> scores float32 [n]; higher is better."""


def item_state_of(model: object) -> dict[str, tf.TensorSpec]:
    """The optional `item_state` of a model: name -> TensorSpec of one item: `{"price": float32 []}`.

    Each is read from `RUN/embeddings/item_state_{name}.npy` [N, ...]. `embed_item` of such a model returns
    (item_embs, item_state), and `score` takes the state of its n items, [n, ...], as a third argument.
    """
    return getattr(model, "item_state", None) or {}


def item_features_of(model: object) -> Mapping[str, tf.TensorSpec]:
    """The optional `item_features` of a model: name -> TensorSpec of one item: `{"title": string []}`.

    With it an export keeps `embed_item`, and `nann publish` takes events with these features. An integer
    feature that has a `vocabulary/{feature}.npy` arrives as rows, as user features do.
    """
    features = getattr(model, "item_features", None)
    return features if isinstance(features, Mapping) else {}  # A model may use the name for something else.


def features_of(model: RetrievalModel) -> dict[str, tf.TensorSpec]:
    """The features of users and, where they are declared, of items: name -> TensorSpec."""
    return {**model.user_features, **item_features_of(model)}


def scores_batches(model: object) -> bool:
    """Whether `score` is written for a batch: the optional `batch_score = True` of a model says so.

    It then takes user state [B, ...] and item embeddings [B, D] of B pairs, and returns [B] or [B, 1].
    """
    return bool(getattr(model, "batch_score", False))


def missing_members(model: object) -> list[str]:
    """The members of `RetrievalModel` that `model` lacks."""
    expected = ["user_features", "user_state", "embedding_dim", "embed_user", "embed_item", "score"]
    return [name for name in expected if not hasattr(model, name)]


def check_model(model: object) -> None:
    """Raise InvalidFileError that names the members of `RetrievalModel` that `model` lacks."""
    missing = missing_members(model)
    if missing:
        raise InvalidFileError(
            f"{type(model).__module__}:{type(model).__qualname__}: expected a retrieval model, found no "
            f"{', '.join(missing)}. See nann.export.RetrievalModel, or give the Keras networks of your model "
            f"to nann.export.from_keras."
        )


def check_given_model(model: object) -> None:
    """Raise InvalidInputError where the argument `model` of an export is no `RetrievalModel`."""
    kind = type(model)
    if isinstance(model, type):
        raise InvalidInputError(
            f"model: expected a retrieval model, found the class {model.__qualname__}. Give an object: "
            f"{model.__qualname__}(...)."
        )
    missing = missing_members(model)
    if not missing:
        return
    found = f"model: expected a retrieval model, found {kind.__module__}.{kind.__qualname__}"
    # By name: Keras 2 is a package of its own, tf_keras, which need not be installed.
    if any(each.__name__ == "Model" and "keras" in each.__module__ for each in kind.__mro__):
        raise InvalidInputError(
            f"{found}. Give the networks of a Keras model to nann.export.from_keras: "
            f"model=from_keras(user=..., item=..., scorer=...). docs/your-model.md says how one network is "
            f"cut into these."
        )
    raise InvalidInputError(
        f"{found} without {', '.join(missing)}. Give an object with the members of "
        f"nann.export.RetrievalModel, or Keras networks by nann.export.from_keras."
    )
