"""The choice of links: the op and its NumPy version choose the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from nann.export import build_index, read_index, read_items
from nann.live.links_oracle import LinkOracle
from nann.ops import IndexResource, LinkBuilder, ListChanges

DIM = 3


class Graph:
    """An index over small integers, whose distances are exact, and what is inserted into it."""

    def __init__(
        self, folder: Path, embs: npt.NDArray[np.float32], *, m: int, inner_product: bool = False
    ) -> None:
        (folder / "embeddings").mkdir(parents=True)
        np.save(folder / "embeddings/item_ids.npy", np.arange(len(embs)))
        np.save(folder / "embeddings/item_embs.npy", embs)
        build_index(
            folder, m=m, threads=1, start_level=2, choose=True, metric="ip" if inner_product else "l2"
        )
        self.graph = read_index(folder / "index")
        index = IndexResource(
            index_dir=folder / "index",
            item_ids=folder / "embeddings/item_ids.npy",
            item_tables={"item_embs": folder / "embeddings/item_embs.npy"},
        )
        options = {"m": m, "ef_construction": 10, "inner_product": inner_product}
        self.make = lambda: LinkBuilder(index, **options)
        self.builder = self.make()
        self.oracle = LinkOracle(self.graph, read_items(folder).embs, **options)
        self.size = len(embs)

    def insert(self, vectors: npt.NDArray[np.float32], levels: list[int]) -> list[ListChanges]:
        """Insert into both; the lists that change are the same."""
        self.oracle.changed = [set() for _ in self.graph.levels]
        changes = self.builder.insert(vectors, levels)
        for vector, level in zip(vectors, levels, strict=True):
            self.oracle.insert(vector, level=level)
        for change, changed, lists in zip(changes, self.oracle.changed, self.oracle.lists, strict=True):
            assert change.nodes.tolist() == sorted(changed)
            parts = np.split(change.neighbors, change.row_splits[1:-1])
            assert [part.tolist() for part in parts[: change.nodes.size]] == [
                lists[n] for n in sorted(changed)
            ]
        self.size += len(vectors)
        return changes

    def delete(self, positions: list[int]) -> None:
        self.builder.delete(np.array(positions, np.int32))
        for position in positions:
            self.oracle.delete(position)

    def reached(self) -> set[int]:
        """What links of the walked levels lead to from the entry points."""
        reached, frontier = set(), set(self.graph.enter_points.tolist())
        while frontier:
            reached |= frontier
            frontier = {n for lists in self.oracle.lists for p in frontier for n in lists[p]} - reached
        return reached


@pytest.mark.parametrize("inner_product", [False, True])
@given(data=st.data())
@settings(max_examples=25)
def test_the_op_chooses_as_the_oracle_does(
    tmp_path_factory, inner_product: bool, data: st.DataObject
) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    width = data.draw(st.sampled_from([1, 2, 6, 30]))  # Narrow ones have many copies.
    size = data.draw(st.integers(3, 60))

    def vectors(count: int) -> npt.NDArray[np.float32]:
        return random.integers(-width, width + 1, (count, DIM)).astype(np.float32)

    graph = Graph(
        tmp_path_factory.mktemp("run"), vectors(size), m=2 + 2 * inner_product, inner_product=inner_product
    )
    for _ in range(data.draw(st.integers(1, 4))):
        live = [p for p in range(graph.size) if p not in graph.oracle.dead]
        graph.delete(random.permutation(live)[: data.draw(st.integers(0, len(live)))].tolist())
        count = data.draw(st.integers(1, 25))
        graph.insert(vectors(count), random.integers(0, 3, count).tolist())


def test_what_was_inserted_is_reached_and_lists_keep_their_length(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    m = 4
    graph = Graph(tmp_path, random.normal(size=(300, DIM)).astype(np.float32).round(2), m=m)
    for batch in range(6):
        live = np.array([p for p in range(graph.size) if p not in graph.oracle.dead])
        graph.delete(random.choice(live, 40, replace=False).tolist())
        # Each batch is a cluster of its own, far from all before.
        vectors = (random.normal(size=(50, DIM)) + 10 * batch).astype(np.float32).round(2)
        graph.insert(vectors, random.integers(0, 2, 50).tolist())
    live_positions = set(range(graph.size)) - graph.oracle.dead
    assert len(live_positions - graph.reached()) <= 0.01 * len(live_positions)
    assert max(map(len, graph.oracle.lists[0])) <= 4 * m
    assert max(map(len, graph.oracle.lists[1])) <= 2 * m


def test_copies_hang_on_one_item_and_all_are_reached(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    m = 4
    graph = Graph(tmp_path, random.normal(size=(100, DIM)).astype(np.float32).round(2), m=m)
    copied = graph.oracle._vectors[17]
    graph.insert(np.tile(copied, (60, 1)), [1] * 60)
    assert set(range(160)) <= graph.reached()
    of_original = graph.oracle.lists[0][17]
    assert len([p for p in of_original if p >= 100]) == 2 * m
    assert all(
        graph.oracle.lists[0][p][0] == 17 and len(graph.oracle.lists[0][p]) <= 3 for p in range(100, 160)
    )
    # No other item leads to a copy.
    others = [p for p in range(100) if p != 17]
    assert not any(n >= 100 for p in others for n in graph.oracle.lists[0][p])


def test_a_copy_takes_the_place_of_a_deleted_one(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    graph = Graph(tmp_path, random.normal(size=(100, DIM)).astype(np.float32).round(2), m=4)
    copied = graph.oracle._vectors[17]
    before = len(graph.oracle.lists[0][17])
    for copy in range(100, 110):
        graph.insert(copied[None], [0])
        graph.delete([copy])
    assert len(graph.oracle.lists[0][17]) == before + 1


def test_another_process_goes_on_where_one_ended(tmp_path: Path) -> None:
    """A builder that has applied the lists chooses as the one that made them."""
    random = np.random.default_rng(1)
    graph = Graph(tmp_path, random.integers(-4, 5, (200, DIM)).astype(np.float32), m=3)
    batches = [random.integers(-4, 5, (20, DIM)).astype(np.float32) for _ in range(3)]
    second = graph.make()
    for batch in batches[:2]:
        second.apply(batch, graph.insert(batch, [0, 1] * 10))
    expected = graph.insert(batches[2], [0] * 20)
    found = second.insert(batches[2], [0] * 20)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.nodes, other.nodes)
        np.testing.assert_array_equal(one.neighbors, other.neighbors)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    embs = np.arange(60, dtype=np.float32).reshape(20, DIM)
    return Graph(tmp_path_factory.mktemp("small"), embs, m=2)


NONE = [ListChanges(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int32))]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: b.insert(np.zeros([1, 5], np.float32), [0]), r"vectors: expected shape \[n, 3\]"),
        (lambda b: b.insert(np.full([1, 3], np.nan, np.float32), [0]), "vectors: expected finite"),
        (lambda b: b.insert(np.zeros([1, 3], np.float32), [-1]), "levels: expected 1 values of at least 0"),
        (lambda b: b.delete(np.array([20], np.int32)), r"positions\[0\]: expected 0 to 19"),
        (lambda b: b.apply(np.zeros([1, 3], np.float32), NONE), "num_levels: expected 2"),
        (lambda b: b.apply(np.zeros([1, 3], np.float32), [changed([0], [0, 1], [21]), *NONE]), "0 to 20"),
        (lambda b: b.apply(np.zeros([1, 3], np.float32), [changed([21], [0, 1], [0]), *NONE]), "0 to 20"),
        (lambda b: b.apply(np.zeros([1, 3], np.float32), [changed([0], [0, 9], [1]), *NONE]), "row splits"),
        (lambda b: b.apply(np.zeros([1, 3], np.float32), [changed([0], [], [1]), *NONE]), "row splits"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(small: Graph, call, message: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call(small.make())


def changed(nodes: list[int], row_splits: list[int], neighbors: list[int]) -> ListChanges:
    return ListChanges(
        np.array(nodes, np.int32), np.array(row_splits, np.int64), np.array(neighbors, np.int32)
    )


def test_half_precision_embeddings_are_read_as_they_are(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    graph = Graph(tmp_path, random.integers(-4, 5, (50, DIM)).astype(np.float16), m=2)
    graph.insert(random.integers(-4, 5, (20, DIM)).astype(np.float32), [0] * 20)
