"""The reference model: the network of the NANN paper (arXiv 2202.10226) in Keras 3."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from nann.errors import InvalidFileError
from nann.files import without_patterns
from nann.run import CHECKPOINTS, read_run

CHECKPOINT_ERRORS = (AssertionError, IndexError, ValueError, tf.errors.OpError)
"""What TensorFlow raises for a checkpoint of other variables, or with a truncated or missing file."""

_MASKED = -1e9


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the network; the defaults are the original's.

    Attributes:
      items, categories: number of ids in each vocabulary (row 0, "missing", comes on top).
      sequence_length: L, events of the user state.
      feature_dim: width of each of the two embeddings; E is twice that.
      tower: widths of the item tower's hidden layers; a last dense layer to `embedding_dim` follows.
      embedding_dim: D.
      attention_dim: width of the attention's keys, queries and values.
      mlp: widths of the scoring network's hidden layers; a last dense layer to 1 follows.
    """

    items: int
    categories: int
    sequence_length: int = 50
    feature_dim: int = 32
    tower: tuple[int, ...] = (128, 64)
    embedding_dim: int = 64
    attention_dim: int = 64
    mlp: tuple[int, ...] = (128, 64, 32)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelConfig:
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})


class UserSide(NamedTuple):
    """What the scorer knows of users before it sees a candidate. `...` is nothing or a batch.

    Attributes:
      keys: float32 [..., L, attention_dim].
      values: float32 [..., L, attention_dim].
      present: float32 [..., 1, L], 1 for an event, 0 for a missing one.
    """

    keys: tf.Tensor
    values: tf.Tensor
    present: tf.Tensor


class ItemSide(NamedTuple):
    """What the scorer knows of items before it sees a user.

    Attributes:
      query: float32 [..., n, attention_dim], compared with the keys.
      factors: float32 [..., n, attention_dim], multiplied with what was attended to.
      hidden: float32 [..., n, mlp[0]], the item's part of the scoring network's first layer.
    """

    query: tf.Tensor
    factors: tf.Tensor
    hidden: tf.Tensor


