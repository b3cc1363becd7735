"""Whole scorers, split: the same scores, and each part where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nann.export.scorer import SplitScorer, freeze_scorer, split_function, split_scorer
from nann.training._model import ModelConfig, ReferenceModel
from support.random_scorer import RandomModel
from support.splitting import frozen, largest_difference, split
from support.tiny_model import TinyModel, TwoStatesModel

RANDOM = np.random.default_rng(0)
L, D = 5, 8

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # rewrites that do not settle


def variable(*shape: int) -> tf.Variable:
    return tf.Variable(RANDOM.normal(size=shape).astype(np.float32) * 0.4)


KERNEL, WIDE, NARROW = variable(D, D), variable(D, 512), variable(D, 2)
HIDDEN, OUTPUT = variable(3 * D, 16), variable(16, 1)


def ops(function: Any) -> list[str]:
    """TensorFlow's operations of a function that compute."""
    passive = {"Const", "Placeholder", "Identity", "StridedSlice", "Reshape"}
    return sorted(node.op for node in function.graph.as_graph_def().node if node.op not in passive)


def widths(result: SplitScorer) -> list[int]:
    return [column["width"] for column in result.report.item_columns]


def randomised(model: Any) -> Any:
    """Weights as after training: no bias of 0, no variance of 1."""
    random = np.random.default_rng(0)
    for each in model.variables:
        if "variance" in each.path or "gamma" in each.path:
            each.assign(random.uniform(0.5, 2, each.shape))
        elif any(name in each.path for name in ("bias", "mean", "beta", "alpha")):
            each.assign(random.normal(size=each.shape) * 0.3)
    return model


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_scorers_score_as_before(data: Any) -> None:
    _check_random_scorer(lambda n: data.draw(st.integers(0, n - 1)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(400))
def test_many_random_scorers_score_as_before(seed: int) -> None:
    random = np.random.default_rng(seed)
    _check_random_scorer(lambda n: int(random.integers(n)))


def _check_random_scorer(choose: Callable[[int], int]) -> None:
    model = RandomModel(choose, operations=1 + choose(60))
    function = freeze_scorer(model, tile_rows=7).function
    result = split_function(function, max_table_width=(4096, 0, 16, 48)[choose(4)])
    for seed in range(2):
        assert largest_difference(function, result, list(model.state(seed).values())) <= 1e-5


def test_a_wrong_split_is_told_from_rounding() -> None:
    """Where a score is the small difference of two large numbers, rounding alone is more than 1e-5 of it."""
    other = tf.Variable(WIDE + 1e-3 * np.random.default_rng(1).normal(size=WIDE.shape))

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(tf.matmul(item, KERNEL))
        return tf.linalg.matvec(x @ WIDE, user["long"]) - tf.linalg.matvec(x @ other, user["long"])

    scorer = frozen(score, long=[512])
    right = split_function(scorer.function, max_table_width=4096)
    assert largest_difference(scorer.function, right) <= 1e-5
    wrong = replace(right, item_function=lambda items: 2 * right.item_function(items))
    assert largest_difference(scorer.function, wrong) > 1e-4


def test_the_reference_model() -> None:
    model = randomised(ReferenceModel(ModelConfig(items=20, categories=5)))
    scorer = freeze_scorer(model, tile_rows=32)
    result = split_function(scorer.function, max_table_width=4096)
    assert largest_difference(scorer.function, result) <= 1e-5
    # Query, factors and the item's part of the first layer; the attention's output layer went to the user.
    assert widths(result) == [64, 64, 128]
    assert result.item_tables == ("scorer",)
    assert sorted(tuple(each["shape"]) for each in result.report.user_tensors) == [
        (1, 50), (50, 64), (50, 128), (64, 50),
    ]  # fmt: skip
    assert ops(result.function).count("MatMul") == 7
    assert result.report.flops_per_item["after"] < 0.55 * result.report.flops_per_item["before"]


def test_the_tiny_models() -> None:
    for model in (TinyModel(), TwoStatesModel()):
        scorer = freeze_scorer(model, tile_rows=6)
        result = split_function(scorer.function, max_table_width=4096)
        assert largest_difference(scorer.function, result) <= 1e-5
        assert result.report.reason is None


def test_an_item_projection_goes_to_the_user() -> None:
    """(item @ W) @ user^T is item @ (W @ user^T): the table is as wide as the item."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        weights = tf.nn.softmax(tf.matmul(tf.matmul(item, WIDE), user["keys"], transpose_b=True))
        return tf.reduce_sum(tf.matmul(weights, user["values"]), -1)

    result = split(score, keys=[L, 512], values=[L, 4])
    assert result.item_tables == ("item_embs",)
    assert ops(result.function) == ["MatMul", "MatMul", "Softmax"]


def test_an_output_projection_goes_to_the_user() -> None:
    """(p @ V) @ W is p @ (V @ W)."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        attended = tf.matmul(tf.nn.softmax(tf.matmul(item, user["keys"], transpose_b=True)), user["keys"])
        return tf.reduce_sum(tf.tanh(tf.matmul(attended, NARROW)), -1)

    result = split(score, keys=[L, D])
    assert [2, 5] not in [each["shape"] for each in result.report.user_tensors]
    assert [5, 2] in [each["shape"] for each in result.report.user_tensors]
    assert ops(result.function) == ["MatMul", "MatMul", "Softmax", "Sum", "Tanh"]


def test_a_network_over_user_and_item() -> None:
    """The first layer is half the user's and half the item's."""
    hidden = variable(D + 4, 32)

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        tiled = tf.repeat(user["profile"][tf.newaxis], tf.shape(item)[0], axis=0)
        x = tf.nn.relu(tf.matmul(tf.concat([item, tiled], -1), hidden) + 0.1)
        return tf.matmul(x, variable_of_32)[:, 0]

    variable_of_32 = variable(32, 1)
    result = split(score, profile=[4])
    assert ops(result.function) == ["AddV2", "MatMul", "Relu"]
    assert widths(result) == [32]
    assert [each["shape"] for each in result.report.user_tensors] == [[1, 32]]


def test_the_attention_of_din() -> None:
    first, second = keras.layers.Dense(9, "sigmoid"), keras.layers.Dense(1)

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        query = tf.tile(item[:, tf.newaxis], [1, L, 1])
        keys = tf.tile(user["events"][tf.newaxis], [tf.shape(item)[0], 1, 1])
        pairs = tf.concat([query, keys, query - keys, query * keys], -1)
        weights = tf.nn.softmax(tf.transpose(second(first(pairs)), [0, 2, 1]))
        attended = tf.matmul(weights, keys)[:, 0]
        return tf.reduce_sum(attended * item, -1)

    result = split(score, events=[L, D])
    assert "Tile" not in ops(result.function)
    assert "BatchMatMulV2" not in ops(result.function)
    flops = result.report.flops_per_item
    assert flops["after"] < 0.5 * flops["before"]


def test_heads_become_matrix_products() -> None:
    attention = keras.layers.MultiHeadAttention(2, 4)

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(attention(item[tf.newaxis], user["events"][tf.newaxis])[0] * item, -1)

    result = split(score, events=[L, D])
    assert not {"Einsum", "BatchMatMulV2", "Transpose"} & set(ops(result.function))
    assert ops(result.function).count("Softmax") == 2


def test_a_mask_becomes_part_of_the_keys() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        present = tf.reduce_any(user["events"] != 0, -1)
        logits = tf.where(present, tf.matmul(item, user["events"], transpose_b=True), -1e9)
        return tf.reduce_sum(tf.matmul(tf.nn.softmax(logits), user["events"]) * item, -1)

    assert "SelectV2" not in ops(split(score, events=[L, D]).function)


def test_batch_norms_and_biases_fold_away() -> None:
    layers = [
        keras.layers.BatchNormalization(), keras.layers.Dense(16), keras.layers.BatchNormalization(),
        keras.layers.PReLU(), keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dense(1),
    ]  # fmt: skip

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        x = item * user["taste"]
        for layer in layers:
            x = layer(x, training=False) if isinstance(layer, keras.layers.BatchNormalization) else layer(x)
        return x[:, 0]

    frozen(score, taste=[D])  # builds the layers
    for layer in layers:
        randomised(layer)
    # Two dense layers without an activation between them are one.
    assert ops(split(score, taste=[D]).function) == sorted(
        ["MatMul", "AddV2", "Relu", "Neg", "Relu", "Mul", "AddV2", "MatMul", "AddV2"]
    )


def test_control_flow_of_the_user_runs_once_a_request() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        taste = tf.cond(tf.reduce_sum(user["taste"]) > 0, lambda: user["taste"], lambda: -user["taste"])
        return tf.linalg.matvec(
            item, tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, tf.sin(x)), (0, taste))[1]
        )

    result = split(score, taste=[D])
    assert ops(result.function) == ["MatMul"]
    assert result.user_function is not None


