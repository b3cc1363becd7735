"""Items with equal vectors: found, hung on one of them, and retrieved like any others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from nann.cli import main
from nann.export import build_index, index_from_faiss, index_from_original, read_index, read_items
from nann.export.index.copies import find_copies
from nann.export.index.files import GraphIndex
from nann.export.index.oracle import adaptive_search, beam_search
from nann.export.index.reorder import reordered

D = 8
Vectors = npt.NDArray[np.float32]


def _write_run(folder: Path, embs: npt.NDArray[Any], ids: npt.NDArray[np.int64] | None = None) -> Path:
    (folder / "embeddings").mkdir(parents=True)
    np.save(folder / "embeddings/item_ids.npy", np.arange(len(embs)) if ids is None else ids)
    np.save(folder / "embeddings/item_embs.npy", embs)
    return folder


def _corpus(copies: int, items: int = 2000, seed: int = 0) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """Vectors [items, D] of which `copies` are zero, and the positions of these."""
    generator = np.random.default_rng(seed)
    embs = generator.normal(size=(items, D)).astype(np.float32)
    same = generator.permutation(items)[:copies]
    embs[same] = 0
    return embs, same


def _found(graph: GraphIndex, ids: npt.NDArray[np.int64], embs: Vectors, users: Vectors, k: int) -> float:
    """Share of the k nearest, by distance and then by id, that the worse of two walks finds."""
    level_topn = [100, *(200,) * (graph.level_topn_length - 2), k]
    shares = []
    for user in users:
        scores = -((embs - user) ** 2).sum(axis=1)
        best = ids[np.lexsort((ids, -scores))[:k]]
        fixed, _, _ = beam_search(graph, ids, lambda at, s=scores: s[at], level_topn)
        adaptive, _, _ = adaptive_search(graph, ids, lambda at, s=scores: s[at], level_topn, expand=8)
        shares.append([np.isin(best, fixed).mean(), np.isin(best, adaptive).mean()])
    return float(np.mean(shares, axis=0).min())


@pytest.mark.parametrize("copies", [50, 500, 1000])
def test_what_is_near_others_and_near_copies_is_found(tmp_path: Path, copies: int) -> None:
    embs, same = _corpus(copies)
    graph = build_index(_write_run(tmp_path / "run", embs), m=16)
    ids, others = np.arange(len(embs)), np.setdiff1d(np.arange(len(embs)), same)
    generator = np.random.default_rng(5)
    near_others = embs[others[:40]] + generator.normal(0, 0.05, (40, D)).astype(np.float32)
    near_copies = generator.normal(0, 0.05, (10, D)).astype(np.float32)
    assert graph.meta.num_copies == copies - 1
    assert _found(graph, ids, embs, near_others, 10) >= 0.98
    assert _found(graph, ids, embs, near_copies, 10) == 1.0
    assert max(np.diff(graph.levels[0].row_splits)) <= 4 * graph.meta.m


def _groups(draw: st.DrawFn, items: int) -> npt.NDArray[np.int64]:
    """Which vector each item has."""
    pattern = draw(st.sampled_from(["equal", "all but one", "pairs", "random", "different"]))
    if pattern == "equal":
        return np.zeros(items, np.int64)
    if pattern == "all but one":
        return np.where(np.arange(items) == draw(st.integers(0, items - 1)), 1, 0)
    if pattern == "pairs":
        return np.random.default_rng(draw(st.integers(0, 99))).permutation(items) // 2
    if pattern == "random":
        return np.random.default_rng(draw(st.integers(0, 99))).integers(0, 1 + items // 5, items)
    return np.arange(items)


@st.composite
def _corpora(draw: st.DrawFn) -> tuple[Vectors, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Vectors, ids, and which vector each item has; vector 0 is zero, of either sign."""
    items = draw(st.integers(1, 120))
    groups = _groups(draw, items)
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    vectors = generator.normal(size=(items + 1, D)).astype(draw(st.sampled_from([np.float32, np.float16])))
    vectors[0] = 0
    embs = vectors[groups]
    zeros = np.flatnonzero(groups == 0)
    embs[zeros[::2]] = -0.0
    return embs, generator.permutation(10 * items)[:items].astype(np.int64), groups


