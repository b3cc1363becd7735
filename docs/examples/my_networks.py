"""Keras networks that `nann train --model my_networks:din_like` trains. docs/training.md explains them."""

from collections.abc import Mapping

import keras
from keras import layers, ops

from nann.export import from_keras


def din_like(rows: Mapping[str, int], *, length: int = 20, width: int = 32) -> object:
    """What the candidate finds in the user's events, and the candidate, in a small network."""
    table = layers.Embedding(rows["item_ids"], width, name="items")
    events = keras.Input([length], dtype="int64", name="item_ids")
    user = keras.Model({"item_ids": events}, {"events": table(events)})

    ids = keras.Input([], dtype="int64", name="item_ids")
    item = keras.Model({"item_ids": ids}, table(ids))

    history = keras.Input([length, width], name="events")
    candidate = keras.Input([width], name="item")
    weights = ops.softmax(ops.einsum("ble,be->bl", history, candidate) * width**-0.5)
    found = ops.einsum("bl,ble->be", weights, history)
    hidden = layers.Dense(width, activation="gelu")(layers.concatenate([found * candidate, candidate]))
    scorer = keras.Model({"events": history, "item": candidate}, layers.Dense(1)(layers.Dropout(0.2)(hidden)))
    return from_keras(user=user, item=item, scorer=scorer)