def test_control_flow_over_the_items_stays_whole() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        rounds = tf.cast(tf.abs(user["taste"][0]), tf.int32) + 2  # Not known before a request.
        start = (0, tf.matmul(item, KERNEL))
        x = tf.while_loop(lambda i, x: i < rounds, lambda i, x: (i + 1, tf.sin(x)), start)[1]
        return tf.linalg.matvec(x, user["taste"])

    result = split(score, taste=[D])
    assert {"StatelessWhile", "While"} & set(ops(result.function))
    # The loop may mix the items: it is not in the table, what it reads is.
    assert widths(result) == [D]


def test_user_tensors_of_open_shape_stay_where_they_are() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        known = tf.boolean_mask(tf.tanh(user["events"]), user["present"])
        changes = known[1:] - known[:-1]  # Of places that are not lined up before a request.
        weights = tf.nn.softmax(tf.matmul(item, changes, transpose_b=True))
        return tf.reduce_sum(tf.matmul(weights, changes), -1)

    result = split(score, events=[L, D], present=tf.TensorSpec([L], tf.bool))
    shapes = [each["shape"] for each in result.report.user_tensors]
    assert [L, D] in shapes
    assert all(None not in shape for shape in shapes)


def test_products_of_a_number_of_rows_that_only_the_user_has() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        count = 1 + tf.math.floormod(user["count"], 3)
        rows = tf.tile(item[:, tf.newaxis], [1, count, 1])
        return tf.reduce_sum(tf.nn.relu(tf.matmul(rows, tf.matmul(KERNEL, KERNEL))), [1, 2])

    split(score, count=tf.TensorSpec([], tf.int32))


