"""Members of the zoo, trained for a minute on planted sequences: their scores then mean something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras.src.models.functional import Functional  # Keras exports it under no public name

from zoo.base import ITEM_IDS, Arrays, N, Ranker

Rows = npt.NDArray[np.int64]

# An item is among the candidates of a step some 120 times; losses have stopped falling fast by then.
STEPS = max(400, 3 * N // 50)
USERS, CANDIDATES = 64, 32
# Users that an export may choose and measure its walks by.
REQUESTS = 1024
# Items per planted cluster. The next event stays in the cluster, follows to the next one, or is any item.
CLUSTER, STAYS, FOLLOWS = 50, 0.45, 0.35
LEARNING_RATE = 2e-3


def can_be_trained(model: Any) -> bool:
    """Whether the member is three networks over the user's events, and candidates of the plain item side."""
    return (
        isinstance(model, Ranker)
        and "item_ids" in model.user_features
        and not model.item_state
        and isinstance(model.user_net, Functional)  # A subclass has arguments of its own.
    )


def train(model: Ranker, *, seed: int = 0) -> None:
    """Fit the networks of `model`: softmax over the next item and random others."""
    random = np.random.default_rng(seed)
    networks = [model.user_net, model.item_net, model.pair_net]
    variables = list({id(v): v for network in networks for v in network.trainable_variables}.values())
    optimizer = keras.optimizers.Adam(LEARNING_RATE, clipnorm=1.0)
    optimizer.build(variables)
    columns = {name: tf.constant(values) for name, values in model.item_features().items()}

    @tf.function(reduce_retracing=True)
    def step(features: dict[str, tf.Tensor], candidates: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            state = model.user_net(dict(features), training=True)
            flat = tf.reshape(candidates, [-1])
            items = model.item_net(
                {name: tf.gather(v, flat - 1) for name, v in columns.items()}, training=True
            )
            users = {name: tf.repeat(value, CANDIDATES, axis=0) for name, value in state.items()}
            logits = model.pair_net({**users, "item": items}, training=True)
            logits = tf.cast(tf.reshape(logits, [-1, CANDIDATES]), tf.float32)
            loss = tf.reduce_mean(-tf.nn.log_softmax(logits)[:, 0])
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    for _ in range(STEPS):
        features, following = users_of(model, random, USERS)
        others = random.integers(1, N + 1, (USERS, CANDIDATES - 1))
        loss = step(features, tf.constant(np.concatenate([following[:, None], others], axis=1)))
    assert np.isfinite(float(loss)), "expected a model that can be trained, found a loss that is not finite"


def users_of(model: Ranker, random: np.random.Generator, users: int) -> tuple[Arrays, Rows]:
    """Features of users as rows, with planted events, and the item row that follows, [users]."""
    length = int(model.user_features["item_ids"].shape[0])
    events = planted(random, users, length + 1)
    features = model.rows(model.draw(random, users))
    return {**features, "item_ids": events[:, :-1]}, events[:, -1]


def planted(random: np.random.Generator, users: int, length: int) -> Rows:
    """Item rows int64 [users, length]."""
    clusters = N // CLUSTER
    cluster = random.integers(0, clusters, users)
    rows = np.empty((users, length), np.int64)
    for place in range(length):
        chance = random.random(users)
        cluster = np.where(chance < STAYS, cluster, (cluster + 1) % clusters)
        cluster = np.where(chance < STAYS + FOLLOWS, cluster, random.integers(0, clusters, users))
        rows[:, place] = 1 + cluster * CLUSTER + random.integers(0, CLUSTER, users)
    return rows


def write_requests(model: Ranker, run_dir: Path) -> None:
    """`requests.npz` of users that the training did not see, by ids."""
    random = np.random.default_rng(1)
    requests = model.draw(random, REQUESTS)
    requests["item_ids"] = ITEM_IDS[planted(random, REQUESTS, requests["item_ids"].shape[1]) - 1]
    np.savez(run_dir / "requests.npz", **requests)
