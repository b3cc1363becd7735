"""Maps that are drawn: over items or events, within one another, with rounds that read others' elements."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nann.export.scorer import freeze_scorer, split_function
from nann.export.scorer._lower import lower
from nann.export.scorer._lowering import NotLowerableError
from nann.export.scorer._read import NotSplittableError
from nann.export.scorer.split import whole_scorer
from support.native_scores import TILE_ROWS, scores_of
from support.random_maps import D, L, RandomMaps
from support.splitting import FunctionModel, largest_difference

USERS = [np.random.default_rng(4).normal(size=(2, *shape)).astype(np.float32) for shape in ([L, D], [D])]


@settings(max_examples=4, derandomize=True, database=None)
@given(st.integers(0, 2**32 - 1))
def test_scores_are_tensorflows(seed: int) -> None:
    """Of one tile: a map may read other items. What no program covers is TensorFlow's."""
    score = RandomMaps(random.Random(seed).randrange)
    model = FunctionModel(score, dim=D, events=tf.TensorSpec([L, D]), taste=tf.TensorSpec([D]))
    function = freeze_scorer(model, tile_rows=TILE_ROWS).function
    assume(_runs(function))
    result = split_function(function, max_table_width=0)
    assert largest_difference(function, result) <= 1e-5
    try:
        program = lower(result.ir or whole_scorer(function)).to_bytes()
    except (NotSplittableError, NotLowerableError):
        return
    expected, found = (scores_of(result, USERS, each, range(TILE_ROWS)) for each in (b"", program))
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())


def _runs(function: Any) -> bool:
    """Whether TensorFlow has scores: it reads no element after the last."""
    try:
        function(*(tf.zeros(each.shape) for each in function.inputs))
    except tf.errors.OpError:
        return False
    return True
