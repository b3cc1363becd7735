"""The native executor gives TensorFlow's scores, and says what it cannot run."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import nann.ops
from nann.export.constants import freeze
from nann.export.scorer._lower import lower
from nann.export.scorer._lowering import NotLowerableError
from nann.export.scorer.split import whole_scorer
from support.graphs import DIM, random_corpus

TILE_ROWS = 8
RNG = np.random.default_rng(5)
MATRIX = RNG.normal(size=(DIM, 7)).astype(np.float32)
VECTOR = RNG.normal(size=7).astype(np.float32)


def attention(keys, items):
    weights = tf.nn.softmax(tf.matmul(items, keys, transpose_b=True) / 3.0)
    return tf.reduce_sum(tf.matmul(weights, keys) * items, axis=1)


def layer_norm(keys, items):
    hidden = tf.matmul(items, MATRIX) + VECTOR
    mean = tf.reduce_mean(hidden, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(hidden, mean), axis=1, keepdims=True)
    return tf.reduce_max((hidden - mean) * tf.math.rsqrt(variance + 1e-3) * VECTOR, axis=1)


def perceptron(keys, items):
    joined = tf.concat([tf.matmul(items, keys, transpose_b=True), items[:, 1:], items], axis=1)
    hidden = tf.nn.bias_add(tf.matmul(joined, np.ones((joined.shape[1], 7), np.float32)), VECTOR)
    hidden = tf.nn.relu(hidden) - VECTOR * tf.nn.relu(-hidden)  # Not PReLU's usual sign: still right.
    hidden = tf.nn.relu(hidden) + VECTOR * tf.nn.relu(-hidden)
    return tf.matmul(hidden, VECTOR[:, None])[:, 0]


def many_functions(keys, items):
    first, second = tf.split(tf.matmul(items, MATRIX[:, :6]), [2, 4], axis=1)
    halves = tf.split(second, 2, axis=-1)
    x = tf.nn.sigmoid(first) * tf.tanh(halves[0]) + tf.nn.leaky_relu(halves[1], 0.1)
    gelu = 0.5 * x * (1.0 + tf.math.erf(x / np.sqrt(2.0)))
    column = tf.exp(tf.reduce_min(gelu, axis=1, keepdims=True))
    total = tf.squeeze(column, 1) + tf.reshape(tf.abs(x[:, :1]), [-1])
    return tf.minimum(total, 50.0) / tf.maximum(tf.square(first[:, 1]), 0.5)


def inner_product(keys, items):
    return tf.matmul(items, keys[:1], transpose_b=True)[..., 0]


def squared_distance(keys, items):
    return -tf.reduce_sum(tf.square(items - keys[:1]), axis=1)


def user_after_item(keys, items):
    """Computes of the user what no user function does, and scales items by it."""
    return items[:, 0] * tf.nn.relu(keys)[0, 0] + tf.reduce_mean(keys @ MATRIX)


def beside_the_user(keys, items):
    joined = tf.concat([items, tf.repeat(keys[:1], items.shape[0], axis=0)], axis=1)
    return tf.reduce_sum(tf.nn.relu(joined), axis=1)


def pairs(keys, items):
    """As DIN: each item with each of the user's rows."""
    both = tf.nn.sigmoid(items[:, tf.newaxis] * keys + tf.abs(items[:, tf.newaxis] - keys))
    weights = tf.nn.softmax(tf.tensordot(both, VECTOR[:DIM], 1))
    return tf.reduce_max(tf.where(weights > 0.2, weights, tf.reduce_min(both, axis=2)), axis=1)


DISTANCES = [inner_product, squared_distance]
SCORERS = [
    attention, layer_norm, perceptron, many_functions, user_after_item, beside_the_user, pairs, *DISTANCES,
]  # fmt: skip


def frozen(function, user_shape=(4, DIM)):
    signature = [tf.TensorSpec(user_shape), tf.TensorSpec([TILE_ROWS, DIM])]
    traced = tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
    return freeze(traced, what="score")


def program_of(scorer):
    return lower(whole_scorer(scorer)).to_bytes()


