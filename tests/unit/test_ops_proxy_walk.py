"""The proxy walk of the op is the oracle's, decision by decision."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import nann.ops
from nann.export.index.cholesky import solve
from nann.export.index.oracle import adaptive_search
from nann.export.index.proxy_oracle import ProxyTables, proxy_search
from nann.ops import ProxyWalk
from support.graphs import DIM, Corpus, random_corpus
from support.proxy_cases import SCORER, TILE_ROWS, index_of, numpy_score, proxy_of


def walk_all(corpus: Corpus, proxy: ProxyTables, users, level_topn, exclude_ids=None, *, expand: int = 0):
    with tempfile.TemporaryDirectory() as folder:
        return nann.ops.beam_search(
            index_of(corpus, proxy, Path(folder)),
            [users],
            level_topn,
            exclude_ids,
            scorer=SCORER,
            tile_rows=TILE_ROWS,
            expand=expand,
            proxy=proxy.walk,
        )


def assert_is_oracles(found, corpus: Corpus, proxy: ProxyTables, users, level_topn, exclude_ids, expand=3):
    for row, user in enumerate(users):
        beams = np.broadcast_to(level_topn, (len(users), np.shape(level_topn)[-1]))[row]
        ids, scores, items_scored = proxy_search(
            corpus.graph,
            corpus.item_ids,
            numpy_score(corpus, user),
            beams,
            exclude_ids[row],
            proxy=proxy,
            expand=expand,
        )
        k = len(ids)
        np.testing.assert_array_equal(found.ids[row][:k], ids)
        np.testing.assert_array_equal(found.scores[row][:k], scores)
        assert int(found.items_scored[row]) == items_scored


@settings(max_examples=40)
@given(data=st.data())
def test_the_proxy_walk_is_the_oracles(data: st.DataObject) -> None:
    hops = data.draw(st.sampled_from([(3,), (3, 1)]))
    corpus = random_corpus(
        data.draw(st.integers(0, 2**32)),
        num_items=data.draw(st.sampled_from([1, 40, 400, 1200])),
        hops=hops,
        degree=data.draw(st.integers(0, 12)),
        sparsity=data.draw(st.sampled_from([0.0, 0.3])),
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    if corpus.graph.meta.num_items == 1:
        corpus.item_embs[:] = 0
    proxy = proxy_of(
        corpus,
        rng,
        columns=data.draw(st.sampled_from([16, 32, 64])),
        good=data.draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])),
        anchors=data.draw(st.sampled_from([1, 20])),
        clusters=data.draw(st.sampled_from([0, 8])),
        survey=data.draw(st.integers(1, 4)),
        slack=data.draw(st.sampled_from([0.0, 1.0, 3.0])),
        batch=data.draw(st.sampled_from([1, 16, 48])),
        patience=data.draw(st.sampled_from([1, 2, 30])),
        probes=data.draw(st.booleans()),
    )
    users = rng.integers(-2, 3, (data.draw(st.integers(1, 3)), DIM)).astype(np.float32)
    # For some users a part of the items scores NaN, or infinity.
    users[rng.random(len(users)) < 0.5, -1] = data.draw(st.sampled_from([8, 9]))
    shape = (len(users), 2 + sum(hops)) if data.draw(st.booleans()) else (2 + sum(hops),)
    level_topn = rng.integers(1, data.draw(st.sampled_from([12, 90])), shape).astype(np.int32)
    exclude_ids = rng.choice([-1, 5, *corpus.item_ids], (len(users), data.draw(st.integers(0, 5))))
    found = walk_all(corpus, proxy, users, level_topn, exclude_ids, expand=3)
    assert_is_oracles(found, corpus, proxy, users, level_topn, exclude_ids)


NO_EXCLUSIONS = np.zeros((1, 0), np.int64)
BEAMS = np.array([9, 60, 60, 60, 60, 10], np.int32)


def test_good_features_find_the_best_for_few_scores() -> None:
    corpus = random_corpus(1, num_items=4000, degree=12)
    corpus.item_embs[:] = np.random.default_rng(0).integers(-99, 99, corpus.item_embs.shape)
    # The graph is random: the survey must see nearly all of it.
    proxy = proxy_of(corpus, np.random.default_rng(1), good=1.0, noise=0.01, survey=80)
    users = np.array([[1, -2, 1]], np.float32)
    found = walk_all(corpus, proxy, users, BEAMS)
    assert_is_oracles(found, corpus, proxy, users, BEAMS, NO_EXCLUSIONS)
    best = np.argsort(-(corpus.item_embs @ users[0]), kind="stable")[:10]
    assert set(found.ids[0].numpy()) == set(corpus.item_ids[best])
    assert int(found.items_scored[0]) < 700


@pytest.mark.parametrize(("rank", "least", "most"), [(-1, 1.0, 1.0), (0, 0.9, 1.1)], ids=["worst", "best"])
def test_one_exclusion_costs_what_none_costs(rank: int, least: float, most: float) -> None:
    corpus = random_corpus(1, num_items=6000, degree=12)
    corpus.item_embs[:] = np.random.default_rng(0).integers(-99, 99, corpus.item_embs.shape)
    proxy = proxy_of(corpus, np.random.default_rng(1), good=0.9, noise=0.1, survey=8, slack=1.0)
    users = np.array([[1, -2, 1]], np.float32)
    ranked = corpus.item_ids[np.argsort(-(corpus.item_embs @ users[0]), kind="stable")]
    without = walk_all(corpus, proxy, users, BEAMS)
    found = walk_all(corpus, proxy, users, BEAMS, ranked[[[rank]]])
    assert_is_oracles(found, corpus, proxy, users, BEAMS, ranked[[[rank]]])
    assert least <= int(found.items_scored[0]) / int(without.items_scored[0]) <= most
    expected = [item for item in without.ids[0].numpy() if item != ranked[rank]]
    np.testing.assert_array_equal(found.ids[0][: len(expected)], expected)


@pytest.mark.parametrize("user", [[0, 0, 0], [0, 0, 9]], ids=["constant", "not finite"])
def test_scores_that_say_nothing_are_walked_adaptively(user) -> None:
    corpus = random_corpus(2, num_items=400, degree=8)
    corpus.item_embs[:, 0] = 1
    corpus.item_embs[:, 2] = 0
    rng = np.random.default_rng(3)
    anchors = np.sort(rng.choice(400, 20, replace=False))
    walk = ProxyWalk(features="f", samples="s", noise=0.1)
    proxy = ProxyTables(walk, rng.normal(size=(400, 16)).astype(np.float32), anchors)
    found = walk_all(corpus, proxy, np.array([user], np.float32), BEAMS, expand=3)
    ids, scores, items_scored = adaptive_search(
        corpus.graph, corpus.item_ids, numpy_score(corpus, np.array(user)), BEAMS, expand=3
    )
    np.testing.assert_array_equal(found.ids[0], ids)
    np.testing.assert_array_equal(found.scores[0], scores)
    assert int(found.items_scored[0]) == items_scored + 20


def test_the_batch_changes_no_answer() -> None:
    corpus = random_corpus(4, num_items=1200, degree=10)
    proxy = proxy_of(corpus, np.random.default_rng(5))
    users = np.random.default_rng(6).integers(-2, 3, (6, DIM)).astype(np.float32)
    together = walk_all(corpus, proxy, users, BEAMS)
    for row in range(len(users)):
        alone = walk_all(corpus, proxy, users[row : row + 1], BEAMS)
        np.testing.assert_array_equal(alone.ids[0], together.ids[row])
        assert int(alone.items_scored[0]) == int(together.items_scored[row])


def test_features_that_are_no_numbers_do_no_harm() -> None:
    corpus = random_corpus(7, num_items=400, degree=8)
    proxy = proxy_of(corpus, np.random.default_rng(8))
    for value in (np.nan, np.inf):
        proxy.features[:, 3] = value
        found = walk_all(corpus, proxy, np.ones((1, DIM), np.float32), BEAMS)
        assert (found.ids.numpy() >= 0).any()


@pytest.mark.parametrize(
    ("features", "samples", "options", "message"),
    [
        (np.zeros((60, 24)), [0], {}, r"proxy_features: expected .* multiple of 16, found 24"),
        (np.zeros((60, 16)), [60], {}, r"proxy_samples: expected .* 0 to 59, first, found 60"),
        (np.zeros((60, 16)), [], {}, r"proxy_samples: expected .* first, found no sample"),
        (np.zeros((60, 16)), [-1], {}, r"proxy_samples: expected .* first, found -1"),
        (np.zeros((60, 16)), [0], {"noise": 0.0}, r"expected proxy_noise above 0.*found 0"),
        (np.zeros((60, 16)), [0], {"slack": -1.0}, r"proxy_slack of at least 0.*found .*-1"),
    ],
)
def test_tables_and_parameters_are_checked(features, samples, options, message: str) -> None:
    corpus = random_corpus(9)
    walk = ProxyWalk(features="f", samples="s", **{"noise": 0.1, **options})
    proxy = ProxyTables(walk, features.astype(np.float16), np.array(samples, np.int64))
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        walk_all(corpus, proxy, np.ones((1, DIM), np.float32), BEAMS)


def test_the_normal_equations_are_solved() -> None:
    rng = np.random.default_rng(10)
    rows = rng.normal(size=(50, 16))
    normal, right = rows.T @ rows + np.eye(16), rng.normal(size=16)
    np.testing.assert_allclose(solve(normal, right), np.linalg.solve(normal, right), rtol=1e-9)