@settings(max_examples=40)
@given(corpus=_corpora(), m=st.sampled_from([2, 4, 16]), metric=st.sampled_from(["l2", "ip"]))
def test_every_pattern_of_equal_vectors(
    tmp_path_factory: pytest.TempPathFactory,
    corpus: tuple[Vectors, npt.NDArray[np.int64], npt.NDArray[np.int64]],
    m: int,
    metric: str,
) -> None:
    embs, ids, groups = corpus
    run = _write_run(tmp_path_factory.mktemp("runs") / "run", embs, ids)
    copies = find_copies(read_items(run))
    # The representative of each item is the one of its group with the smallest id.
    smallest = {group: ids[groups == group].min() for group in set(groups.tolist())}
    assert ids[copies.representative].tolist() == [smallest[group] for group in groups.tolist()]
    graph = build_index(run, metric=metric, m=max(m, 4), threads=1)
    assert graph.meta.num_copies == len(ids) - len(smallest)
    _assert_copies_hang(graph, ids, copies.representative)
    # With beams as wide as the corpus the walk finds what brute force finds, of copies the smaller ids.
    order = np.random.default_rng(0).permutation(len(ids))
    for walked, at in ((graph, np.arange(len(ids))), (reordered(graph, order), order)):
        scores = -((embs[at].astype(np.float32) - 0.1) ** 2).sum(axis=1)
        level_topn = [500, *(500,) * (graph.level_topn_length - 2), len(ids)]
        found, _, scored = adaptive_search(walked, ids[at], lambda p, s=scores: s[p], level_topn, expand=3)
        reached = np.isin(ids[at], found)
        same_vector = copies.representative[at]
        # A group is found as a whole or not at all; not at all where faiss links nothing to it.
        assert all(len(set(reached[same_vector == one])) == 1 for one in set(same_vector.tolist()))
        expected = ids[at][np.lexsort((ids[at], -scores))]
        assert found[:scored].tolist() == expected[np.isin(expected, found)].tolist()


def _assert_copies_hang(
    graph: GraphIndex, ids: npt.NDArray[np.int64], representative: npt.NDArray[np.int32]
) -> None:
    """Copies are on level 0 only, lead to their representative, and are led to by an item of smaller id."""
    for number, level in enumerate(graph.levels):
        rows = np.split(level.values, level.row_splits[1:-1])
        sources = np.repeat(np.arange(len(ids)), np.diff(level.row_splits))
        is_copy = representative != np.arange(len(ids))
        for copy in np.flatnonzero(is_copy):
            into = sources[level.values == copy]
            if number > 0:
                assert rows[copy].size == into.size == 0
            else:
                assert representative[copy] == rows[copy][0]
                assert rows[copy].size <= 3
                parents = into[ids[into] < ids[copy]]
                assert representative[parents].tolist() == [representative[copy]]
    assert not (representative != np.arange(len(ids)))[graph.enter_points].any()


def test_without_copies_the_graph_is_the_one_of_faiss(tmp_path: Path) -> None:
    embs, _ = _corpus(0, items=300)
    graph = build_index(_write_run(tmp_path / "run", embs), m=4, start_level=2, threads=1)
    index = faiss.IndexHNSWFlat(D, 4)
    index.hnsw.efConstruction = 100
    index.add(embs)
    faiss.write_index(index, str(tmp_path / "faiss"))
    imported = index_from_faiss(tmp_path / "run", tmp_path / "faiss", start_level=2)
    assert graph.meta.num_copies == imported.meta.num_copies == 0
    for ours, theirs in zip(graph.levels, imported.levels, strict=True):
        np.testing.assert_array_equal(ours.values, theirs.values)
        np.testing.assert_array_equal(ours.row_splits, theirs.row_splits)


