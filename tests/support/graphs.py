"""Small random graphs with integer-valued scores, on which every implementation must agree exactly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nann.export import GraphIndex, Level, write_index
from nann.ops import IndexMeta

DIM = 3


@dataclass(frozen=True)
class Corpus:
    """A graph with ids [N] and embeddings [N, DIM] of small integers, so that float32 scores are exact."""

    graph: GraphIndex
    item_ids: npt.NDArray[np.int64]
    item_embs: npt.NDArray[np.float32]

    def write(self, folder: Path) -> dict[str, object]:
        """Write the files; returns the arguments for IndexResource."""
        write_index(folder / "index", self.graph)
        np.save(folder / "item_ids.npy", self.item_ids)
        np.save(folder / "item_embs.npy", self.item_embs)
        return {
            "index_dir": folder / "index",
            "item_ids": folder / "item_ids.npy",
            "item_tables": {"item_embs": folder / "item_embs.npy"},
        }


def random_level(rng: np.random.Generator, num_items: int, degree: int, sparsity: float) -> Level:
    """Lists of up to `degree` neighbours; some nodes have none, some neighbours stand twice."""
    lengths = rng.integers(0, degree + 1, num_items) * (rng.random(num_items) >= sparsity)
    row_splits = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Level(rng.integers(0, num_items, row_splits[-1]).astype(np.int32), row_splits)


def random_corpus(
    seed: int,
    *,
    num_items: int = 60,
    hops: tuple[int, ...] = (3, 1),
    degree: int = 5,
    sparsity: float = 0.2,
    num_enter_points: int = 3,
) -> Corpus:
    """A random graph (not an HNSW: the walk must be right on any graph)."""
    rng = np.random.default_rng(seed)
    meta = IndexMeta(
        format_version=1,
        num_items=num_items,
        dim=DIM,
        metric="l2",
        m=degree,
        ef_construction=40,
        start_level=len(hops),
        hops_per_level=hops,
    )
    enter_points = rng.choice(num_items, min(num_enter_points, num_items), replace=False).astype(np.int32)
    levels = tuple(random_level(rng, num_items, degree, sparsity) for _ in hops)
    return Corpus(
        graph=GraphIndex(meta, enter_points, levels),
        item_ids=rng.permutation(10 * num_items)[:num_items].astype(np.int64),
        item_embs=rng.integers(-2, 3, (num_items, DIM)).astype(np.float32),
    )
