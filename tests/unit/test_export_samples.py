"""Users of an open length are embedded one at a time, and many of them by a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._samples import embedded
from nann.run.guard import guarded

USERS = 40
CLICKS = np.random.default_rng(0).integers(0, 9, (USERS, 5))
LENGTHS = 1 + np.arange(USERS, dtype=np.int32) % 5


class Model:
    """The sum of a user's clicks; `in_graph` says whether Python ran while TensorFlow traced."""

    def __init__(self, *, eager_only: bool = False) -> None:
        self.user_features = {"my clicks": tf.TensorSpec([None], tf.int64)}
        self.user_state = {"total": tf.TensorSpec([])}
        self.in_graph: list[bool] = []
        self._eager_only = eager_only

    def embed_user(self, features: Any) -> Any:
        clicks = features["my clicks"]
        self.in_graph.append(not tf.executing_eagerly())
        if self._eager_only:
            clicks = tf.constant(clicks.numpy())
        tf.debugging.assert_less(clicks, tf.constant(9, tf.int64), message="no such click")
        return {"total": tf.cast(tf.reduce_sum(clicks, 1), tf.float32)}


def embed(model: Model, clicks: Any = CLICKS) -> Any:
    return embedded(guarded(model), {"my clicks": clicks}, {"my clicks": LENGTHS})["total"]


@pytest.mark.parametrize("eager_only", [False, True])
def test_every_user_has_the_values_of_its_own(eager_only: bool) -> None:
    model = Model(eager_only=eager_only)
    expected = [row[:length].sum() for row, length in zip(CLICKS, LENGTHS, strict=True)]
    np.testing.assert_array_equal(embed(model), expected)
    assert model.in_graph == ([True] + [False] * USERS if eager_only else [True])


def test_what_is_wrong_with_one_is_said_as_of_a_few() -> None:
    clicks = CLICKS.copy()
    clicks[30, 0] = 10
    with pytest.raises(InvalidInputError, match=r"embed_user.*no such click"):
        embed(Model(), clicks)
