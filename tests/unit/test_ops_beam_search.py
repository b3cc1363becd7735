"""The fused op, the walk composed of primitives and the NumPy oracle return the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import nann.ops
from nann.errors import InvalidInputError
from nann.export.index.oracle import adaptive_search as adaptive_oracle
from nann.export.index.oracle import beam_search as oracle
from nann.export.index.oracle import score_all as score_all_oracle
from support.graphs import DIM, Corpus, random_corpus


def dot_scorer(tile_rows: int):
    """score = user . item, NaN where the user's last value is 9 and the item's first value is 1."""

    def score(user, items):
        dropped = tf.logical_and(user[-1] == 9, items[:, 0] == 1)
        return tf.where(dropped, float("nan"), tf.linalg.matvec(items, user))

    signature = [tf.TensorSpec([DIM]), tf.TensorSpec([tile_rows, DIM])]
    return tf.function(score, input_signature=signature).get_concrete_function()


SCORERS = {tile_rows: dot_scorer(tile_rows) for tile_rows in (1, 4, 128)}


def numpy_score(corpus: Corpus, user):
    def score(positions):
        items = corpus.item_embs[positions]
        scores = (items @ user).astype(np.float32)
        return np.where((user[-1] == 9) & (items[:, 0] == 1), np.float32("nan"), scores)

    return score


def search_all(corpus: Corpus, users, level_topn, exclude_ids, tile_rows: int):
    """(fused, composed, oracle) answers of a batch; each is ids, scores, items_scored."""
    with tempfile.TemporaryDirectory() as folder:
        index = nann.ops.IndexResource(**corpus.write(Path(folder)))
        scorer = SCORERS[tile_rows]
        fused = nann.ops.beam_search(
            index, [users], level_topn, exclude_ids, scorer=scorer, tile_rows=tile_rows
        )
        rows = np.broadcast_to(level_topn, (len(users), np.shape(level_topn)[-1]))
        composed, expected = [], []
        for user, row, exclude in zip(users, rows, exclude_ids, strict=True):

            def score(positions, user=user):
                return nann.ops.score_items(
                    index, [user[None]], positions[None], scorer=scorer, tile_rows=tile_rows
                )[0]

            composed.append(nann.ops.composed_beam_search(index, score, tf.constant(row), exclude))
            expected.append(oracle(corpus.graph, corpus.item_ids, numpy_score(corpus, user), row, exclude))
    return fused, composed, expected


def assert_same(fused, composed, expected) -> None:
    width = fused.ids.shape[1]
    for row, (ids, scores, items_scored) in enumerate(expected):
        padding = width - len(ids)
        np.testing.assert_array_equal(fused.ids[row], np.pad(ids, (0, padding), constant_values=-1))
        padded = np.pad(scores, (0, padding), constant_values=-np.inf)
        np.testing.assert_array_equal(fused.scores[row], padded)
        assert int(fused.items_scored[row]) == items_scored
        np.testing.assert_array_equal(composed[row][0], ids)
        np.testing.assert_array_equal(composed[row][1], scores)
        assert int(composed[row][2]) == items_scored


@settings(max_examples=60)
@given(data=st.data())
def test_three_implementations_agree_on_random_graphs(data: st.DataObject) -> None:
    hops = data.draw(st.sampled_from([(3,), (3, 1), (1, 1), (2, 2, 1), (3, 1, 1, 1)]))
    corpus = random_corpus(
        data.draw(st.integers(0, 2**32)),
        num_items=data.draw(st.integers(1, 80)),
        hops=hops,
        degree=data.draw(st.integers(0, 8)),
        sparsity=data.draw(st.sampled_from([0.0, 0.3, 0.9])),
        num_enter_points=data.draw(st.integers(1, 9)),
    )
    batch = data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    users = rng.integers(-2, 3, (batch, DIM)).astype(np.float32)
    users[rng.random(batch) < 0.3, -1] = 9  # Users for whom some items score NaN.
    shape = (batch, 2 + sum(hops)) if data.draw(st.booleans()) else (2 + sum(hops),)
    level_topn = rng.integers(1, 12, shape).astype(np.int32)
    exclude_ids = rng.choice([-1, 5, *corpus.item_ids], (batch, data.draw(st.integers(0, 5))))
    tile_rows = data.draw(st.sampled_from(sorted(SCORERS)))
    assert_same(*search_all(corpus, users, level_topn, exclude_ids, tile_rows))


@settings(max_examples=60)
@given(data=st.data())
def test_the_adaptive_walk_is_the_oracles(data: st.DataObject) -> None:
    hops = data.draw(st.sampled_from([(3,), (3, 1), (2, 2, 1)]))
    corpus = random_corpus(
        data.draw(st.integers(0, 2**32)),
        num_items=data.draw(st.integers(1, 80)),
        hops=hops,
        degree=data.draw(st.integers(0, 8)),
        sparsity=data.draw(st.sampled_from([0.0, 0.3, 0.9])),
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    users = rng.integers(-2, 3, (data.draw(st.integers(1, 4)), DIM)).astype(np.float32)
    users[rng.random(len(users)) < 0.3, -1] = 9  # Users for whom some items score NaN.
    level_topn = rng.integers(1, 12, 2 + sum(hops)).astype(np.int32)
    exclude_ids = rng.choice([-1, 5, *corpus.item_ids], (len(users), data.draw(st.integers(0, 5))))
    expand = data.draw(st.sampled_from([1, 2, 7]))
    with tempfile.TemporaryDirectory() as folder:
        index = nann.ops.IndexResource(**corpus.write(Path(folder)))
        found = nann.ops.beam_search(
            index, [users], level_topn, exclude_ids, scorer=SCORERS[4], tile_rows=4, expand=expand
        )
    for row, user in enumerate(users):
        ids, scores, items_scored = adaptive_oracle(
            corpus.graph,
            corpus.item_ids,
            numpy_score(corpus, user),
            level_topn,
            exclude_ids[row],
            expand=expand,
        )
        np.testing.assert_array_equal(found.ids[row], ids)
        np.testing.assert_array_equal(found.scores[row], scores)
        assert int(found.items_scored[row]) == items_scored
        assert items_scored <= corpus.graph.meta.num_items


@pytest.mark.parametrize("hops", [(3,), (1, 1), (3, 1, 1, 1)])
def test_the_adaptive_walk_scores_no_item_twice(hops: tuple[int, ...]) -> None:
    corpus = random_corpus(3, hops=hops, degree=8, sparsity=0.0, num_enter_points=9)
    user = np.array([1, -2, 1], np.float32)
    scored: list[int] = []

    def score(positions):
        scored.extend(positions.tolist())
        return numpy_score(corpus, user)(positions)

    level_topn = [2, *(60,) * sum(hops), 60]
    ids, _, items_scored = adaptive_oracle(corpus.graph, corpus.item_ids, score, level_topn, expand=4)
    assert len(scored) == len(set(scored)) == items_scored
    # An item that an upper level or the entry beam dropped is still an answer.
    assert sorted(ids[ids >= 0]) == sorted(corpus.item_ids[scored])
    assert set(corpus.graph.enter_points) <= set(scored)


NO_EXCLUSIONS = np.zeros((1, 0), np.int64)


@settings(max_examples=30)
@given(data=st.data())
def test_all_items_are_scored_as_by_the_oracle(data: st.DataObject) -> None:
    corpus = random_corpus(
        data.draw(st.integers(0, 2**32)), num_items=data.draw(st.sampled_from([1, 2, 80, 8192, 8193, 20_000]))
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    users = rng.integers(-2, 3, (data.draw(st.integers(1, 4)), DIM)).astype(np.float32)
    users[rng.random(len(users)) < 0.3, -1] = 9  # Users for whom some items score NaN.
    level_topn = rng.integers(1, 300, 6).astype(np.int32)
    exclude_ids = rng.choice([-1, 5, *corpus.item_ids[:300]], (len(users), data.draw(st.integers(0, 50))))
    with tempfile.TemporaryDirectory() as folder:
        index = nann.ops.IndexResource(**corpus.write(Path(folder)))
        found = nann.ops.beam_search(
            index, [users], level_topn, exclude_ids, scorer=SCORERS[4], tile_rows=4, score_all=True
        )
    for row, user in enumerate(users):
        ids, scores, items_scored = score_all_oracle(
            corpus.graph, corpus.item_ids, numpy_score(corpus, user), level_topn, exclude_ids[row]
        )
        np.testing.assert_array_equal(found.ids[row], ids)
        np.testing.assert_array_equal(found.scores[row], scores)
        assert int(found.items_scored[row]) == items_scored == len(corpus.item_ids)


def test_ties_go_to_the_smaller_item_id() -> None:
    corpus = random_corpus(1, degree=8, sparsity=0.0)
    fused, composed, expected = search_all(
        corpus, np.zeros((1, DIM), np.float32), np.array([3, 9, 9, 9, 9, 20], np.int32), NO_EXCLUSIONS, 4
    )
    assert_same(fused, composed, expected)
    ids = fused.ids[0].numpy()
    assert list(ids[ids >= 0]) == sorted(ids[ids >= 0])


def test_all_scores_nan_gives_only_padding() -> None:
    corpus = random_corpus(2)
    corpus.item_embs[:, 0] = 1
    users = np.array([[0, 0, 9]], np.float32)
    fused, composed, expected = search_all(
        corpus, users, np.array([3, 9, 9, 9, 9, 5], np.int32), NO_EXCLUSIONS, 4
    )
    assert_same(fused, composed, expected)
    assert set(fused.ids[0].numpy()) == {-1}
    assert set(fused.scores[0].numpy()) == {-np.inf}
    assert int(fused.items_scored[0]) == 3


def test_a_graph_without_edges_returns_the_entry_points_padded() -> None:
    corpus = random_corpus(3, degree=0)
    fused, composed, expected = search_all(
        corpus, np.ones((1, DIM), np.float32), np.array([9, 9, 9, 9, 9, 10], np.int32), NO_EXCLUSIONS, 4
    )
    assert_same(fused, composed, expected)
    found = fused.ids[0].numpy()
    assert set(found[found >= 0]) == set(corpus.item_ids[corpus.graph.enter_points])
    assert (found[3:] == -1).all()


def test_k_larger_than_the_corpus_is_padded() -> None:
    corpus = random_corpus(4, num_items=5, degree=4, sparsity=0.0)
    fused, composed, expected = search_all(
        corpus, np.ones((1, DIM), np.float32), np.array([9, 9, 9, 9, 9, 50], np.int32), NO_EXCLUSIONS, 4
    )
    assert_same(fused, composed, expected)
    assert fused.ids.shape == (1, 50)
    assert (fused.ids[0].numpy() >= 0).sum() <= 5


def test_everything_excluded_gives_only_padding() -> None:
    corpus = random_corpus(5)
    fused, composed, expected = search_all(
        corpus,
        np.ones((1, DIM), np.float32),
        np.array([3, 9, 9, 9, 9, 5], np.int32),
        corpus.item_ids[None],
        4,
    )
    assert_same(fused, composed, expected)
    assert set(fused.ids[0].numpy()) == {-1}
    assert int(fused.items_scored[0]) > 5


def test_real_scores_agree_with_the_oracle(tmp_path: Path) -> None:
    """A float scorer: equal sets, order equal but for scores within 1e-5 (docs/design.md#the-search)."""
    corpus = random_corpus(6, num_items=400, degree=12)
    corpus.item_embs[:] = np.random.default_rng(0).normal(size=corpus.item_embs.shape)
    users = np.random.default_rng(1).normal(size=(5, DIM)).astype(np.float32)
    hidden = np.random.default_rng(2).normal(size=(2 * DIM, 16)).astype(np.float32)

    def network(xp, user, items):
        joined = xp.concatenate([items, items * user], 1) if xp is np else tf.concat([items, items * user], 1)
        return (np.tanh(joined @ hidden) if xp is np else tf.tanh(joined @ hidden)) @ hidden[0][:, None]

    scorer = tf.function(
        lambda user, items: network(tf, user, items)[:, 0],
        input_signature=[tf.TensorSpec([DIM]), tf.TensorSpec([128, DIM])],
    ).get_concrete_function()
    index = nann.ops.IndexResource(**corpus.write(tmp_path))
    level_topn = np.array([3, 20, 30, 30, 30, 40], np.int32)
    fused = nann.ops.beam_search(index, [users], level_topn, scorer=scorer)
    for row, user in enumerate(users):
        ids, scores, _ = oracle(
            corpus.graph,
            corpus.item_ids,
            lambda p, user=user: network(np, user, corpus.item_embs[p])[:, 0],
            level_topn,
        )
        assert set(fused.ids[row].numpy()) == set(ids)
        np.testing.assert_allclose(fused.scores[row], scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("level_topn", "message"),
    [
        ([3, 9, 9, 9, 9], "expected 6 values"),
        ([3, 9, 9, 9, 9, 9, 9], "expected 6 values"),
        ([3, 0, 9, 9, 9, 9], r"level_topn\[1\]: expected 1 to 65536, found 0"),
        ([3, 9, -4, 9, 9, 9], r"level_topn\[2\]: expected 1 to 65536, found -4"),
        ([3, 9, 9, 9, 9, 65537], r"level_topn\[5\]: expected 1 to 65536, found 65537"),
        ([3, 900, 9, 9, 9, 9], "at most 500 .*, found 1878 for a batch of 2.*level_topn.1. = 900"),
        ([[3, 9, 9, 9, 9, 9], [3, 9, 9, 9, 9, 300]], "at most 500 .*, found 678 for a batch of 2"),
        ([[3, 9, 9, 9, 9, 9]], r"expected shape \[n\] or \[batch = 2, n\] with n = 6, found \[1,6\]"),
        ([[[3, 9, 9, 9, 9, 9]]], r"expected shape \[n\] or \[batch = 2, n\] with n = 6, found \[1,1,6\]"),
    ],
)
def test_bad_level_topn_names_index_value_and_bound(tmp_path: Path, level_topn, message: str) -> None:
    index = nann.ops.IndexResource(**random_corpus(7).write(tmp_path))
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=message):
        nann.ops.beam_search(
            index,
            [np.zeros((2, DIM), np.float32)],
            np.array(level_topn, np.int32),
            scorer=SCORERS[128],
            max_work=500,
        )


