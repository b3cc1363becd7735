"""A function as a scorer: its program gives TensorFlow's scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from nann.export.scorer import freeze_scorer, split_function
from nann.export.scorer._lower import lower
from nann.export.scorer.split import whole_scorer
from support.native_scores import TILE_ROWS, scores_of
from support.splitting import FunctionModel, frozen, largest_difference

Score = Callable[[Any, tf.Tensor], tf.Tensor]


def lowered(score: Score, *, max_table_width: int = 0, **state: Any) -> tuple[Any, Any]:
    """The split scorer and its program. state: [users, ...] of each of the user's tensors."""
    specs = {name: tf.TensorSpec(value.shape[1:], value.dtype) for name, value in state.items()}
    function = freeze_scorer(FunctionModel(score, **specs), tile_rows=TILE_ROWS).function
    result = split_function(function, max_table_width=max_table_width)
    return result, lower(result.ir or whole_scorer(function))


def compare(score: Score, *, max_table_width: int = 0, **state: Any) -> None:
    """The program's scores are TensorFlow's. state: as `lowered` takes it."""
    result, program = lowered(score, max_table_width=max_table_width, **state)
    expected = np.asarray(scores_of(result, list(state.values()), b""))
    found = np.asarray(scores_of(result, list(state.values()), program.to_bytes()))
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5 * np.abs(expected).max())


def compare_with_traced(score: Score, *, max_table_width: int = 256, **state: Any) -> None:
    """There is a program, and what it was made from, where that was split, has the scores of what was traced.

    Where not, `compare` compares with what was traced.
    """
    specs = {name: tf.TensorSpec(value.shape, value.dtype) for name, value in state.items()}
    function = frozen(score, **specs).function
    result = split_function(function, max_table_width=max_table_width)
    assert largest_difference(function, result, [tf.constant(each) for each in state.values()]) <= 1e-5
    lower(result.ir or whole_scorer(function))


def weighted(x: tf.Tensor) -> tf.Tensor:
    """A number per item that tells places apart."""
    flat = tf.reshape(x, [x.shape[0], -1])
    return tf.linalg.matvec(flat, tf.linspace(0.5, 1.5, flat.shape[1]))