def test_several_user_tensors_of_other_types() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        taste = tf.reduce_sum(user["taste"], 0) + tf.cast(user["mood"], tf.float32)
        return tf.linalg.matvec(tf.matmul(item, KERNEL), taste)

    result = split(score, taste=[2, D], mood=tf.TensorSpec([D], tf.int32))
    assert [each["shape"] for each in result.report.user_tensors] == [[D, 1]]


def test_a_score_of_the_item_alone_is_one_column() -> None:
    result = split(lambda user, item: tf.reduce_sum(tf.nn.relu(tf.matmul(item, KERNEL)), -1), unused=[3])
    assert widths(result) == [1]
    assert result.report.table_width == 16
    assert result.user_function is None


def test_a_score_of_the_user_alone() -> None:
    result = split(
        lambda user, item: tf.repeat(tf.reduce_sum(user["taste"])[tf.newaxis], item.shape[0]), taste=[D]
    )
    assert result.item_tables == ("item_embs",)
    assert result.item_function is None


def test_a_constant_score() -> None:
    result = split(lambda user, item: tf.ones([item.shape[0]]), taste=[D])
    assert result.item_tables == ("item_embs",)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda x: x + tf.random.uniform(x.shape), "RandomUniform"),
        (
            lambda x: tf.cond(x[0, 0] > 0, lambda: x + tf.random.normal(x.shape), lambda: x),
            "RandomStandardNormal",
        ),
    ],
)
def test_state_and_randomness_are_left_alone(change: Callable[[tf.Tensor], tf.Tensor], name: str) -> None:
    scorer = frozen(
        lambda user, item: tf.linalg.matvec(change(tf.matmul(item, KERNEL)), user["taste"]), taste=[D]
    )
    result = split_function(scorer.function, max_table_width=4096)
    assert result.function is scorer.function
    assert (result.user_function, result.item_function, result.item_tables) == (None, None, ("item_embs",))
    assert result.report.reason is not None
    assert name in result.report.reason


