"""Building, converting and importing an index: equal to a plain loop, and clear about bad input."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner

from nann.cli import main
from nann.errors import InvalidFileError, InvalidInputError
from nann.export import build_index, convert_faiss_index, index_from_faiss, index_from_original, read_items
from nann.export.index.faiss_graph import MOST_ENTER_POINTS, _auto_start_level
from nann.export.index.files import GraphIndex, read_index
from nann.export.index.oracle import beam_search

N, D = 600, 8


@pytest.fixture
def embs() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


@pytest.fixture
def run(tmp_path: Path, embs: npt.NDArray[np.float32]) -> Path:
    return _write_run(tmp_path / "run", np.arange(N, dtype=np.int64) * 3 + 100, embs)


def _write_run(run: Path, ids: npt.NDArray[Any], embs: npt.NDArray[Any]) -> Path:
    (run / "embeddings").mkdir(parents=True, exist_ok=True)
    np.save(run / "embeddings/item_ids.npy", ids)
    np.save(run / "embeddings/item_embs.npy", embs)
    return run


def _faiss_index(embs: npt.NDArray[np.float32], m: int = 4) -> Any:
    index = faiss.IndexHNSWFlat(embs.shape[1], m)
    index.add(embs)
    return index


def _rows(graph: GraphIndex, level: int) -> list[list[int]]:
    values, splits = graph.levels[level].values, graph.levels[level].row_splits
    return [values[splits[i] : splits[i + 1]].tolist() for i in range(graph.meta.num_items)]


def _rows_by_loop(index: Any, level: int) -> list[list[int]]:
    """The lists as the original reads them: node by node."""
    hnsw = index.hnsw
    node_levels = faiss.vector_to_array(hnsw.levels)
    neighbors = faiss.vector_to_array(hnsw.neighbors)
    offsets = faiss.vector_to_array(hnsw.offsets)
    rows = []
    for node in range(index.ntotal):
        row: list[int] = []
        if node_levels[node] > level:
            first = int(offsets[node]) + hnsw.cum_nb_neighbors(level)
            last = int(offsets[node]) + hnsw.cum_nb_neighbors(level + 1)
            row = [int(neighbor) for neighbor in neighbors[first:last] if neighbor >= 0]
        rows.append(row)
    return rows


@pytest.mark.parametrize("start_level", [1, 2, 3])
def test_conversion_equals_a_loop_over_nodes(
    run: Path, embs: npt.NDArray[np.float32], start_level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nann.export.index.faiss_graph.CHUNK_ROWS", 97)  # several chunks, the last one short
    index = _faiss_index(embs)
    graph = convert_faiss_index(index, read_items(run), start_level=start_level)
    assert [_rows(graph, level) for level in range(start_level)] == [
        _rows_by_loop(index, level) for level in range(start_level)
    ]
    expected = np.flatnonzero(faiss.vector_to_array(index.hnsw.levels) > start_level)
    np.testing.assert_array_equal(graph.enter_points, expected)
    assert expected.size > 0
    assert (graph.meta.m, graph.meta.ef_construction) == (4, 40)


def test_no_node_at_the_start_level_leaves_the_own_entry_point(
    run: Path, embs: npt.NDArray[np.float32]
) -> None:
    index = _faiss_index(embs)
    graph = convert_faiss_index(index, read_items(run), start_level=14)
    assert graph.enter_points.tolist() == [index.hnsw.entry_point]
    assert graph.levels[13].values.size == 0


def test_auto_start_level_is_the_smallest_that_leaves_few_entry_points() -> None:
    def numbers(present_at_2: int, present_at_3: int) -> npt.NDArray[np.int32]:
        return np.array([1] * 10 + [3] * (present_at_2 - present_at_3) + [4] * present_at_3, np.int32)

    assert _auto_start_level(np.ones(5, np.int32)) == 2
    assert _auto_start_level(numbers(MOST_ENTER_POINTS, 7)) == 2
    assert _auto_start_level(numbers(MOST_ENTER_POINTS + 1, 7)) == 3
    assert _auto_start_level(numbers(MOST_ENTER_POINTS + 9, MOST_ENTER_POINTS + 1)) == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_built_index_finds_its_neighbours(
    run: Path, embs: npt.NDArray[Any], dtype: type, figure: Callable[[str], None]
) -> None:
    embs = embs.astype(dtype)
    _write_run(run, np.arange(N, dtype=np.int64), embs)
    stages: dict[str, tuple[int, int]] = {}
    build_index(run, m=8, on_progress=lambda stage, done, total: stages.update({stage: (done, total)}))
    graph = read_index(run / "index")
    assert (graph.meta.num_items, graph.meta.dim, graph.meta.m, graph.meta.start_level) == (N, D, 8, 2)
    assert stages["build graph (l2)"] == (N, N)
    assert all(done == total for done, total in stages.values())
    distances = ((embs[:, None].astype(np.float32) - embs[None].astype(np.float32)) ** 2).sum(-1)
    nearest = np.argsort(distances, axis=1)[:, 1]
    found = np.mean([nearest[node] in row for node, row in enumerate(_rows(graph, 0))])
    figure(f"{dtype.__name__}: {found:.3f} of items linked with their nearest, more than 0.9 is asked for")
    assert found > 0.9


def test_one_thread_and_one_seed_give_one_index(run: Path) -> None:
    first, second = (build_index(run, m=4, seed=5, threads=1) for _ in range(2))
    other = build_index(run, m=4, seed=6, threads=1)
    faiss.omp_set_num_threads(2)
    np.testing.assert_array_equal(first.levels[0].values, second.levels[0].values)
    assert not np.array_equal(first.enter_points, other.enter_points)
    assert (first.meta.seed, read_index(run / "index").meta.seed) == (5, 6)


def test_an_inner_product_finds_more_in_a_graph_for_inner_products(
    tmp_path: Path, embs: npt.NDArray[np.float32], figure: Callable[[str], None]
) -> None:
    generator = np.random.default_rng(3)
    embs = embs * generator.lognormal(0.0, 0.7, (N, 1)).astype(np.float32)
    ids = np.arange(N, dtype=np.int64)
    run = _write_run(tmp_path / "longer", ids, embs)

    def found(metric: str) -> float:
        graph = build_index(run, metric=metric, m=4, threads=1)
        assert read_index(run / "index").meta.metric == metric
        shares = []
        for query in generator.normal(size=(30, D)).astype(np.float32):
            scores = embs @ query
            answer, _, _ = beam_search(graph, ids, lambda rows, s=scores: s[rows], [4, 4, 8, 8, 8, 10])
            shares.append(np.isin(ids[np.argsort(-scores)[:10]], answer).mean())
        return float(np.mean(shares))

    by_product, by_distance = found("ip"), found("l2")
    figure(f"links by product find {by_product:.3f}, by distance {by_distance:.3f}; 0.05 more is asked for")
    assert by_product > by_distance + 0.05


@pytest.mark.parametrize(("m", "message"), [(3, "4..1024, found 3"), (7, "expected an even number")])
def test_a_graph_for_inner_products_divides_its_links(run: Path, m: int, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        build_index(run, metric="ip", m=m)
    assert not (run / "index").exists()


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_an_index_of_one_item(run: Path, metric: str) -> None:
    _write_run(run, np.array([9], np.int64), np.ones((1, D), np.float32))
    build_index(run, metric=metric)
    graph = read_index(run / "index")
    assert (graph.enter_points.tolist(), graph.levels[0].values.size) == ([0], 0)


def test_a_faiss_file_with_ids_in_another_order(
    run: Path, embs: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    ids = read_items(run).ids
    order = np.random.default_rng(1).permutation(N)
    index = faiss.IndexIDMap(faiss.IndexHNSWFlat(D, 4))
    index.add_with_ids(embs[order], ids[order])
    faiss.write_index(index, str(tmp_path / "hnsw.faiss"))
    graph = index_from_faiss(run, tmp_path / "hnsw.faiss", start_level=2)
    inner: Any = faiss.downcast_index(index.index)
    for level in range(2):
        rows = _rows_by_loop(inner, level)
        expected: list[list[int]] = [[] for _ in range(N)]
        for node, row in enumerate(rows):
            expected[order[node]] = [int(order[neighbor]) for neighbor in row]
        assert _rows(graph, level) == expected
    present = order[faiss.vector_to_array(inner.hnsw.levels) > 2]
    assert sorted(present) == graph.enter_points.tolist()
    np.testing.assert_array_equal(read_index(run / "index").levels[0].values, graph.levels[0].values)


def test_a_faiss_file_of_a_plain_index(run: Path, embs: npt.NDArray[np.float32], tmp_path: Path) -> None:
    index = _faiss_index(embs)
    faiss.write_index(index, str(tmp_path / "hnsw.faiss"))
    index_from_faiss(run, tmp_path / "hnsw.faiss")
    assert _rows(read_index(run / "index"), 0) == _rows_by_loop(index, 0)


def _with_ids(embs: npt.NDArray[np.float32], ids: npt.NDArray[np.int64]) -> Any:
    index = faiss.IndexIDMap(faiss.IndexHNSWFlat(D, 4))
    index.add_with_ids(embs, ids)
    return index


def _ids_but(**changes: int) -> npt.NDArray[np.int64]:
    """The ids of `run`, with others at some rows: `_ids_but(row_7=5)`."""
    ids = np.arange(N, dtype=np.int64) * 3 + 100
    for row, item in changes.items():
        ids[int(row.removeprefix("row_"))] = item
    return ids


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda embs: _faiss_index(np.ascontiguousarray(embs[:, :4])), "expected dimension 8 .* found 4"),
        (lambda embs: _faiss_index(embs[:-1]), "expected 600 vectors .* found 599"),
        (lambda embs: _faiss_index(embs[::-1].copy()), "expected the vectors of .* first at row 0"),
        (
            lambda embs: _with_ids(embs, np.arange(N)),
            r"expected the ids of .* found 433 missing \(601, 604, 607, 610, 613, \.\.\.\), "
            r"433 foreign \(0, 1, 2, 3, 4, \.\.\.\)\. Build",
        ),
        (
            lambda embs: _with_ids(embs, _ids_but(row_7=5)),
            r"expected the ids of .* found 1 missing \(121\), 1 foreign \(5\)\. Build",
        ),
        (
            lambda embs: _with_ids(embs, _ids_but(row_7=100)),
            r"expected the ids of .* found 1 missing \(121\), 1 repeated \(100\)\. Build",
        ),
        (lambda embs: faiss.IndexFlatL2(D), "expected IndexHNSWFlat.* found IndexFlatL2"),
        (lambda embs: faiss.IndexHNSWFlat(D, 4, faiss.METRIC_L1), "expected the metric L2 or inner product"),
    ],
)
def test_a_faiss_index_of_something_else(
    run: Path, embs: npt.NDArray[np.float32], tmp_path: Path, make: Any, message: str
) -> None:
    path = tmp_path / "other.faiss"
    faiss.write_index(make(embs), str(path))
    with pytest.raises(InvalidInputError, match=rf"other\.faiss: {message}"):
        index_from_faiss(run, path)
    assert not (run / "index").exists()


def test_a_file_that_is_no_faiss_index(run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.faiss").write_text("no index")
    with pytest.raises(InvalidFileError, match=r"text\.faiss: expected an index file of faiss"):
        index_from_faiss(run, tmp_path / "text.faiss")
    with pytest.raises(InvalidFileError, match=r"none\.faiss: expected .* found no such file"):
        index_from_faiss(run, tmp_path / "none.faiss")


def _bad(row: int, value: float) -> npt.NDArray[np.float32]:
    embs = np.ones((N, D), np.float32)
    embs[row : row + 7, 3] = value
    return embs


@pytest.mark.parametrize(
    ("ids", "embs", "message"),
    [
        (np.arange(N), _bad(17, np.nan), r"item_embs\.npy: .* in 7 rows: 17, 18, 19, 20, 21, \.\.\."),
        (np.arange(N), _bad(17, -np.inf), r"item_embs\.npy: .* in 7 rows: 17"),
        (
            np.arange(N) // 2,
            np.ones((N, D), np.float32),
            r"item_ids\.npy: .* 300 ids more than once: 0, 1, 2",
        ),
        (np.arange(N) - 1, np.ones((N, D), np.float32), r"item_ids\.npy: expected no id -1.* row 0"),
        (np.zeros(0, np.int64), np.ones((0, D), np.float32), r"item_ids\.npy: expected at least one item"),
        (
            np.arange(N, dtype=np.int32),
            np.ones((N, D), np.float32),
            r"item_ids\.npy: expected int64 .* int32",
        ),
        (
            np.arange(N)[:, None],
            np.ones((N, D), np.float32),
            r"item_ids\.npy: expected int64 \[N\], found .* 1\]",
        ),
        (
            np.arange(N),
            np.ones((N, D), np.float64),
            r"item_embs\.npy: expected float32 or float16 .* float64",
        ),
        (np.arange(N), np.ones(N, np.float32), r"item_embs\.npy: expected float32 or float16 \[N, D\]"),
        (np.arange(N), np.ones((N, 0), np.float32), r"item_embs\.npy: expected float32 or float16 \[N, D\]"),
        (np.arange(N), np.ones((N - 1, D), np.float32), r"item_embs\.npy: expected 600 rows.* found 599"),
    ],
)
def test_bad_items_are_refused(
    tmp_path: Path, ids: npt.NDArray[Any], embs: npt.NDArray[Any], message: str
) -> None:
    with pytest.raises(InvalidFileError, match=message):
        build_index(_write_run(tmp_path, ids, embs))
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"m": 1}, "m: expected 2"),
        ({"ef_construction": 0}, "ef_construction: expected 1"),
        ({"start_level": 0}, "start_level: expected 1"),
        ({"hops_per_level": (3, 1)}, r"hops_per_level \(--hops\): expected start_level"),
        ({"start_level": 2, "hops_per_level": (3,)}, "hops_per_level: expected 2 values"),
        ({"start_level": 2, "hops_per_level": (3, 0)}, "hops_per_level: expected 2 values"),
        ({"threads": 0}, "threads: expected 1"),
    ],
)
def test_bad_options_are_refused(run: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        build_index(run, **options)


def _write_original(folder: Path, index: Any, start_level: int) -> None:
    """As the original writes them: int64 everywhere, no index.json."""
    folder.mkdir()
    enter_points = np.flatnonzero(faiss.vector_to_array(index.hnsw.levels) > start_level)
    np.save(folder / "enter_points.npy", enter_points)
    for level in range(start_level):
        rows = _rows_by_loop(index, level)
        np.save(folder / f"neighbors_level_{level}_values.npy", np.array([*itertools.chain(*rows)], np.int64))
        splits = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        np.save(folder / f"neighbors_level_{level}_row_splits.npy", splits)


def test_the_originals_files_are_imported(run: Path, embs: npt.NDArray[np.float32], tmp_path: Path) -> None:
    index = _faiss_index(embs)
    _write_original(tmp_path / "original", index, 2)
    index_from_original(run, tmp_path / "original")
    imported = read_index(run / "index")
    expected = convert_faiss_index(index, read_items(run), start_level=2)
    assert imported.meta.hops_per_level == (3, 1)
    assert imported.enter_points.dtype == np.int32
    np.testing.assert_array_equal(imported.enter_points, expected.enter_points)
    assert [_rows(imported, level) for level in (0, 1)] == [_rows(expected, level) for level in (0, 1)]


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("enter_points", np.zeros(0, np.int64), r"enter_points\.npy: expected at least one"),
        ("enter_points", np.array([0.5]), r"enter_points\.npy: expected int64 or int32"),
        ("enter_points", np.array([2**32], np.int64), r"enter_points\.npy: expected positions 0\.\."),
        ("enter_points", np.array([N], np.int64), r"enter_points\.npy: expected positions 0\.\.599"),
        ("neighbors_level_0_row_splits", np.zeros(N, np.int64), r"expected 601 offsets.* found 600"),
        (
            "neighbors_level_1_values",
            np.zeros(3, np.int64),
            r"neighbors_level_1_row_splits\.npy: expected offsets",
        ),
    ],
)
def test_damaged_original_files_are_refused(
    run: Path, embs: npt.NDArray[np.float32], tmp_path: Path, name: str, array: npt.NDArray[Any], message: str
) -> None:
    _write_original(tmp_path / "original", _faiss_index(embs), 2)
    np.save(tmp_path / "original" / f"{name}.npy", array)
    with pytest.raises(InvalidFileError, match=message):
        index_from_original(run, tmp_path / "original")
    assert not (run / "index").exists()


def test_command_prints_one_json_object(run: Path) -> None:
    result = CliRunner().invoke(
        main, ["index", "--run", str(run), "--m", "4", "--start-level", "1", "--hops", "2", "--json"]
    )
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert (printed["num_items"], printed["m"], printed["hops_per_level"]) == (N, 4, [2])
    assert printed["level_topn_length"] == 4
    assert read_index(run / "index").meta.start_level == 1


def test_command_takes_a_faiss_file(run: Path, embs: npt.NDArray[np.float32], tmp_path: Path) -> None:
    faiss.write_index(_faiss_index(embs), str(tmp_path / "hnsw.faiss"))
    arguments = ["index", "--run", str(run), "--faiss", str(tmp_path / "hnsw.faiss")]
    refused = CliRunner().invoke(main, [*arguments, "--m", "8"])
    assert refused.exit_code == 2
    assert "--m has no effect with --faiss" in refused.stderr
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "600 items" in result.stdout.replace("\n", " ")


def test_command_says_what_is_wrong_without_a_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["index", "--run", str(tmp_path)])
    assert result.exit_code == 1
    assert "item_ids.npy: expected an .npy file, found none" in result.stderr.replace("\n", " ")
