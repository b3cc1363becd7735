"""The primitives one by one, with their shape functions and their bad inputs."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import nann.ops
from support.graphs import Corpus, random_corpus

CORPUS = random_corpus(11)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> nann.ops.IndexResource:
    folder = tmp_path_factory.mktemp("index")
    np.save(folder / "words.npy", np.array([3, 5, 8], np.int64))
    return nann.ops.IndexResource(**CORPUS.write(folder), user_tables={"words": folder / "words.npy"})


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return CORPUS


def test_ids_and_positions_are_inverse(index, corpus) -> None:
    positions = nann.ops.ids_to_positions(index, corpus.item_ids[None, ::-1])
    np.testing.assert_array_equal(positions, np.arange(60)[None, ::-1])
    np.testing.assert_array_equal(nann.ops.positions_to_ids(index, positions), corpus.item_ids[None, ::-1])


def test_unknown_ids_are_minus_one_and_back(index) -> None:
    unknown = nann.ops.ids_to_positions(index, np.array([-1, 10**15, -(2**63)], np.int64))
    np.testing.assert_array_equal(unknown, [-1, -1, -1])
    np.testing.assert_array_equal(nann.ops.positions_to_ids(index, unknown), [-1, -1, -1])


def test_lookup_rows_counts_from_one(index) -> None:
    rows = nann.ops.lookup_rows(index, np.array([[8, 3], [4, 0]], np.int64), table="words")
    np.testing.assert_array_equal(rows, [[3, 1], [0, 0]])


def test_neighbours_come_list_after_list(index, corpus) -> None:
    level = corpus.graph.levels[0]
    wanted = [7, 0, 7]
    expected = np.concatenate([level.values[level.row_splits[p] : level.row_splits[p + 1]] for p in wanted])
    np.testing.assert_array_equal(nann.ops.gather_neighbors(index, tf.constant(wanted), level=0), expected)


def test_filter_visited_does_not_change_its_input(index) -> None:
    empty = nann.ops.visited_set(index)
    fresh, one = nann.ops.filter_visited(empty, tf.constant([4, 2, 4]))
    np.testing.assert_array_equal(fresh, [4, 2])
    for _ in range(2):  # The same value gives the same answer, however often it is used.
        fresh, _ = nann.ops.filter_visited(one, tf.constant([2, 9]))
        np.testing.assert_array_equal(fresh, [9])
    fresh, _ = nann.ops.filter_visited(empty, tf.constant([4]))
    np.testing.assert_array_equal(fresh, [4])


def test_two_visited_sets_in_one_graph_are_two(index) -> None:
    @tf.function
    def both():
        first, _ = nann.ops.filter_visited(nann.ops.visited_set(index), tf.constant([1]))
        second, _ = nann.ops.filter_visited(nann.ops.visited_set(index), tf.constant([1]))
        return first, second

    for fresh in both():
        np.testing.assert_array_equal(fresh, [1])


def test_top_k_orders_by_score_then_id_and_drops_nan(index, corpus) -> None:
    positions = np.array([3, 1, 2, 0], np.int32)
    top, scores = nann.ops.top_k(index, positions, np.array([1, 1, np.nan, 5], np.float32), 10)
    ties = sorted([3, 1], key=lambda p: corpus.item_ids[p])
    np.testing.assert_array_equal(top, [0, *ties])
    np.testing.assert_array_equal(scores, [5, 1, 1])


def test_score_items_of_unknown_items_is_minus_infinity(index, corpus) -> None:
    scorer = tf.function(
        lambda user, items: tf.linalg.matvec(items, user),
        input_signature=[tf.TensorSpec([3]), tf.TensorSpec([4, 3])],
    ).get_concrete_function()
    users = np.array([[1, 0, 0], [0, 2, 0]], np.float32)
    positions = np.array([[5, -1, 6, 7, 8, 5], [-1, -1, -1, -1, -1, 9]], np.int32)
    scores = nann.ops.score_items(index, [users], positions, scorer=scorer, tile_rows=4)
    expected = np.where(positions < 0, -np.inf, np.einsum("bd,bnd->bn", users, corpus.item_embs[positions]))
    np.testing.assert_array_equal(scores, expected)


BAD_CALLS = {
    r"positions\[1\]: expected 0 to 59, found 60": lambda i: nann.ops.gather_neighbors(
        i, tf.constant([0, 60]), level=0
    ),
    "level: expected 0 to 1, found 2": lambda i: nann.ops.gather_neighbors(i, tf.constant([0]), level=2),
    r"positions\[0\]: expected 0 to 59, found -1": lambda i: nann.ops.filter_visited(
        nann.ops.visited_set(i), tf.constant([-1])
    ),
    "expected the output of Nann>VisitedSetCreate": lambda i: nann.ops.filter_visited(
        tf.raw_ops.EmptyTensorList(
            element_shape=tf.constant(-1), max_num_elements=tf.constant(1), element_dtype=tf.float32
        ),
        tf.constant([1]),
    ),
    "rows, value 0: expected 0 to 59": lambda i: nann.ops.gather_table_rows(
        i, tf.constant([60]), table="item_embs"
    ),
    r'expected one of the index\'s user tables \(words\), found "nothing"': lambda i: (
        nann.ops.gather_table_rows(i, tf.constant([0]), table="nothing")
    ),
    "words: expected a floating-point table": lambda i: nann.ops.gather_table_rows(
        i, tf.constant([0]), table="words"
    ),
    "item_embs: expected an int64 vocabulary": lambda i: nann.ops.lookup_rows(
        i, tf.constant([0], tf.int64), table="item_embs"
    ),
    r"positions \[n\] and scores \[n\], found \[2\] and \[1\]": lambda i: nann.ops.top_k(
        i, tf.constant([0, 1]), tf.constant([1.0]), 1
    ),
    "k: expected one value of at least 0": lambda i: nann.ops.top_k(
        i, tf.constant([0]), tf.constant([1.0]), -1
    ),
    "value 1: expected -1 to 59, found 99": lambda i: nann.ops.positions_to_ids(i, tf.constant([0, 99])),
}


@pytest.mark.parametrize("message", BAD_CALLS)
def test_bad_input_is_named(index, message: str) -> None:
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.NotFoundError), match=message):
        BAD_CALLS[message](index)


def test_shape_functions_infer_and_refuse(index) -> None:
    ops = nann.ops.load_library()

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.int64),
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None, 3]),
        ]
    )
    def shapes(ids, positions, users):
        assert nann.ops.ids_to_positions(index, ids).shape.as_list() == [None, 2]
        assert nann.ops.enter_points(index).shape.as_list() == [None]
        assert nann.ops.gather_table_rows(index, ids, table="item_embs").shape.as_list() == [None, 2, None]
        assert nann.ops.visited_set(index).shape.as_list() == []
        scorer = tf.function(
            lambda user, items: items[:, 0],
            input_signature=[tf.TensorSpec([3]), tf.TensorSpec([128, 3])],
        ).get_concrete_function()
        result = nann.ops.beam_search(index, [users], positions, scorer=scorer)
        assert result.ids.shape.as_list() == [None, None]
        assert result.items_scored.shape.as_list() == [None]
        with pytest.raises(ValueError, match="rank 1"):
            ops.nann_gather_neighbors(index.resource_handle, tf.cast(ids, tf.int32), level=0)
        with pytest.raises(ValueError, match="rank 2"):
            nann.ops.beam_search(index, [users], positions, ids[0], scorer=scorer)
        with pytest.raises(ValueError, match="Dimension"):
            nann.ops.beam_search(
                index, [tf.zeros([3, 3])], positions, tf.zeros([2, 1], tf.int64), scorer=scorer
            )
        return positions

    shapes.get_concrete_function()


def test_metrics_count_searches(index) -> None:
    scorer = tf.function(
        lambda user, items: items[:, 0], input_signature=[tf.TensorSpec([3]), tf.TensorSpec([128, 3])]
    ).get_concrete_function()
    before = nann.ops.metrics()
    result = nann.ops.beam_search(
        index, [np.zeros((2, 3), np.float32)], np.array([3, 5, 5, 5, 5, 1000], np.int32), scorer=scorer
    )
    added = {name: value - before[name] for name, value in nann.ops.metrics().items()}
    assert added["/nann/searches"] == 2
    assert added["/nann/padded_rows"] == 2
    assert added["/nann/items_scored"] == int(tf.reduce_sum(result.items_scored))
    assert added["/nann/hops"] == 8
    assert added["/nann/nan_items"] == 0
    # TensorFlow ran this scorer.
    assert added["/nann/scorer_micros"] > 0