def split_first_key(function):
    """As the export splits: what only the user has is computed once; here the first row of the keys."""
    if function not in DISTANCES:
        return frozen(function), []
    user = tf.function(
        lambda keys: keys[:1], input_signature=[tf.TensorSpec([4, DIM])], autograph=False
    ).get_concrete_function()
    scorer = {
        inner_product: lambda key, items: tf.matmul(items, key, transpose_b=True)[..., 0],
        squared_distance: lambda key, items: -tf.reduce_sum(tf.square(items - key), axis=1),
    }[function]
    return frozen(scorer, (1, DIM)), [user]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    corpus = random_corpus(3, num_items=50, degree=8, sparsity=0.0)
    return nann.ops.IndexResource(**corpus.write(tmp_path_factory.mktemp("native")))


@pytest.mark.parametrize("function", SCORERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_both_executors_score_alike(index, function, precision, tolerance) -> None:
    rng = np.random.default_rng(36)  # No weight of `pairs` is near 0.2, where the last bits choose a branch.
    users = rng.normal(size=(3, 4, DIM)).astype(np.float32)
    positions = rng.integers(-1, 50, (3, 21)).astype(np.int32)
    scorer, user_functions = split_first_key(function)

    def scores(scorer, **options):
        return nann.ops.score_items(index, [users], positions, scorer=scorer, tile_rows=TILE_ROWS, **options)

    expected = scores(frozen(function)).numpy()
    program = program_of(frozen(function))
    native = {"user_functions": user_functions, "program": program, "precision": precision}
    known = positions >= 0
    scale = np.abs(expected[known]).max()
    np.testing.assert_allclose(
        scores(scorer, **native).numpy()[known], expected[known], atol=tolerance * scale
    )
    np.testing.assert_array_equal(scores(scorer, **native).numpy()[~known], -np.inf)
    with_function = scores(scorer, user_functions=user_functions).numpy()[known]
    np.testing.assert_allclose(with_function, expected[known], atol=1e-5 * scale)


def test_both_executors_walk_alike(tmp_path) -> None:
    """On real numbers: between equal items the last bits would choose, which differ between processors."""
    rng = np.random.default_rng(7)
    corpus = random_corpus(3, num_items=50, degree=8, sparsity=0.0)
    corpus.item_embs[:] = rng.normal(size=corpus.item_embs.shape)
    index = nann.ops.IndexResource(**corpus.write(tmp_path))
    users = rng.normal(size=(5, 4, DIM)).astype(np.float32)
    level_topn = np.array([3, 9, 9, 9, 9, 12], np.int32)
    scorer = frozen(attention)
    answers = [
        nann.ops.beam_search(index, [users], level_topn, scorer=scorer, tile_rows=TILE_ROWS, program=program)
        for program in (b"", program_of(scorer))
    ]
    np.testing.assert_array_equal(answers[0].items_scored, answers[1].items_scored)
    np.testing.assert_allclose(answers[0].scores, answers[1].scores, rtol=1e-5, atol=1e-6)
    for expected, actual in zip(answers[0].ids.numpy(), answers[1].ids.numpy(), strict=True):
        assert set(expected) == set(actual)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda keys, items: tf.math.lgamma(items)[:, 0], "an operation that the native executor"),
        (lambda keys, items: tf.reduce_sum(items, axis=0)[:1] + items[:, 0], "another axis than the columns"),
        (
            lambda keys, items: items * tf.concat([keys, keys], 0)[:, :1] @ MATRIX[:, 0:1],
            "an operand of the user that differs from item to item",
        ),
        (
            lambda keys, items: tf.nn.softmax(tf.transpose(items))[0],
            "a tensor whose first axis is not the items",
        ),
        (lambda keys, items: tf.reshape(tf.reshape(items, [-1])[:TILE_ROWS], [-1]), "mixes rows and columns"),
        (lambda keys, items: tf.nn.softmax(items[:, 0]), "a softmax over the items of a tile"),
    ],
)
def test_a_scorer_that_it_cannot_run_is_refused_with_its_node(index, function, message) -> None:
    users = np.zeros((1, 4, DIM), np.float32)
    positions = np.zeros((1, 2), np.int32)
    scorer = frozen(function)
    nann.ops.score_items(index, [users], positions, scorer=scorer, tile_rows=TILE_ROWS)  # TensorFlow can.
    with pytest.raises(NotLowerableError, match=f"node .*{message}"):
        program_of(scorer)