class ReferenceModel(keras.Model):
    """score(user, item) = MLP(attended, attended * item, item).

    `attended` is what the item finds in the user's events.

    The behaviour sequence is ordered oldest event first; a sequence shorter than L is padded at the front
    with row 0. The item side is a tower of three dense layers over the item's id and category embeddings.
    The attention adds what it knows of an event's place in the sequence inside the scorer, so that `comm_seq`
    stays the plain embeddings of the events. Beyond the original, what was attended to also enters multiplied
    with a projection of the item, and both through batch norms; without them it depended on the seed how soon
    the model began to learn more than popularity (MovieLens-100K).
    """

    def __init__(self, config: ModelConfig, *, seed: int = 0) -> None:
        super().__init__(name="reference_model")
        self.config = config
        # Each layer has a seed of its own: the initial weights do not depend on the order of building.
        seeds = iter(range(1000 * seed, 1000 * seed + 1000))

        def prelu(name: str) -> keras.layers.PReLU:
            return keras.layers.PReLU(name=name)

        def norm(name: str) -> keras.layers.BatchNormalization:
            return keras.layers.BatchNormalization(name=name)

        def dense(width: int, name: str, *, bias: bool = True) -> keras.layers.Dense:
            initializer = keras.initializers.GlorotUniform(seed=next(seeds))
            return keras.layers.Dense(width, use_bias=bias, kernel_initializer=initializer, name=name)

        def embedding(rows: int, width: int, name: str) -> keras.layers.Embedding:
            initializer = keras.initializers.RandomNormal(stddev=0.02, seed=next(seeds))
            return keras.layers.Embedding(rows, width, embeddings_initializer=initializer, name=name)

        self.item_embedding = embedding(config.items + 1, config.feature_dim, "item_embedding")
        self.category_embedding = embedding(config.categories + 1, config.feature_dim, "category_embedding")
        self.tower = [dense(width, f"tower_{i}") for i, width in enumerate(config.tower)]
        self.tower_activations = [
            keras.layers.PReLU(name=f"tower_prelu_{i}") for i in range(len(config.tower))
        ]
        self.tower_output = dense(config.embedding_dim, "tower_output")
        self.event_hidden = dense(config.attention_dim, "event_hidden")
        self.event_activation = prelu("event_prelu")
        self.event_key = dense(config.attention_dim, "event_key")
        self.event_value = dense(config.attention_dim, "event_value")
        self.position_key = embedding(config.sequence_length, config.attention_dim, "position_key")
        self.query_hidden = dense(config.attention_dim, "query_hidden")
        self.query_activation = prelu("query_prelu")
        self.query_output = dense(config.attention_dim, "query_output")
        self.item_factors = dense(config.attention_dim, "item_factors")
        # A mean over many events is much smaller than an item's own embedding: without norms of their own,
        # the first layers see nothing of the user for a long time.
        self.attended_norm = norm("attended_norm")
        self.product_norm = norm("product_norm")
        # The first layer of the scoring network on [attended, attended * factors, item], as the sum of its
        # parts: each is run as often as its input changes.
        self.mlp_attended = dense(config.mlp[0], "mlp_attended", bias=False)
        self.mlp_product = dense(config.mlp[0], "mlp_product", bias=False)
        self.mlp_item = dense(config.mlp[0], "mlp_item")
        self.mlp_hidden = [dense(width, f"mlp_{i}") for i, width in enumerate(config.mlp[1:], start=1)]
        self.mlp_norms = [
            keras.layers.BatchNormalization(name=f"mlp_norm_{i}") for i in range(len(config.mlp))
        ]
        self.mlp_activations = [prelu(f"mlp_prelu_{i}") for i in range(len(config.mlp))]
        self.mlp_output = dense(1, "mlp_output")
        self._create_variables()

    @classmethod
    def from_run(cls, run_dir: Path) -> ReferenceModel:
        """Restore the newest checkpoint of `run_dir`.

        Raises:
          InvalidFileError: `run_dir` holds no run, or no checkpoint of this model.
        """
        model = cls(ModelConfig.from_json(read_run(run_dir).model_config))
        with without_patterns(run_dir) as folder:
            newest = tf.train.latest_checkpoint(str(folder / CHECKPOINTS))
            if newest is None:
                raise InvalidFileError(
                    f"{run_dir / CHECKPOINTS}: expected a checkpoint, found none. Train first: `nann train`."
                )
            model._restore(newest, named=run_dir / CHECKPOINTS / Path(newest).name)
        return model

    def _restore(self, checkpoint: str, *, named: Path) -> None:
        """named: what messages call the checkpoint."""
        try:
            status = tf.train.Checkpoint(model=checkpointed(self.variables)).restore(checkpoint)
            status.assert_existing_objects_matched().expect_partial()
        except CHECKPOINT_ERRORS as error:
            raise InvalidFileError(
                f"{named}: expected the variables of {self.config}, found another or damaged checkpoint: "
                f"{error}. Train again into another folder."
            ) from error

    @property
    def user_features(self) -> Mapping[str, tf.TensorSpec]:
        """Per user: rows into the vocabularies, 0 = missing; int64 [L] each."""
        length = self.config.sequence_length
        return {name: tf.TensorSpec([length], tf.int64, name) for name in ("item_ids", "cate_ids")}

    @property
    def user_state(self) -> Mapping[str, tf.TensorSpec]:
        """Per user: the embedded behaviour sequence, float32 [L, E]; an all-zero row is a missing event."""
        shape = [self.config.sequence_length, 2 * self.config.feature_dim]
        return {"comm_seq": tf.TensorSpec(shape, tf.float32, "comm_seq")}

    @property
    def embedding_dim(self) -> int:
        """D."""
        return self.config.embedding_dim

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """`item_ids`, `cate_ids` int64 [B, L] -> `comm_seq` float32 [B, L, E], zeros where the item is 0."""
        present = tf.cast(features["item_ids"] > 0, tf.float32)[..., tf.newaxis]
        return {"comm_seq": self._embed(features) * present}

    def embed_item(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """`item_ids`, `cate_ids` integer [n] -> item embeddings float32 [n, D]."""
        hidden = self._embed(features)
        for layer, activation in zip(self.tower, self.tower_activations, strict=True):
            hidden = activation(layer(hidden))
        return self.tower_output(hidden)

    def score(self, user_state: Mapping[str, tf.Tensor], item_embs: tf.Tensor) -> tf.Tensor:
        """`comm_seq` float32 [L, E] of one user, item embeddings float32 [n, D] -> scores float32 [n]."""
        return self.match(self.user_side(user_state["comm_seq"]), self.item_side(item_embs), training=False)

    def user_side(self, comm_seq: tf.Tensor) -> UserSide:
        """Embedded sequences float32 [..., L, E] -> `UserSide`."""
        present = tf.cast(tf.reduce_any(tf.not_equal(comm_seq, 0.0), axis=-1), tf.float32)
        hidden = self.event_activation(self.event_hidden(_as_matrix(comm_seq)))
        keys = _like(self.event_key(hidden), comm_seq) + self.position_key.embeddings
        return UserSide(keys, _like(self.event_value(hidden), comm_seq), present[..., tf.newaxis, :])

    def item_side(self, item_embs: tf.Tensor) -> ItemSide:
        """Item embeddings float32 [n, D] -> `ItemSide`."""
        query = self.query_output(self.query_activation(self.query_hidden(item_embs)))
        # The scale of a dot product of independent entries grows with the root of their number.
        return ItemSide(
            query * self.config.attention_dim**-0.5, self.item_factors(item_embs), self.mlp_item(item_embs)
        )

    def match(self, user: UserSide, items: ItemSide, *, training: bool) -> tf.Tensor:
        """Score every item of `items` [..., n, *] for the user of the same batch entry: float32 [..., n]."""
        logits = tf.matmul(items.query, user.keys, transpose_b=True)
        weights = tf.nn.softmax(logits + (1.0 - user.present) * _MASKED) * user.present
        attended = tf.matmul(weights, user.values)
        product = self.product_norm(_as_matrix(attended * items.factors), training=training)
        user = self.attended_norm(_as_matrix(attended), training=training)
        hidden = self.mlp_attended(user) + self.mlp_product(product) + _as_matrix(items.hidden)
        hidden = self.mlp_activations[0](self.mlp_norms[0](hidden, training=training))
        steps = zip(self.mlp_hidden, self.mlp_norms[1:], self.mlp_activations[1:], strict=True)
        for layer, norm, activation in steps:
            hidden = activation(norm(layer(hidden), training=training))
        return _like(self.mlp_output(hidden), attended)[..., 0]

    def _embed(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        items = tf.gather(self.item_embedding.embeddings, features["item_ids"])
        categories = tf.gather(self.category_embedding.embeddings, features["cate_ids"])
        return tf.concat([items, categories], axis=-1)

    def _create_variables(self) -> None:
        for table in (self.item_embedding, self.category_embedding, self.position_key):
            table.build()
        rows = tf.zeros([1, self.config.sequence_length], tf.int64)
        state = self.embed_user({"item_ids": rows, "cate_ids": rows})
        items = self.embed_item({"item_ids": rows[0, :1], "cate_ids": rows[0, :1]})
        self.score({"comm_seq": state["comm_seq"][0]}, items)
        self.built = True


def checkpointed(variables: Iterable[Any]) -> dict[str, tf.Variable]:
    """Keras variables by path, in the form that tf.train.Checkpoint follows.

    It does not see into the lists of layers of a Keras 3 model: given the model itself it leaves out their
    variables, in silence.
    """
    return {variable.path: variable.value for variable in variables}


def _as_matrix(tensor: tf.Tensor) -> tf.Tensor:
    """[..., width] -> [rows, width]. A matrix stays as it is: no op enters the exported scorer."""
    return tensor if tensor.shape.rank == 2 else tf.reshape(tensor, [-1, tensor.shape[-1]])


def _like(matrix: tf.Tensor, example: tf.Tensor) -> tf.Tensor:
    """[rows, width] -> [..., width] with the leading dimensions of `example`."""
    if example.shape.rank == 2:
        return matrix
    return tf.reshape(matrix, tf.concat([tf.shape(example)[:-1], [matrix.shape[-1]]], axis=0))
