"""A search that filters is the oracle's, whatever the walk, and returns selected items only."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import nann.ops
from nann.export.index.filter_oracle import filtered_search
from nann.ops import AttributeFiles
from support.graphs import DIM, Corpus, random_corpus
from support.proxy_cases import SCORER, TILE_ROWS, index_of, numpy_score, proxy_of

WALKS = ("fixed", "adaptive", "proxy", "all")


@dataclass
class Case:
    """A corpus, a walk over it, and what it takes to search it."""

    corpus: Corpus
    walk: str
    rng: np.random.Generator

    def __post_init__(self) -> None:
        options = {"survey": int(self.rng.integers(1, 5)), "slack": float(self.rng.choice([0.0, 1.0]))}
        self.x = self.rng.integers(0, 1000, len(self.corpus.item_ids))
        self.proxy = proxy_of(self.corpus, self.rng, good=float(self.rng.choice([0.3, 1.0])), **options)

    @property
    def walk_options(self) -> dict[str, Any]:
        return {
            "expand": 0 if self.walk == "fixed" else 3,
            "proxy": self.proxy.walk if self.walk == "proxy" else None,
            "score_all": self.walk == "all",
        }

    def search(self, users, level_topn, exclude_ids, filters=None, **options):
        """The op's answer, over an index with the attribute x, `self.x`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "attribute_x.npy"
            np.save(path, self.x)
            attributes = [AttributeFiles("x", "int64", {"values": path})]
            index = index_of(self.corpus, self.proxy, Path(folder), attributes=attributes)
            options |= {"scorer": SCORER, "tile_rows": TILE_ROWS, **self.walk_options}
            return nann.ops.beam_search(index, [users], level_topn, exclude_ids, filters, **options)

    def oracle(self, user, level_topn, exclude_ids, **options):
        return filtered_search(
            self.corpus.graph,
            self.corpus.item_ids,
            numpy_score(self.corpus, user),
            level_topn,
            exclude_ids,
            everything=self.walk == "all",
            expand=self.walk_options["expand"],
            proxy=self.proxy if self.walk == "proxy" else None,
            **options,
        )

    def assert_is_oracles(self, found, row, user, level_topn, exclude_ids, **options) -> bool:
        """Compare a row with the oracle; returns whether the search was exact."""
        ids, scores, items_scored, exact = self.oracle(user, level_topn, exclude_ids, **options)
        np.testing.assert_array_equal(found.ids[row], ids)
        np.testing.assert_array_equal(found.scores[row], scores)
        assert int(found.items_scored[row]) == items_scored
        assert bool(found.exact[row]) == exact
        return exact


def random_case(data: st.DataObject, sizes: list[int]) -> Case:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    corpus = random_corpus(
        data.draw(st.integers(0, 2**32)),
        num_items=data.draw(st.sampled_from(sizes)),
        degree=data.draw(st.integers(0, 12)),
        sparsity=data.draw(st.sampled_from([0.0, 0.3])),
    )
    if len(corpus.item_ids) == 1:
        corpus.item_embs[:] = 0  # An anchor must not be one of the items that score NaN.
    return Case(corpus, data.draw(st.sampled_from(WALKS)), rng)


def random_users(rng: np.random.Generator, batch: int) -> npt.NDArray[np.float32]:
    """Users for some of whom a part of the items scores NaN."""
    users = rng.integers(-2, 3, (batch, DIM)).astype(np.float32)
    users[rng.random(batch) < 0.3, -1] = 9
    return users


def assert_is_best(ids: npt.NDArray[np.int64], corpus: Corpus, user, selected) -> None:
    """Compare an answer with brute force over the selected items."""
    scores = numpy_score(corpus, user)(np.arange(len(corpus.item_ids)))
    at = np.flatnonzero(selected & ~np.isnan(scores))
    best = corpus.item_ids[at[np.lexsort((corpus.item_ids[at], -scores[at]))[: ids.size]]]
    np.testing.assert_array_equal(ids[: best.size], best)
    assert (ids[best.size :] == -1).all()


@settings(max_examples=60)
@given(data=st.data())
def test_many_exclusions_are_a_filter(data: st.DataObject) -> None:
    case = random_case(data, [300, 900, 3000])
    corpus, rng = case.corpus, case.rng
    users = random_users(rng, 2)
    level_topn = rng.integers(1, data.draw(st.sampled_from([12, 90])), 6).astype(np.int32)
    left = data.draw(st.sampled_from([0, 3, 200, 600, 2000]))
    excluded = rng.permutation(corpus.item_ids)[: max(len(corpus.item_ids) - left, 0)]
    exclude_ids = (
        np.stack([excluded, rng.permutation(np.append(excluded[1:], -1))]) if excluded.size else None
    )
    if exclude_ids is None:
        exclude_ids = np.full((2, 1), -1)
    found = case.search(users, level_topn, exclude_ids)
    for row, user in enumerate(users):
        exact = case.assert_is_oracles(found, row, user, level_topn, exclude_ids[row])
        assert not np.isin(found.ids[row], exclude_ids[row][exclude_ids[row] >= 0]).any()
        if exact:
            selected = ~np.isin(corpus.item_ids, exclude_ids[row])
            assert_is_best(found.ids[row].numpy(), corpus, user, selected)