@pytest.mark.parametrize("function", SCORERS, ids=lambda f: f.__name__)
def test_an_export_can_ask_first(function) -> None:
    assert lower(whole_scorer(frozen(function))).is_similarity() == (function in DISTANCES)
    with pytest.raises(NotLowerableError) as problem:
        program_of(frozen(lambda keys, items: tf.math.lgamma(items)[:, 0]))
    assert str(problem.value) == "node Lgamma (Lgamma): an operation that the native executor does not know"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda program: b"\xff\xff\xff", "3 bytes that do not begin as a scorer program does"),
        (lambda program: program[:-4], "[0-9]+ bytes, expected .* as the header has it"),
        (lambda program: program[:8] + b"\5" + program[9:], "version 5, this library runs versions 1 to 4"),
    ],
)
def test_a_damaged_program_is_refused(index, damage, message) -> None:
    scorer = frozen(attention)
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=f"scorer_program: expected a program that can be run, found {message}",
    ):
        nann.ops.score_items(
            index,
            [np.zeros((1, 4, DIM), np.float32)],
            np.zeros((1, 2), np.int32),
            scorer=scorer,
            program=damage(program_of(scorer)),
            tile_rows=TILE_ROWS,
        )


@pytest.mark.parametrize(
    ("users", "tables", "message"),
    [
        (
            np.zeros((1, 5, DIM), np.float32),
            ["item_embs"],
            r"expected float32 \[4, 3\] .* found float \[5,3\]",
        ),
        (
            np.zeros((1, 4, DIM), np.float64),
            ["item_embs"],
            r"expected float32 \[4, 3\] .* found double \[4,3\]",
        ),
        (np.zeros((1, 4, DIM), np.float32), ["wide"], "expected a table of width 3 .* found width 9"),
    ],
)
def test_what_does_not_fit_a_program_is_refused(tmp_path, users, tables, message) -> None:
    files = random_corpus(3, num_items=50, degree=8, sparsity=0.0).write(tmp_path)
    np.save(tmp_path / "wide.npy", np.zeros((50, 9), np.float32))
    files["item_tables"] = {**files["item_tables"], "wide": tmp_path / "wide.npy"}
    scorer = frozen(attention)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        nann.ops.score_items(
            nann.ops.IndexResource(**files),
            [users],
            np.zeros((1, 2), np.int32),
            scorer=scorer,
            program=program_of(scorer),
            item_tables=tables,
            tile_rows=TILE_ROWS,
        )


def test_bfloat16_results_scored_again_are_float32s(tmp_path) -> None:
    """With a table of bfloat16 for the walk and one of float32 for the results, scores are float32's."""
    corpus = random_corpus(3, num_items=50, degree=8, sparsity=0.0)
    rng = np.random.default_rng(0)
    embs = rng.normal(size=(50, DIM)).astype(np.float32)
    files = corpus.write(tmp_path)
    np.save(tmp_path / "item_embs.npy", embs)
    np.save(tmp_path / "narrow.npy", (embs.view(np.uint32) >> 16).astype(np.uint16))
    files["item_tables"] = {**files["item_tables"], "narrow": tmp_path / "narrow.npy"}
    index = nann.ops.IndexResource(**files)
    users = rng.normal(size=(3, 4, DIM)).astype(np.float32)
    scorer = frozen(attention)
    native = {"scorer": scorer, "tile_rows": TILE_ROWS, "program": program_of(scorer)}
    level_topn = np.array([3, 50, 50, 50, 50, 9], np.int32)
    exact = nann.ops.beam_search(index, [users], level_topn, **native)
    narrow = {**native, "precision": "bfloat16", "item_tables": ["narrow"]}
    rough = nann.ops.beam_search(index, [users], level_topn, **narrow)
    again = nann.ops.beam_search(index, [users], level_topn, **narrow, rescore_tables=["item_embs"])
    assert not np.allclose(rough.scores, exact.scores, rtol=1e-5)
    # Beams as wide as the corpus lose nothing on the way.
    np.testing.assert_allclose(again.scores, exact.scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(again.ids, exact.ids)


@pytest.mark.parametrize("executor", ["native", "tensorflow"])
def test_time_is_counted_by_part(index, executor) -> None:
    users = RNG.normal(size=(64, 4, DIM)).astype(np.float32)
    scorer, user_functions = split_first_key(attention)
    before = nann.ops.metrics()
    nann.ops.beam_search(
        index,
        [users],
        np.array([3, 9, 9, 9, 9, 12], np.int32),
        scorer=scorer,
        user_functions=user_functions,
        tile_rows=TILE_ROWS,
        program=program_of(scorer) if executor == "native" else b"",
    )
    after = nann.ops.metrics()
    for part in ("user", "walk", "gather", "scorer"):
        assert after[f"/nann/{part}_micros"] > before[f"/nann/{part}_micros"], part
