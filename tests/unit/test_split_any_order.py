"""`tf.math.top_k(..., sorted=False)`: native where no score shows the order of what is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.export.scorer._lower import lower
from nann.export.scorer._lowering import NotLowerableError
from nann.export.scorer.split import split_function

EVENTS, DIM, TILE, K = 12, 6, 8, 4
RANKS = np.arange(1.0, K + 1, dtype=np.float32)


def _nearest(events: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """The events nearest to each item [n, K, DIM], in TensorFlow's own order."""
    found = tf.math.top_k(tf.matmul(items, events, transpose_b=True), k=K, sorted=False)
    return tf.gather(events, found.indices)


def attention(events: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    nearest = _nearest(events, items)
    shares = tf.nn.softmax(tf.einsum("nkd,nd->nk", nearest, items))
    return tf.einsum("nk,nkd,nd->n", shares, tf.tanh(nearest), items)


def by_rank(events: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    return tf.einsum("nkd,nd,k->n", _nearest(events, items), items, RANKS)


def _traced(score: Any, *, length: int | None = EVENTS) -> Any:
    specs = [tf.TensorSpec([length, DIM]), tf.TensorSpec([TILE, DIM])]
    return tf.function(score, input_signature=specs, autograph=False).get_concrete_function()


def test_the_nearest_in_any_order_are_native_where_scores_sum_over_them() -> None:
    function = _traced(attention)
    split = split_function(function, max_table_width=0)
    assert split.ir is not None
    lower(split.ir)
    random = np.random.default_rng(0)
    events, items = random.normal(size=(EVENTS, DIM)), random.normal(size=(TILE, DIM))
    inputs = [tf.constant(each, tf.float32) for each in (events, items)]
    of_user = [inputs[0]] if split.user_function is None else list(split.user_function(inputs[0]))
    np.testing.assert_allclose(split.function(*of_user, inputs[1]), function(*inputs), rtol=1e-5, atol=1e-5)


def test_an_order_that_a_score_shows_stays_that_of_tensorflow() -> None:
    split = split_function(_traced(by_rank), max_table_width=0)
    assert split.ir is not None
    with pytest.raises(NotLowerableError, match="sorted=False"):
        lower(split.ir)


def test_an_order_that_cannot_be_tried_stays_that_of_tensorflow() -> None:
    split = split_function(_traced(attention, length=None), max_table_width=0)
    left = [each for each in split.function.graph.get_operations() if each.type == "TopKV2"]
    assert [each.get_attr("sorted") for each in left] == [False]