FILTERS = {
    "": lambda x: np.ones(x.shape, bool),
    "x < 500": lambda x: x < 500,
    "x >= 0": lambda x: x >= 0,
    "x IN (3, 7)": lambda x: np.isin(x, (3, 7)),
    "x BETWEEN 100 AND 199": lambda x: (x >= 100) & (x < 200),
    "x = -1": lambda x: x == -1,
}


@settings(max_examples=80)
@given(data=st.data())
def test_a_search_with_a_filter_is_the_oracles(data: st.DataObject) -> None:
    case = random_case(data, [1, 60, 900, 3000, 12_000])
    corpus, rng = case.corpus, case.rng
    users = random_users(rng, 3)
    level_topn = rng.integers(1, data.draw(st.sampled_from([12, 90])), 6).astype(np.int32)
    texts = [data.draw(st.sampled_from(sorted(FILTERS))) for _ in users]  # each row has its own
    exclude_ids = rng.choice([-1, *corpus.item_ids], (3, data.draw(st.sampled_from([1, 30, 300]))))
    found = case.search(users, level_topn, exclude_ids, tf.constant(texts))
    for row, user in enumerate(users):
        passes = FILTERS[texts[row]](case.x)
        exact = case.assert_is_oracles(
            found, row, user, level_topn, exclude_ids[row], passes=passes if texts[row] else None
        )
        assert int(found.passing[row]) == passes.sum()
        selected = passes & ~np.isin(corpus.item_ids, exclude_ids[row])
        ids = found.ids[row].numpy()
        assert np.isin(ids[ids >= 0], corpus.item_ids[selected]).all()
        if exact:
            assert_is_best(ids, corpus, user, selected)


@pytest.mark.parametrize("walk", WALKS)
def test_a_filter_that_many_items_pass_is_tested_item_by_item(walk: str) -> None:
    corpus = random_corpus(1, num_items=120_000, degree=8, sparsity=0.0)
    case = Case(corpus, walk, np.random.default_rng(2))
    users = np.array([[1, -2, 1], [2, 1, -1]], np.float32)
    beams = np.array([9, 40, 40, 40, 40, 30], np.int32)
    exclude_ids = case.rng.choice(corpus.item_ids, (2, 50))
    found = case.search(users, beams, exclude_ids, tf.constant(["x < 900", "x < 700"]))
    np.testing.assert_array_equal(found.passing, [-1, -1])
    for row, user in enumerate(users):
        passes = case.x < (900, 700)[row]
        case.assert_is_oracles(found, row, user, beams, exclude_ids[row], passes=passes, counted=False)
        assert np.isin(found.ids[row], corpus.item_ids[passes]).all()


def test_a_filter_that_is_not_valid_is_refused() -> None:
    case = Case(random_corpus(3), "adaptive", np.random.default_rng(4))
    beams, nothing = np.array([[9, 9, 9, 9, 9, 5]] * 2, np.int32), np.full((2, 1), -1)
    users = np.ones((2, DIM), np.float32)
    bad = tf.constant(["x <", "x < 500"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="filter, column 4"):
        case.search(users, beams, nothing, bad)
    found = case.search(users, beams, nothing, bad, keep_valid_rows=True)
    np.testing.assert_array_equal(found.row_status, [3, 0])
    assert (found.ids[0].numpy() == -1).all()
    assert int(found.passing[0]) == -1
    assert (found.ids[1].numpy() >= 0).any()
    with pytest.raises(tf.errors.InvalidArgumentError, match="filter, column 4"):
        case.search(users, beams, nothing, tf.constant(["x <", "x <"]), keep_valid_rows=True)


def test_how_searches_filter_is_counted() -> None:
    case = Case(random_corpus(7, num_items=900), "proxy", np.random.default_rng(8))
    users, beams = np.ones((3, DIM), np.float32), np.array([9, 9, 9, 9, 9, 5], np.int32)
    before = nann.ops.metrics()
    case.search(users, beams, np.full((3, 1), -1), tf.constant(["x < 100", "x < 900", ""]))
    added = {name: count - before[name] for name, count in nann.ops.metrics().items()}
    assert (added["/nann/filter_exact"], added["/nann/filter_scan"], added["/nann/filters"]) == (1, 1, 2)
    share = ((case.x < 100).sum() + (case.x < 900).sum()) / case.x.size
    assert added["/nann/filter_share_ppm"] == pytest.approx(1e6 * share, abs=2)


def test_filters_need_an_index_with_attributes_and_one_text_per_row() -> None:
    case = Case(random_corpus(5), "fixed", np.random.default_rng(6))
    beams, nothing = np.array([9, 9, 9, 9, 9, 5], np.int32), np.full((1, 1), -1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"filter: expected .* \[batch = 1\], found .*2"):
        case.search(np.ones((1, DIM), np.float32), beams, nothing, tf.constant(["", ""]))
    with tempfile.TemporaryDirectory() as folder:
        index = index_of(case.corpus, case.proxy, Path(folder))
        options = {"scorer": SCORER, "tile_rows": TILE_ROWS}
        user = [np.ones((1, DIM), np.float32)]
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"attributes, found none; .*attributes.parquet"
        ):
            nann.ops.beam_search(index, user, beams, nothing, tf.constant(["x < 5"]), **options)
        for text in ("", " \n"):
            every = nann.ops.beam_search(index, user, beams, nothing, tf.constant([text]), **options)
            assert int(every.passing[0]) == len(case.corpus.item_ids)
