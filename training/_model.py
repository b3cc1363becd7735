"""The reference model: the network of the NANN paper (arXiv 2202.10226) in Keras 3."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.training._layers import (
    LOG_SCALE,
    MASKED,
    CausalTower,
    Layers,
    dropped,
    gathered,
    next_seed,
    unit_size,
)
from nann.training._trainable import Scored
from nann.training.trained import TrainedModel

# Transformer blocks of a model that is trained on sequences, as SASRec has them.
_BLOCKS = 2
_IDS = ("item_ids", "cate_ids")
# Examples and shared items per step that the network is trained on.
_NETWORK_EXAMPLES, _NETWORK_ITEMS = 128, 64


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the network; the defaults are the original's.

    Attributes:
      items, categories: number of ids in each vocabulary (row 0, "missing", comes on top).
      features: rows of the table of each further feature of items; embeddings are added to the category's.
      sequence_length: L, events of the user state.
      feature_dim: width of each of the two embeddings; E is twice that.
      tower: widths of the item tower's hidden layers; a last dense layer to `embedding_dim` follows.
      embedding_dim: D.
      attention_dim: width of the attention's keys, queries and values.
      mlp: widths of the scoring network's hidden layers; a last dense layer to 1 follows.
      blocks: causal transformer blocks over the events; 0 is the original's network.
      heads: heads of their attention.
      network_share: with blocks, weight of the scoring network beside the product of state and item.
    """

    items: int
    categories: int
    features: Mapping[str, int] = field(default_factory=dict)
    sequence_length: int = 50
    feature_dim: int = 32
    tower: tuple[int, ...] = (128, 64)
    embedding_dim: int = 64
    attention_dim: int = 64
    mlp: tuple[int, ...] = (128, 64, 32)
    blocks: int = 0
    heads: int = 2
    network_share: float = 0.25

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
      vector: float32 [..., D], multiplied with item embeddings; None without transformer blocks.
    """

    keys: tf.Tensor
    values: tf.Tensor
    present: tf.Tensor
    vector: tf.Tensor | None = None


class ItemSide(NamedTuple):
    """What the scorer knows of items before it sees a user.

    Attributes:
      query: float32 [..., n, attention_dim], compared with the keys.
      factors: float32 [..., n, attention_dim], multiplied with what was attended to.
      hidden: float32 [..., n, mlp[0]], the item's part of the scoring network's first layer.
      embs: float32 [..., n, D], the item embeddings themselves.
    """

    query: tf.Tensor
    factors: tf.Tensor
    hidden: tf.Tensor
    embs: tf.Tensor


class ReferenceModel(TrainedModel, keras.Model):
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
        layers = Layers(seed)

        def prelu(name: str) -> keras.layers.PReLU:
            return keras.layers.PReLU(name=name)

        def norm(name: str) -> keras.layers.BatchNormalization:
            return keras.layers.BatchNormalization(name=name)

        dense, embedding = layers.dense, layers.embedding
        width = 2 * config.feature_dim if config.blocks else config.feature_dim
        self.item_embedding = embedding(config.items + 1, width, "item_embedding")
        self.category_embedding = embedding(config.categories + 1, width, "category_embedding")
        self.further_embeddings = {
            name: embedding(rows, width, f"{name}_embedding") for name, rows in config.features.items()
        }
        if config.blocks:
            self._create_causal(layers)
        else:
            self.tower = [dense(width, f"tower_{i}") for i, width in enumerate(config.tower)]
            self.tower_activations = [prelu(f"tower_prelu_{i}") for i in range(len(config.tower))]
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
        self.mlp_norms = [norm(f"mlp_norm_{i}") for i in range(len(config.mlp))]
        self.mlp_activations = [prelu(f"mlp_prelu_{i}") for i in range(len(config.mlp))]
        self.mlp_output = dense(1, "mlp_output")
        self._create_variables()

    def _create_causal(self, layers: Layers) -> None:
        config = self.config
        if config.embedding_dim != 2 * config.feature_dim:
            raise InvalidInputError(
                f"model: expected embedding_dim = 2 * feature_dim with transformer blocks, whose states are "
                f"multiplied with item embeddings, found {config.embedding_dim} and {config.feature_dim}."
            )
        self.causal_tower = CausalTower(
            layers,
            length=config.sequence_length,
            width=config.embedding_dim,
            blocks=config.blocks,
            heads=config.heads,
        )
        self.log_scale = layers.scalar(LOG_SCALE, "log_scale")

    @classmethod
    def create(cls, rows: Mapping[str, int], *, seed: int = 0, **sizes: Any) -> ReferenceModel:
        """A model for tables of `rows`, with transformer blocks.

        sizes: other fields of `ModelConfig`; `width` stands for the widths of states and item embeddings.
        """
        known: dict[str, Any] = {"items": rows["item_ids"] - 1, "categories": rows["cate_ids"] - 1}
        if further := {name: count for name, count in rows.items() if name not in _IDS}:
            known["features"] = further
        if width := sizes.pop("width", None):
            known |= {"feature_dim": width // 2, "embedding_dim": width}
        return cls(ModelConfig.from_json({"blocks": _BLOCKS, **known, **sizes}), seed=seed)

    @classmethod
    def sizes(cls) -> list[str]:
        """Names of the options of `create`."""
        names = [each.name for each in fields(ModelConfig)]
        return ["width", *(name for name in names if name not in ("items", "categories", "features"))]

    @property
    def user_features(self) -> Mapping[str, tf.TensorSpec]:
        """Per user: rows into the vocabularies, 0 = missing; int64 [L] each."""
        length = self.config.sequence_length
        return {name: tf.TensorSpec([length], tf.int64, name) for name in (*_IDS, *self.config.features)}

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
        return {"comm_seq": self._events(features)}

    def _events(
        self, features: Mapping[str, tf.Tensor], *, dropout: float = 0.0, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        present = features["item_ids"] > 0
        if not self.config.blocks:
            return self._embed(features) * tf.cast(present, tf.float32)[..., tf.newaxis]
        return self.causal_tower(self.embed_item(features), present, dropout=dropout, seed=seed)

    def embed_item(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """`item_ids`, `cate_ids` integer [n] -> item embeddings float32 [n, D]."""
        hidden = self._embed(features)
        if self.config.blocks:
            return unit_size(hidden)
        for layer, activation in zip(self.tower, self.tower_activations, strict=True):
            hidden = activation(layer(hidden))
        return self.tower_output(hidden)

    def score(self, user_state: Mapping[str, tf.Tensor], item_embs: tf.Tensor) -> tf.Tensor:
        """`comm_seq` float32 [L, E] of one user, item embeddings float32 [n, D] -> scores float32 [n]."""
        return self.match(self.user_side(user_state["comm_seq"]), self.item_side(item_embs), training=False)

    def score_prefixes(
        self,
        features: Mapping[str, tf.Tensor],
        places: tf.Tensor,
        own: tf.Tensor,
        shared: tf.Tensor,
        *,
        dropout: float,
        seed: tf.Tensor,
    ) -> list[Scored]:
        """Training scores of the states after each of many events (`nann.training.Trainable`).

        The product of state and item is scored for all examples and all shared items; the network, which
        costs some hundred times as much, for a random part of both.
        """
        events = self._events(features, dropout=dropout, seed=seed)
        if not self.config.blocks:
            state = dropped(_up_to(events, places), dropout, seed)
            return [Scored(self.score_each({"comm_seq": state}, own, shared, training=True))]
        flat = tf.reshape(events, [-1, events.shape[-1]])
        vectors = self._vector(tf.gather(flat, places))
        products = tf.matmul(vectors, shared, transpose_b=True)
        products = tf.concat([tf.reduce_sum(vectors * own, 1, keepdims=True), products], axis=1)
        examples = _some(tf.shape(places)[0], _NETWORK_EXAMPLES, seed, 0)
        columns = _some(tf.shape(shared)[0], _NETWORK_ITEMS, seed, 1)
        # The network does not change what the product is made of, and learns alone: as a correction of the
        # product it learns the training examples by heart (docs/training.md).
        state = _up_to(tf.stop_gradient(events), tf.gather(places, examples))
        own, shared = tf.stop_gradient(tf.gather(own, examples)), tf.stop_gradient(tf.gather(shared, columns))
        user = self.user_side(state)._replace(vector=None)
        scores = self.match(user, self._items_of_each(own, shared), training=True)
        return [Scored(products), Scored(scores, examples, columns)]

    def score_each(
        self, user_state: Mapping[str, tf.Tensor], own: tf.Tensor, shared: tf.Tensor, *, training: bool
    ) -> tf.Tensor:
        """States of B users, an item embedding of each [B, D], and S shared [S, D] -> float32 [B, 1 + S]."""
        user = self.user_side(user_state["comm_seq"])
        return self.match(user, self._items_of_each(own, shared), training=training)

    def _items_of_each(self, own: tf.Tensor, shared: tf.Tensor) -> ItemSide:
        """Each user's own item and the shared ones: [B, 1 + S, ...]."""
        side = self.item_side(tf.concat([own, shared], axis=0))
        items: ItemSide = tf.nest.map_structure(lambda part: _per_user(part, tf.shape(own)[0]), side)
        return items

    def _vector(self, newest: tf.Tensor) -> tf.Tensor:
        """The state after the newest event [..., E] -> what is multiplied with item embeddings [..., D]."""
        # Both have a length of the root of D or 1: the product is a cosine times the scale.
        scale = tf.exp(self.log_scale.value) * self.config.embedding_dim**-0.5
        return tf.math.l2_normalize(newest, axis=-1) * scale

    def user_side(self, comm_seq: tf.Tensor) -> UserSide:
        """Embedded sequences float32 [..., L, E] -> `UserSide`."""
        present = tf.cast(tf.reduce_any(tf.not_equal(comm_seq, 0.0), axis=-1), tf.float32)
        hidden = self.event_activation(self.event_hidden(_as_matrix(comm_seq)))
        positions = self.position_key.embeddings
        if comm_seq.shape[-2] != self.config.sequence_length:
            positions = positions[-tf.shape(comm_seq)[-2] :]
        keys = _like(self.event_key(hidden), comm_seq) + positions
        values = _like(self.event_value(hidden), comm_seq)
        vector = self._vector(comm_seq[..., -1, :]) if self.config.blocks else None
        return UserSide(keys, values, present[..., tf.newaxis, :], vector)

    def item_side(self, item_embs: tf.Tensor) -> ItemSide:
        """Item embeddings float32 [n, D] -> `ItemSide`."""
        query = self.query_output(self.query_activation(self.query_hidden(item_embs)))
        # The scale of a dot product of independent entries grows with the root of their number.
        query *= self.config.attention_dim**-0.5
        return ItemSide(query, self.item_factors(item_embs), self.mlp_item(item_embs), item_embs)

    def match(self, user: UserSide, items: ItemSide, *, training: bool) -> tf.Tensor:
        """Score every item of `items` [..., n, *] for the user of the same batch entry: float32 [..., n]."""
        logits = tf.matmul(items.query, user.keys, transpose_b=True)
        weights = tf.nn.softmax(logits + (1.0 - user.present) * MASKED) * user.present
        attended = tf.matmul(weights, user.values)
        product = self.product_norm(_as_matrix(attended * items.factors), training=training)
        normed = self.attended_norm(_as_matrix(attended), training=training)
        hidden = self.mlp_attended(normed) + self.mlp_product(product) + _as_matrix(items.hidden)
        hidden = self.mlp_activations[0](self.mlp_norms[0](hidden, training=training))
        steps = zip(self.mlp_hidden, self.mlp_norms[1:], self.mlp_activations[1:], strict=True)
        for layer, norm, activation in steps:
            hidden = activation(norm(layer(hidden), training=training))
        scores = _like(self.mlp_output(hidden), attended)[..., 0]
        if user.vector is None:
            return scores
        return tf.linalg.matvec(items.embs, user.vector) + self.config.network_share * scores

    def _embed(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        items = gathered(self.item_embedding, features["item_ids"])
        categories = gathered(self.category_embedding, features["cate_ids"])
        for name, table in self.further_embeddings.items():
            categories += gathered(table, features[name])
        return items + categories if self.config.blocks else tf.concat([items, categories], axis=-1)

    def _create_variables(self) -> None:
        rows = tf.zeros([1, self.config.sequence_length], tf.int64)
        state = self.embed_user(dict.fromkeys(self.user_features, rows))
        items = self.embed_item(dict.fromkeys(self.user_features, rows[0, :1]))
        self.score({"comm_seq": state["comm_seq"][0]}, items)
        self.built = True


def _per_user(side: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """[B + S, width] (each user's own, then shared ones) -> [B, 1 + S, width]."""
    shared = side[batch:]
    repeated = tf.broadcast_to(shared, tf.concat([[batch], tf.shape(shared)], axis=0))
    return tf.concat([side[:batch, tf.newaxis], repeated], axis=1)


def _some(count: tf.Tensor, most: int, seed: tf.Tensor, number: int) -> tf.Tensor:
    """int32 [most]: numbers below `count`, drawn with replacement."""
    drawn = tf.random.stateless_uniform([most], next_seed(seed, 1000 + number), maxval=1.0)
    return tf.minimum(tf.cast(drawn * tf.cast(count, tf.float32), tf.int32), count - 1)


def _up_to(events: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Sequences float32 [m, L, E] that end with the events at `places` of [R, L, E], flattened."""
    length = tf.shape(events)[1]
    columns = (places % length)[:, tf.newaxis] - (length - 1) + tf.range(length)
    rows = (places // length)[:, tf.newaxis] * length + tf.maximum(columns, 0)
    taken = tf.gather(tf.reshape(events, [-1, events.shape[-1]]), rows)
    return taken * tf.cast(columns >= 0, tf.float32)[..., tf.newaxis]


def _as_matrix(tensor: tf.Tensor) -> tf.Tensor:
    """[..., width] -> [rows, width]. A matrix stays as it is: no op enters the exported scorer."""
    return tensor if tensor.shape.rank == 2 else tf.reshape(tensor, [-1, tensor.shape[-1]])


def _like(matrix: tf.Tensor, example: tf.Tensor) -> tf.Tensor:
    """[rows, width] -> [..., width] with the leading dimensions of `example`."""
    if example.shape.rank == 2:
        return matrix
    return tf.reshape(matrix, tf.concat([tf.shape(example)[:-1], [matrix.shape[-1]]], axis=0))
