"""What walks find among inserted items: as much as in a graph that is built over the same items at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nann.export import GraphIndex, Level, build_index, read_index
from nann.export.index.oracle import adaptive_search
from nann.live._links import draw_levels
from nann.ops import IndexResource, LinkBuilder

N, DIM, M, EF, K, USERS = 3000, 16, 8, 60, 50, 40
PER_CLUSTER = 30
BEAMS = [64, 100, 100, 100, 100, K]
Vectors = npt.NDArray[np.float32]


def clustered(count: int, random: np.random.Generator) -> Vectors:
    centres = np.repeat(random.normal(size=(-(-count // PER_CLUSTER), DIM)), PER_CLUSTER, axis=0)[:count]
    return (centres + 0.5 * random.normal(size=(count, DIM))).astype(np.float32)


class LiveIndex:
    """An index over vectors, and lists that a link builder changes."""

    def __init__(self, folder: Path, vectors: Vectors) -> None:
        (folder / "embeddings").mkdir(parents=True)
        np.save(folder / "embeddings/item_ids.npy", np.arange(len(vectors)))
        np.save(folder / "embeddings/item_embs.npy", vectors)
        self._graph = build_index(folder, m=M, ef_construction=EF, threads=1)
        self._lists = [
            [level.values[a:b] for a, b in zip(level.row_splits, level.row_splits[1:], strict=False)]
            for level in read_index(folder / "index").levels
        ]
        index = IndexResource(
            index_dir=folder / "index",
            item_ids=folder / "embeddings/item_ids.npy",
            item_tables={"item_embs": folder / "embeddings/item_embs.npy"},
        )
        self._builder = LinkBuilder(index, m=M, ef_construction=EF)
        self.vectors, self.dead = vectors, np.zeros(len(vectors), np.bool_)

    def change(self, new: Vectors, deleted: npt.NDArray[np.int64]) -> None:
        self.dead[deleted] = True
        self._builder.delete(deleted.astype(np.int32))
        changes = self._builder.insert(new, draw_levels(len(self.vectors), len(new), M))
        self.vectors = np.concatenate([self.vectors, new])
        self.dead = np.append(self.dead, np.zeros(len(new), np.bool_))
        for lists, change in zip(self._lists, changes, strict=True):
            lists += [np.zeros(0, np.int32)] * len(new)
            for node, neighbors in zip(
                change.nodes, np.split(change.neighbors, change.row_splits[1:-1]), strict=False
            ):
                lists[node] = neighbors

    def agreement(self, users: Vectors) -> float:
        """Share of the true best K live items that an adaptive walk finds."""
        levels = tuple(
            Level(np.concatenate(lists), np.cumsum([0, *map(len, lists)], dtype=np.int64))
            for lists in self._lists
        )
        meta = replace(self._graph.meta, num_items=len(self.vectors))
        graph = GraphIndex(meta, self._graph.enter_points, levels)
        ids, live = np.arange(len(self.vectors)), np.flatnonzero(~self.dead)
        shares = []
        for user in users:
            scores = -((self.vectors - user) ** 2).sum(axis=1)
            found, _, _ = adaptive_search(
                graph, ids, lambda p, scores=scores: scores[p], BEAMS, ids[self.dead], expand=8
            )
            best = live[np.argsort(-scores[live], kind="stable")[:K]]
            shares.append(np.isin(best, found).mean())
        return float(np.mean(shares))


def inserted_and_deleted(
    case: str, random: np.random.Generator
) -> tuple[Vectors, list[tuple[Vectors, npt.NDArray[np.int64]]]]:
    """The base's vectors, and batches of new vectors and deleted positions."""
    if case == "replaced":
        base = clustered(N, random)
        current, batches = random.permutation(N)[: N // 100], []
        for batch in range(10):
            new = base[random.permutation(N)[: current.size]] + 0.3 * random.normal(size=(current.size, DIM))
            batches.append((new.astype(np.float32), current))
            current = N + batch * current.size + np.arange(current.size)
        return base, batches
    vectors = clustered(N + N // 10, random)
    deleted = np.arange(N // 10)  # Whole clusters.
    if case == "random":
        vectors, deleted = vectors[random.permutation(len(vectors))], random.permutation(N)[: N // 10]
    return vectors[:N], list(zip(np.split(vectors[N:], 6), np.split(deleted, 6), strict=True))


@pytest.mark.parametrize("case", ["random", "clusters", "replaced"])
def test_a_walk_finds_as_much_as_in_a_new_graph(case: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    base, batches = inserted_and_deleted(case, random)
    live = LiveIndex(tmp_path / "live", base)
    for new, deleted in batches:
        live.change(new, deleted)
    remaining = live.vectors[~live.dead]
    fresh = LiveIndex(tmp_path / "fresh", remaining)
    users = remaining[random.permutation(len(remaining))[:USERS]] + 0.3 * random.normal(size=(USERS, DIM))
    found, expected = live.agreement(users), fresh.agreement(users)
    assert found >= expected - 0.01, (found, expected)
