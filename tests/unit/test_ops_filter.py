"""A search that filters is the oracle's, whatever the walk, and returns selected items only."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

import nann.ops
from nann.export.index.filter_oracle import filtered_search
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
        self.proxy = proxy_of(self.corpus, self.rng, good=float(self.rng.choice([0.3, 1.0])), **options)

    @property
    def walk_options(self) -> dict[str, Any]:
        return {
            "expand": 0 if self.walk == "fixed" else 3,
            "proxy": self.proxy.walk if self.walk == "proxy" else None,
            "score_all": self.walk == "all",
        }

    def search(self, users, level_topn, exclude_ids):
        with tempfile.TemporaryDirectory() as folder:
            index = index_of(self.corpus, self.proxy, Path(folder))
            options = {"scorer": SCORER, "tile_rows": TILE_ROWS, **self.walk_options}
            return nann.ops.beam_search(index, [users], level_topn, exclude_ids, **options)

    def oracle(self, user, level_topn, exclude_ids):
        return filtered_search(
            self.corpus.graph,
            self.corpus.item_ids,
            numpy_score(self.corpus, user),
            level_topn,
            exclude_ids,
            everything=self.walk == "all",
            expand=self.walk_options["expand"],
            proxy=self.proxy if self.walk == "proxy" else None,
        )


def random_case(data: st.DataObject, sizes: list[int]) -> Case:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    corpus = random_corpus(
        data.draw(st.integers(0, 2**32)),
        num_items=data.draw(st.sampled_from(sizes)),
        degree=data.draw(st.integers(0, 12)),
        sparsity=data.draw(st.sampled_from([0.0, 0.3])),
    )
    return Case(corpus, data.draw(st.sampled_from(WALKS)), rng)


def random_users(rng: np.random.Generator, batch: int) -> npt.NDArray[np.float32]:
    """Users for some of whom a part of the items scores NaN."""
    users = rng.integers(-2, 3, (batch, DIM)).astype(np.float32)
    users[rng.random(batch) < 0.3, -1] = 9
    return users


def best_of(corpus: Corpus, user, selected, k: int) -> npt.NDArray[np.int64]:
    """Ids of the best k selected items by brute force."""
    scores = numpy_score(corpus, user)(np.arange(len(corpus.item_ids)))
    at = np.flatnonzero(selected & ~np.isnan(scores))
    return corpus.item_ids[at[np.lexsort((corpus.item_ids[at], -scores[at]))[:k]]]


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
        ids, scores, items_scored, exact = case.oracle(user, level_topn, exclude_ids[row])
        np.testing.assert_array_equal(found.ids[row], ids)
        np.testing.assert_array_equal(found.scores[row], scores)
        assert int(found.items_scored[row]) == items_scored
        assert not np.isin(found.ids[row], exclude_ids[row][exclude_ids[row] >= 0]).any()
        if exact:
            selected = ~np.isin(corpus.item_ids, exclude_ids[row])
            best = best_of(corpus, user, selected, len(ids))
            np.testing.assert_array_equal(ids[: best.size], best)
            assert (ids[best.size :] == -1).all()
