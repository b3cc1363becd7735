"""What `nann check` advises where TensorFlow runs a scorer."""

from __future__ import annotations

import pytest
import tensorflow as tf

from nann.export import _check
from nann.export.scorer import split_function
from nann.export.scorer._lower import lower
from nann.export.scorer._lowering import NotLowerableError
from support.splitting import frozen


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (
            "node nann_item_state/add_1 (AddV2): arithmetic of integers that may be beyond 2^24, or beyond "
            "their type",
            "Cast integers to float32",
        ),
        ("node random_features/gather (Foo): an operation that the native executor does not know", "Write"),
        (
            "node x/while (While): a loop of more than 512 rounds, or of rounds that only a request decides",
            "Unroll",
        ),
        (
            "node TopKV2 (TopKV2): top_k with sorted=False, whose results have an order of TensorFlow's own",
            "Call",
        ),
        (None, "The scores are right"),
    ],
)
def test_the_reason_counts_and_not_the_name_of_the_node(reason: str | None, advice: str) -> None:
    assert advice in _check._advice(reason)


def test_an_order_that_is_tensorflow_s_own_is_named() -> None:
    def score(user: dict[str, tf.Tensor], item_embs: tf.Tensor) -> tf.Tensor:
        largest = tf.math.top_k(item_embs * user["taste"], 3, sorted=False).values
        return tf.reduce_sum(largest * [3.0, 2.0, 1.0], axis=1)

    ir = split_function(frozen(score, taste=[8]).function, max_table_width=0).ir
    assert ir is not None
    with pytest.raises(NotLowerableError, match=r"TopKV2.*sorted=False") as refused:
        lower(ir)
    assert _check._advice(str(refused.value)) == "Call tf.math.top_k with sorted=True."
