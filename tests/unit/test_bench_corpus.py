"""The made-up corpora: the same for the same spec, with structure, and the right answers to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nann.bench.corpus import CorpusSpec, Metric, brute_force_run, make_corpus
from nann.export import read_index


def test_a_spec_is_a_corpus(tmp_path: Path) -> None:
    spec = CorpusSpec(3000, dim=32, queries=20, seed=4)
    first, second = make_corpus(tmp_path / "a", spec), make_corpus(tmp_path / "b", spec)
    np.testing.assert_array_equal(first.item_embs, second.item_embs)
    np.testing.assert_array_equal(first.queries, second.queries)
    assert first.item_embs.dtype == first.queries.dtype == np.float32
    assert len(np.unique(first.item_ids)) == 3000
    assert not np.isin(first.item_ids[:100], np.arange(100)).all()  # ids are no positions
    other = make_corpus(tmp_path / "a", CorpusSpec(3000, dim=32, queries=20, seed=5))
    assert not np.array_equal(first.item_embs, other.item_embs)


def test_a_corpus_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    spec = CorpusSpec(500, dim=8, queries=3)
    folder = make_corpus(tmp_path, spec).folder
    (folder / "mark").touch()
    assert (make_corpus(tmp_path, spec).folder / "mark").exists()


def test_vectors_fill_few_dimensions_and_lie_in_clusters(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, CorpusSpec(4000, dim=64, queries=50))
    embs = np.array(corpus.item_embs)
    variances = np.linalg.svd(embs - embs.mean(0), compute_uv=False) ** 2
    assert variances[:16].sum() / variances.sum() > 0.95
    # Neighbours are much nearer than items are from each other, for queries as for items.
    for points, rank in ((embs[:50], 10), (corpus.queries, 9)):
        distances = np.linalg.norm(points[:, np.newaxis] - embs, axis=2)
        assert np.median(np.sort(distances, axis=1)[:, rank]) < 0.6 * np.median(distances)


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_the_truth_is_brute_force(tmp_path: Path, metric: Metric) -> None:
    corpus = make_corpus(tmp_path, CorpusSpec(700, dim=8, queries=5))
    embs, queries = corpus.item_embs.astype(np.float64), corpus.queries.astype(np.float64)
    scores = queries @ embs.T if metric == "ip" else -((queries[:, np.newaxis] - embs) ** 2).sum(axis=2)
    np.testing.assert_array_equal(corpus.truth(metric, 7), np.argsort(-scores, axis=1)[:, :7])
    np.testing.assert_array_equal(corpus.truth(metric, 7), corpus.truth(metric, 7))  # now from the file


def test_brute_force_is_an_index_whose_entry_points_are_all_items(tmp_path: Path) -> None:
    run = brute_force_run(make_corpus(tmp_path, CorpusSpec(300, dim=8, queries=2)).folder, tmp_path / "run")
    graph = read_index(run / "index")
    assert graph.enter_points.tolist() == list(range(300))
    assert all(level.values.size == 0 for level in graph.levels)
    assert graph.level_topn_length == 3
