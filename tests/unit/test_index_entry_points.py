"""Entry points: enough and few, spread over the corpus, and every item within reach of them."""

from __future__ import annotations

import itertools
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
from nann.export import GraphIndex, Level, build_index, index_from_faiss, read_index, read_items
from nann.export.index.entry_points import choose_entry_points, link_unreachable, reachable
from nann.export.index.files import with_links
from nann.export.index.oracle import adaptive_search
from nann.ops import IndexMeta
from support.graphs import random_corpus


def _write_run(folder: Path, embs: npt.NDArray[Any]) -> Path:
    (folder / "embeddings").mkdir(parents=True)
    np.save(folder / "embeddings/item_ids.npy", np.arange(len(embs)))
    np.save(folder / "embeddings/item_embs.npy", embs)
    return folder


def _normal(items: int, dim: int = 8) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(items, dim)).astype(np.float32)


@pytest.mark.parametrize(
    ("items", "at_level_1", "at_level_2"),
    [(5, 1, 0), (50, 4, 1), (300, 10, 1), (3000, 90, 3), (3000, 500, 12), (3000, 500, 64), (3000, 500, 128)],
)
def test_between_64_and_128_nodes_enter(tmp_path: Path, items: int, at_level_1: int, at_level_2: int) -> None:
    levels = np.ones(items, np.int32)
    levels[:at_level_1] += 1
    levels[:at_level_2] += 1
    chosen = choose_entry_points(levels, 2, read_items(_write_run(tmp_path / "run", _normal(items))))
    assert (chosen.dtype, np.unique(chosen).tolist()) == (np.int32, chosen.tolist())
    assert min(64, items) <= chosen.size <= 128
    # The nodes of the start level are among them, then those of level 1.
    assert set(range(at_level_2)) <= set(chosen.tolist())
    if at_level_1 >= 96 > at_level_2:
        assert chosen.max() < at_level_1
    if at_level_2 >= 64:
        assert chosen.tolist() == list(range(at_level_2))


def test_of_many_nodes_those_enter_that_are_spread_over_the_corpus(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(40, 8)) * 10
    cluster = generator.integers(0, 40, 2000)
    embs = (centres[cluster] + generator.normal(size=(2000, 8))).astype(np.float32)
    levels = np.where(np.arange(2000) < 1000, 3, 1).astype(np.int32)
    chosen = choose_entry_points(levels, 2, read_items(_write_run(tmp_path / "run", embs)))
    assert 64 <= chosen.size <= 96
    assert chosen.max() < 1000
    assert set(cluster[chosen]) == set(range(40))


def test_an_explicit_start_level_is_the_originals(tmp_path: Path) -> None:
    run = _write_run(tmp_path / "run", _normal(900, 64))
    graph = build_index(run, m=4, start_level=2, threads=1)
    index = faiss.IndexHNSWFlat(64, 4)
    index.hnsw.efConstruction = 100
    index.add(_normal(900, 64))
    levels = faiss.vector_to_array(index.hnsw.levels)
    assert graph.enter_points.tolist() == np.flatnonzero(levels > 2).tolist()
    assert (graph.levels[0].values.size, graph.meta.chosen_entry_points) == (_links(index), False)
    assert not reachable(graph).all()
    chosen = build_index(run, m=4, threads=1)
    assert (chosen.meta.start_level, chosen.meta.chosen_entry_points) == (2, True)
    assert reachable(chosen).all()
    # Given its levels, as for a shard, a graph is built with chosen entry points only where it is asked for.
    again = build_index(run, m=4, start_level=2, choose=True, threads=1)
    np.testing.assert_array_equal(again.enter_points, chosen.enter_points)
    assert read_index(run / "index").meta == chosen.meta


def _links(index: Any) -> int:
    hnsw = index.hnsw
    neighbors, offsets = faiss.vector_to_array(hnsw.neighbors), faiss.vector_to_array(hnsw.offsets)
    begins = offsets[:-1].astype(np.int64)
    return int(sum((neighbors[begin : begin + hnsw.nb_neighbors(0)] >= 0).sum() for begin in begins))


def test_items_without_links_to_them_are_found_after_all(tmp_path: Path) -> None:
    embs = _normal(2000, 64) * np.random.default_rng(1).lognormal(0, 0.7, (2000, 1)).astype(np.float32)
    run = _write_run(tmp_path / "run", embs)
    lost = np.flatnonzero(~reachable(build_index(run, m=8, start_level=2, threads=1)))
    assert lost.size > 20
    graph = build_index(run, m=8, threads=1)
    found = []
    for item in lost[:20]:
        scores = -((embs - embs[item]) ** 2).sum(axis=1)
        answer, _, _ = adaptive_search(
            graph, np.arange(2000), lambda at, s=scores: s[at], [128, 100, 100, 100, 100, 10], expand=8
        )
        found.append(item in answer)
    assert np.mean(found) >= 0.8


def test_the_command_counts_what_an_imported_graph_does_not_reach(tmp_path: Path) -> None:
    embs = _normal(2000, 64)
    run = _write_run(tmp_path / "run", embs)
    index = faiss.IndexHNSWFlat(64, 4)
    index.add(embs)
    faiss.write_index(index, str(tmp_path / "faiss"))
    arguments = ["index", "--run", str(run), "--start-level", "3"]
    result = CliRunner().invoke(main, [*arguments, "--faiss", str(tmp_path / "faiss")])
    assert "No walk can reach" in result.stdout, result.output
    assert "so few entry points" in CliRunner().invoke(main, [*arguments, "--m", "8"]).stdout
    result = CliRunner().invoke(main, ["index", "--run", str(run), "--m", "4"])
    assert "No walk can reach" not in result.stdout, result.output
    # The links of an imported graph stay as they are.
    graph = index_from_faiss(run, tmp_path / "faiss")
    assert graph.levels[0].values.size == _links(index)
    assert 64 <= graph.enter_points.size <= 128


def test_groups_that_lead_to_themselves_only_are_linked() -> None:
    rows = [[1], [0], [3], [2], [5], [4], []]
    level = Level(
        np.array(list(itertools.chain(*rows)), np.int32), np.cumsum([0, *map(len, rows)]).astype(np.int64)
    )
    meta = IndexMeta(1, 7, 2, "l2", 4, 40, 1, (3,))
    graph = GraphIndex(meta, np.array([1], np.int32), (level,))
    assert reachable(graph).tolist() == [True, True, False, False, False, False, False]
    assert reachable(link_unreachable(graph)).all()


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), degree=st.integers(0, 5), items=st.integers(1, 60))
def test_links_are_added_and_none_is_lost(seed: int, degree: int, items: int) -> None:
    graph = random_corpus(seed, num_items=items, degree=degree, sparsity=0.3).graph
    linked = link_unreachable(graph)
    assert reachable(linked).all()
    for before, after in zip(graph.levels, linked.levels, strict=True):
        for old, new in zip(_rows(before), _rows(after), strict=True):
            assert new[: len(old)] == old
    added = linked.levels[0].values.size - graph.levels[0].values.size
    assert added <= np.count_nonzero(~reachable(graph))


def _rows(level: Level) -> list[list[int]]:
    return [row.tolist() for row in np.split(level.values, level.row_splits[1:-1])]


def test_links_are_added_at_the_ends_of_lists_in_their_order() -> None:
    level = Level(np.array([1, 2, 0], np.int32), np.array([0, 2, 2, 3]))
    longer = with_links(level, np.array([2, 1, 2]), np.array([1, 0, 2], np.int32))
    assert _rows(longer) == [[1, 2], [0], [0, 1, 2]]
