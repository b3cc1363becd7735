"""Scorers of two vectors: towers, mixtures of logits, neural collaborative filtering."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import layers, ops

from zoo.base import N, Ranker, broadcast, one_row
from zoo.blocks import Temperature, mask_of, mean_of, mlp


def tower(x: Any, *units: int, out: int) -> Any:
    """Dense layers with batch norms."""
    for width in units:
        x = layers.Activation("relu")(layers.BatchNormalization()(layers.Dense(width, use_bias=False)(x)))
    return layers.Dense(out)(x)


class TwoTower(Ranker):
    """Each side has its tower; the scorer is their dot product."""

    def user(self, item_ids: Any) -> dict[str, Any]:
        hist = self.embedded(item_ids)
        return {"user": tower(ops.concatenate([mean_of(hist), hist[:, -1]], axis=-1), 64, out=24)}

    def item(self, item_ids: Any) -> Any:
        return tower(self.items(item_ids), 64, out=24)

    def pair(self, user: Any, item: Any) -> Any:
        return layers.Dot(axes=1)([user, item])


class CosineTowers(Ranker):
    """Cosine of two towers over a learned temperature, both towers inside the scorer."""

    def pair(self, hist: Any, item: Any) -> Any:
        user = tower(ops.concatenate([mean_of(hist), hist[:, -1]], axis=-1), 64, out=32)
        user, item = layers.UnitNormalization()(user), layers.UnitNormalization()(tower(item, 64, out=32))
        return Temperature()(ops.sum(user * item, axis=-1, keepdims=True))


class CosineOneUser(CosineTowers):
    """Cosine of two towers for a batch of one user, which the product broadcasts."""

    repeat = staticmethod(one_row)


class SequentialTowers(Ranker):
    """Towers as keras.Sequential, layers.Dot with normalize, a sigmoid of a scaled cosine at the end."""

    def pair(self, hist: Any, item: Any) -> Any:
        user_tower = keras.Sequential(
            [
                layers.GlobalAveragePooling1D(),
                layers.Dense(48, activation="elu"),
                layers.Dropout(0.1),
                layers.Dense(24),
            ]
        )
        item_tower = keras.Sequential([layers.Dense(48, activation="elu"), layers.Dense(24)])
        cosine = layers.Dot(axes=1, normalize=True)([user_tower(hist), item_tower(item)])
        return layers.Activation("sigmoid")(layers.Rescaling(5.0)(cosine))


class MixtureOfLogits(Ranker):
    """4 x 4 cosines of user and item components, gates of the user, the item and the cosines themselves."""

    components, size = 4, 16

    def pair(self, hist: Any, item: Any) -> Any:
        k, d = self.components, self.size
        inputs = ops.concatenate([mean_of(hist), hist[:, -1], hist[:, -2]], axis=-1)
        users = ops.reshape(layers.Dense(k * d)(layers.Dense(64, activation="silu")(inputs)), (-1, k, d))
        items = ops.reshape(layers.Dense(k * d)(layers.Dense(64, activation="silu")(item)), (-1, k, d))
        users, items = ops.normalize(users, axis=-1), ops.normalize(items, axis=-1)
        logits = ops.reshape(ops.einsum("bud,bvd->buv", users, items), (-1, k * k)) * 10.0
        gates = [mlp(x, 32, activation="silu", out=k * k) for x in (inputs, item, logits)]
        weights = ops.softmax(gates[0] * gates[1] + gates[2])
        return ops.sum(weights * logits, axis=-1, keepdims=True)


class NeuMF(Ranker):
    """Neural matrix factorization: a product of embeddings beside an MLP, by the user's id."""

    vocabularies: ClassVar[dict[str, int]] = {"user_id": 500}
    repeat = staticmethod(broadcast)

    def inputs(self) -> dict[str, keras.KerasTensor]:
        return {"user_id": keras.Input([], dtype="int64", name="user_id")}

    def user(self, user_id: Any) -> dict[str, Any]:
        return {
            "factors": layers.Embedding(501, self.width)(user_id),
            "profile": layers.Embedding(501, 24)(user_id),
        }

    def item(self, item_ids: Any) -> Any:
        return ops.concatenate([self.items(item_ids), layers.Embedding(N + 1, 24)(item_ids)], axis=-1)

    def pair(self, factors: Any, profile: Any, item: Any) -> Any:
        product = layers.Multiply()([factors, item[:, : self.width]])
        x = layers.Concatenate()([profile, item[:, self.width :]])
        for width in (48, 24, 12):
            x = layers.Dense(width, activation="relu")(x)
        return layers.Dense(1, use_bias=False)(layers.Concatenate()([product, x]))


class LinearBandit(Ranker):
    """LinUCB over a layer of the item: ridge regression on the events, and a bound by a triangular system."""

    features = 8

    def pair(self, hist: Any, item: Any) -> Any:
        layer = layers.Dense(self.features, "tanh")
        seen, x = layer(hist) * ops.cast(mask_of(hist), "float32")[..., None], layer(item)
        seen_squared = ops.einsum("bld,ble->bde", seen, seen) + ops.eye(self.features)
        theta = ops.solve(seen_squared, ops.sum(seen, axis=1)[..., None])[..., 0]
        bound = ops.solve_triangular(ops.cholesky(seen_squared), x[..., None], lower=True)[..., 0]
        expected = ops.sum(theta * x, axis=-1, keepdims=True)
        return expected + 0.5 * ops.norm(bound, axis=-1, keepdims=True)
