"""When a split is left out: where nothing would be saved, but not where the native executor needs it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer import split
from nann.export.scorer._cost import Work
from nann.export.scorer._ir import constant
from nann.export.scorer._search import Plan
from support.programs import Score
from support.splitting import frozen

TABLE = np.random.default_rng(5).normal(size=(9, 8)).astype(np.float32)


def _by_row(user: Any, item: tf.Tensor) -> tf.Tensor:
    """The native executor looks no rows up by what items say: a table holds them."""
    rows = tf.gather(TABLE, tf.cast(tf.abs(item[:, 0]), tf.int32) % 9)
    return tf.reduce_sum(tf.tanh(rows * user["x"]), 1)


def _by_numbers(user: Any, item: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.tanh(item * user["x"]), 1)


@pytest.mark.parametrize(("score", "reason"), [(_by_row, None), (_by_numbers, "nothing would be saved")])
def test_what_only_a_split_makes_native_is_split(
    score: Score, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it costs: costs are those of TensorFlow's operations, of which a loop has many small ones."""
    for_nothing = Plan(constant(0.0), (), (), Work(), Work(), 1)
    monkeypatch.setattr(split, "plan_as_traced", lambda graph: for_nothing)
    result = split.split_function(frozen(score, x=[8]).function, max_table_width=64)
    assert result.report.reason == reason