def test_a_scorer_in_half_precision_is_split_in_float32() -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        hidden = tf.matmul(tf.cast(item, tf.float16), tf.cast(KERNEL, tf.float16)) + tf.constant(
            0.1, tf.float16
        )
        taste = tf.cast(tf.tanh(user["taste"]), tf.float16)
        return tf.cast(tf.linalg.matvec(tf.nn.relu(hidden), taste), tf.float32)

    scorer = frozen(score, taste=[D])
    result = split_function(scorer.function, max_table_width=4096)
    assert result.report.reason is None
    assert largest_difference(scorer.function, result) <= scorer.tolerance
    assert [each["dtype"] for each in result.report.user_tensors] == ["float32"]
    assert tf.float16 not in {
        tensor.dtype for each in result.function.graph.get_operations() for tensor in each.outputs
    }


def test_big_results_of_constants_are_not_written_into_the_graph() -> None:
    """2 MB of ones by broadcasting: computed, not stored."""

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        big = tf.reshape(tf.tile(tf.reshape(tf.range(512.0), [1, 512]), [1024, 1]), [1024, 512])
        big = tf.sin(big) * tf.range(1024.0)[:, tf.newaxis]
        return tf.linalg.matvec(item, user["taste"]) + 1e-9 * tf.reduce_sum(
            tf.linalg.matvec(big, user["long"])
        )

    result = split(score, taste=[D], long=[512])
    for function in (result.function, result.user_function):
        assert function.graph.as_graph_def().ByteSize() < 2**20


@pytest.mark.parametrize(
    ("max_width", "tables", "expected"),
    [
        (4096, ("scorer",), [D, 16]),  # the item beside what is computed from it: one row to fetch
        (16, ("item_embs", "scorer"), [16]),
        (0, ("item_embs",), []),
    ],
)
def test_the_budget_decides_what_is_stored(
    max_width: int, tables: tuple[str, ...], expected: list[int]
) -> None:
    kernels = variable(D, 256), variable(256, 16)

    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        hidden = tf.matmul(tf.nn.relu(tf.matmul(item, kernels[0])), kernels[1])
        return tf.linalg.matvec(tf.nn.relu(hidden + user["long"]), user["long"]) + tf.linalg.matvec(
            item, user["taste"]
        )

    result = split(score, max_width=max_width, taste=[D], long=[16])
    assert result.item_tables == tables
    assert sorted(widths(result)) == sorted(expected)


def test_the_budget_is_bytes_over_all_items() -> None:
    scorer = frozen(
        lambda user, item: tf.linalg.matvec(tf.nn.relu(tf.matmul(item, KERNEL)), user["taste"]), taste=[D]
    )
    assert split_scorer(scorer, num_items=1000, item_table_bytes=64_000).item_tables == ("scorer",)
    assert split_scorer(scorer, num_items=1000, item_table_bytes=63_999).item_tables == ("item_embs",)


def test_the_functions_capture_nothing() -> None:
    scorer = frozen(
        lambda user, item: tf.linalg.matvec(tf.nn.relu(tf.matmul(item, KERNEL)), user["taste"]), taste=[D]
    )
    result = split_scorer(scorer, num_items=10, item_table_bytes=2**20)
    for function in (result.function, result.item_function, *result.user_functions):
        assert not list(function.graph.internal_captures)
        assert [node.op for node in function.graph.as_graph_def().node].count("Placeholder") == len(
            function.inputs
        )
