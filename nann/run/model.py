"""The protocol of a model that can be exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nann.errors import InvalidFileError

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
        """Inputs of `embed_user` for one user, without a batch dimension: `{"item_ids": int64 [L]}`.

        Integers are rows: 1 + the position of the id in `vocabulary/{feature}.npy`, 0 for a missing id.
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


def check_model(model: object) -> None:
    """Raise InvalidFileError that names the members of `RetrievalModel` that `model` lacks."""
    expected = ["user_features", "user_state", "embedding_dim", "embed_user", "embed_item", "score"]
    missing = [name for name in expected if not hasattr(model, name)]
    if missing:
        raise InvalidFileError(
            f"{type(model).__module__}:{type(model).__qualname__}: expected a retrieval model, found no "
            f"{', '.join(missing)}. See nann.export.RetrievalModel."
        )