def test_rows_that_are_not_valid_do_not_fail_their_neighbours(tmp_path: Path) -> None:
    corpus = random_corpus(7)
    index = nann.ops.IndexResource(**corpus.write(tmp_path))
    users = np.random.default_rng(0).integers(-3, 4, (3, DIM)).astype(np.float32)
    good, bad = [3, 20, 30, 30, 30, 10], [3, 0, 30, 30, 30, 40]

    def search(level_topn: list[list[int]], keep_valid_rows: bool = True) -> nann.ops.BeamSearchResult:
        beams = np.array(level_topn, np.int32)
        return nann.ops.beam_search(
            index, [users[: len(beams)]], beams, scorer=SCORERS[128], keep_valid_rows=keep_valid_rows
        )

    expected, found = search([good] * 3), search([good, bad, good])
    assert expected.row_status.numpy().tolist() == [0, 0, 0]
    assert found.row_status.numpy().tolist() == [0, 3, 0]
    for row in (0, 2):
        np.testing.assert_array_equal(found.ids[row], expected.ids[row])
        np.testing.assert_array_equal(found.scores[row], expected.scores[row])
    assert (found.ids[1].numpy() == -1).all()
    assert (found.scores[1].numpy() == -np.inf).all()
    assert found.items_scored[1] == 0
    message = r"level_topn\[\d+\]: expected 1 to 65536, found 0"
    for beams, keep in (([good, bad, good], False), ([bad, bad], True), ([bad], True)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            search(beams, keep)


def test_a_scorer_of_another_width_is_refused(tmp_path: Path) -> None:
    index = nann.ops.IndexResource(**random_corpus(8).write(tmp_path))
    wrong = tf.function(
        lambda user, items: tf.reduce_sum(items, 1)[:5],
        input_signature=[tf.TensorSpec([DIM]), tf.TensorSpec([128, DIM])],
    ).get_concrete_function()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected one output float32\[128\], found"):
        nann.ops.beam_search(
            index, [np.zeros((1, DIM), np.float32)], np.array([3, 9, 9, 9, 9, 9], np.int32), scorer=wrong
        )


def test_a_scorer_with_captures_is_refused(tmp_path: Path) -> None:
    index = nann.ops.IndexResource(**random_corpus(9).write(tmp_path))
    weight = tf.Variable(1.0)
    captures = tf.function(
        lambda user, items: tf.reduce_sum(items, 1) * weight,
        input_signature=[tf.TensorSpec([DIM]), tf.TensorSpec([128, DIM])],
    ).get_concrete_function()
    with pytest.raises(InvalidInputError, match="without captures"):
        nann.ops.beam_search(
            index, [np.zeros((1, DIM), np.float32)], np.array([3, 9, 9, 9, 9, 9], np.int32), scorer=captures
        )