@pytest.mark.parametrize("original", [False, True])
def test_an_imported_graph_that_copies_cut_is_linked_anew(tmp_path: Path, original: bool) -> None:
    embs, same = _corpus(500)
    run = _write_run(tmp_path / "run", embs)
    index = faiss.IndexHNSWFlat(D, 16)
    index.add(embs)
    faiss.write_index(index, str(tmp_path / "faiss"))
    others = np.setdiff1d(np.arange(len(embs)), same)
    users = embs[others[:40]] + np.random.default_rng(5).normal(0, 0.05, (40, D)).astype(np.float32)
    cut = _converted(run, index)
    assert _found(cut, np.arange(len(embs)), embs, users, 10) < 0.9
    if original:
        _write_original(tmp_path / "original", cut)
        graph = index_from_original(run, tmp_path / "original")
    else:
        graph = index_from_faiss(run, tmp_path / "faiss", start_level=2)
    assert _found(graph, np.arange(len(embs)), embs, users, 10) >= 0.98
    assert read_index(run / "index").meta.num_copies == 499
    assert (graph.meta.m, graph.meta.start_level, graph.meta.seed is None) == (16, 2, False)


def _converted(run: Path, index: Any) -> GraphIndex:
    from nann.export import convert_faiss_index

    return convert_faiss_index(index, read_items(run), start_level=2)


def _write_original(folder: Path, graph: GraphIndex) -> None:
    folder.mkdir()
    np.save(folder / "enter_points.npy", graph.enter_points.astype(np.int64))
    for number, level in enumerate(graph.levels):
        np.save(folder / f"neighbors_level_{number}_values.npy", level.values.astype(np.int64))
        np.save(folder / f"neighbors_level_{number}_row_splits.npy", level.row_splits)


def test_a_few_copies_leave_an_imported_graph_as_it_is(tmp_path: Path) -> None:
    embs, _ = _corpus(16)
    run = _write_run(tmp_path / "run", embs)
    index = faiss.IndexHNSWFlat(D, 16)
    index.add(embs)
    faiss.write_index(index, str(tmp_path / "faiss"))
    graph = index_from_faiss(run, tmp_path / "faiss", start_level=2)
    np.testing.assert_array_equal(graph.levels[0].values, _converted(run, index).levels[0].values)
    assert (graph.meta.num_copies, graph.meta.seed) == (15, None)


def test_the_command_says_how_many_there_are(tmp_path: Path) -> None:
    embs, _ = _corpus(40, items=300)
    run = _write_run(tmp_path / "run", embs)
    result = CliRunner().invoke(main, ["index", "--run", str(run), "--m", "4"])
    assert "39 items have the vector of another item" in result.stdout, result.output
    index = faiss.IndexHNSWFlat(D, 16)
    index.add(embs)
    faiss.write_index(index, str(tmp_path / "faiss"))
    result = CliRunner().invoke(main, ["index", "--run", str(run), "--faiss", str(tmp_path / "faiss")])
    assert "its links were built anew" in result.stdout, result.output
    clean = _write_run(tmp_path / "clean", _corpus(0, items=300)[0])
    assert "vector of another" not in CliRunner().invoke(main, ["index", "--run", str(clean)]).stdout


def test_equal_hashes_of_other_vectors_are_no_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nann.export.index.copies._hashes", lambda rows: np.zeros(len(rows), np.uint64))
    embs, _ = _corpus(0, items=50)
    embs[[3, 7]] = embs[0]
    representative = find_copies(read_items(_write_run(tmp_path / "run", embs))).representative
    assert np.flatnonzero(representative != np.arange(50)).tolist() == [3, 7]
    assert representative[[3, 7]].tolist() == [0, 0]
