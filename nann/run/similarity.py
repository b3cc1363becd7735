"""No network at all: the score is an inner product, a cosine or a distance of two vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from nann.errors import InvalidInputError

if TYPE_CHECKING:
    import tensorflow as tf

Metric = Literal["ip", "l2", "cosine"]
METRICS: tuple[Metric, ...] = ("ip", "l2", "cosine")
QUERY = "query_emb"


class SimilarityModel:
    """Scores items by their similarity to the user state `query_emb`, float32 [D]; there is no user side.

    metric: "ip" is the inner product, "cosine" the same of vectors of length 1 (items must have it already),
            "l2" the negative squared distance, so that the nearest item is the best.

    Example: `SimilarityModel(64, "ip")`. Raises InvalidInputError for another metric.
    """

    def __init__(self, dim: int, metric: Metric = "ip") -> None:
        import tensorflow as tf

        if metric not in METRICS:
            raise InvalidInputError(
                f"metric: expected one of {', '.join(METRICS)}, found {metric!r}. Choose one of these."
            )
        self.metric, self.embedding_dim = metric, dim
        self.user_features: Mapping[str, tf.TensorSpec] = {}
        self.user_state = {QUERY: tf.TensorSpec([dim], tf.float32)}

    def embed_user(self, features: Mapping[str, Any]) -> Any:
        raise InvalidInputError(
            "embed_user: expected a vector as query_emb, found features. Send the vector."
        )

    def embed_item(self, features: Mapping[str, Any]) -> Any:
        raise InvalidInputError("embed_item: expected vectors that exist already. Write them to embeddings/.")

    def score(self, user_state: Mapping[str, Any], item_embs: Any) -> Any:
        """float32 [D] and float32 [n, D] -> float32 [n]."""
        import tensorflow as tf

        query = user_state[QUERY]
        if self.metric == "l2":
            return -tf.reduce_sum(tf.math.squared_difference(item_embs, query), axis=-1)
        if self.metric == "cosine":
            query = tf.math.l2_normalize(query)
        return tf.linalg.matvec(item_embs, query)
