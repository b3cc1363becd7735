"""How far an export's scores may be from the model's: by the types that the model computes in."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from nann.export.scorer import freeze_scorer, split_scorer

D = 4
HALF, BRAIN = 4 * 2.0**-10, 4 * 2.0**-7


class _Model:
    """`score` is a product in `dtype`, of a state in `state`."""

    embedding_dim = D

    def __init__(self, dtype: Any, state: Any = tf.float32, *, nested: bool = False) -> None:
        self.user_state = {"user": tf.TensorSpec([D], state)}
        self._dtype = dtype
        self._product = tf.function(self._multiply, jit_compile=True) if nested else self._multiply

    def score(self, user_state: Any, item_embs: Any) -> Any:
        return self._product(tf.cast(item_embs, self._dtype), tf.cast(user_state["user"], self._dtype))

    def _multiply(self, items: Any, user: Any) -> Any:
        return tf.reduce_sum(items * user, axis=-1)


class _Rounding(_Model):
    """`score` is a product in float32 of what was rounded to `dtype`: of items, or of sums."""

    def __init__(self, dtype: Any, *, scores: bool = False, state: Any = None) -> None:
        super().__init__(dtype)
        self.item_state = {} if state is None else {"more": tf.TensorSpec([D], state)}
        self._of_scores = scores

    def score(self, user_state: Any, item_embs: Any, item_state: Any = None) -> Any:
        if item_state is not None:
            item_embs = item_embs + tf.cast(item_state["more"], tf.float32)
        if self._of_scores:
            return tf.cast(self._multiply(item_embs, user_state["user"]), self._dtype)
        return self._multiply(tf.cast(tf.cast(item_embs, self._dtype), tf.float32), user_state["user"])


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (_Model(tf.float32), 1e-5),
        (_Model(tf.float32, tf.float16), 1e-5),
        (_Model(tf.float64), 1e-5),
        (_Model(tf.float16), HALF),
        (_Model(tf.bfloat16), BRAIN),
        (_Model(tf.bfloat16, tf.float16), BRAIN),
        (_Model(tf.float16, nested=True), HALF),
        (_Rounding(tf.float16), HALF),
        (_Rounding(tf.bfloat16, scores=True), BRAIN),
        (_Rounding(tf.float32, state=tf.float16), 1e-5),
    ],
)
def test_the_tolerance_is_that_of_the_narrowest_type(model: Any, expected: float) -> None:
    scorer = freeze_scorer(model, tile_rows=3)
    assert scorer.tolerance == expected
    assert split_scorer(scorer, num_items=10, item_table_bytes=2**20).tolerance == expected
