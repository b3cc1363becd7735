"""An index with an overlay: random segments, and what a server must hold after each of them.

The writer of segments is independent of the product's: it follows docs/live.md alone.
"""

from __future__ import annotations

import dataclasses
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.export import GraphIndex, Level
from nann.export.index.proxy_oracle import ProxyTables
from support.graphs import DIM, Corpus

EXPORT_ID = "0123456789abcdef" * 2


def segment_bytes(
    number: int,
    follows: int,
    positions_before: int,
    columns: Mapping[str, npt.NDArray[Any]],
    *,
    export_id: str = EXPORT_ID,
    published_micros: int = 0,
) -> bytes:
    """A segment file as docs/live.md describes it."""
    at = -(-(128 + 128 * len(columns)) // 64) * 64
    directory, data = b"", b""
    for name, array in columns.items():
        width = array.shape[1] if array.ndim == 2 else 1
        entry = (name.encode(), array.dtype.str.encode(), array.shape[0], width, at + len(data))
        directory += struct.pack("<96s8sQQQ", *entry)
        data += np.ascontiguousarray(array).tobytes()
        data += bytes(-len(data) % 64)
    size = at + len(data)
    new = len(columns["ids"]) if "ids" in columns else 0
    summed = struct.pack(
        "<QQQQQq32sQ24x",
        *(size, number, follows, positions_before, new, published_micros, export_id.encode(), len(columns)),
    )
    summed += directory
    summed += bytes(at - 16 - len(summed)) + data
    return struct.pack("<8sII", b"NANNSEG\0", 1, zlib.crc32(summed)) + summed


def publish(folder: Path, number: int, content: bytes) -> Path:
    """Write a segment as a publisher does: beside its name, and renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number:010}.segment"
    staged = folder / f".{path.name}"
    staged.write_bytes(content)
    os.rename(staged, path)
    return path


def links_columns(level: int, lists: Mapping[int, Sequence[int]]) -> dict[str, npt.NDArray[Any]]:
    """The columns of a level, from the neighbours by position."""
    ordered = [lists[position] for position in sorted(lists)]
    lengths = [len(each) for each in ordered]
    return {
        f"links/{level}/positions": np.array(sorted(lists), np.int32),
        f"links/{level}/row_splits": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        f"links/{level}/values": np.array([n for each in ordered for n in each], np.int32),
    }


@dataclass
class LiveCase:
    """A corpus in MODELS/1/assets and segments for MODELS/updates/1; its arrays are as they are after all."""

    corpus: Corpus
    models: Path
    rng: np.random.Generator
    capacity: int
    proxy: ProxyTables | None = None
    segments: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.item_ids, self.item_embs = self.corpus.item_ids, self.corpus.item_embs
        self.features = None if self.proxy is None else self.proxy.features
        self.deleted = np.zeros(self.item_ids.size, np.bool_)
        self.lists = [
            [list(level.values[a:b]) for a, b in zip(level.row_splits, level.row_splits[1:], strict=False)]
            for level in self.corpus.graph.levels
        ]

    @property
    def updates(self) -> Path:
        return self.models / "updates" / "1"

    def arguments(self) -> dict[str, Any]:
        """Write the base; returns the arguments for IndexResource."""
        folder = self.models / "1" / "assets"
        folder.mkdir(parents=True)
        arguments = self.corpus.write(folder)
        if self.proxy is not None:
            np.save(folder / "f.npy", self.proxy.features)
            np.save(folder / "s.npy", self.proxy.samples)
            arguments["item_tables"]["f"] = folder / "f.npy"  # type: ignore[index]
            arguments["user_tables"] = {"s": folder / "s.npy"}
        return {**arguments, "overlay_capacity": self.capacity, "export_id": EXPORT_ID}

    def publish_all(self) -> None:
        for number, content in enumerate(self.segments, 1):
            publish(self.updates, number, content)

    def add_random_segment(
        self,
        *,
        new: int,
        changed: int,
        deleted: int,
        attributes: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        """Insert, change and delete items, with random links to and from them.

        `attributes` are values [new + changed] by name, in the order of the new positions.
        """
        rng, before = self.rng, self.item_ids.size
        live = rng.permutation(np.flatnonzero(~self.deleted))
        gone = np.sort(live[: changed + deleted]).astype(np.int32)
        ids = np.concatenate(
            [rng.integers(10**6, 10**7, new) * 1000 + len(self.segments), self.item_ids[live[:changed]]]
        )
        ids = rng.permutation(ids).astype(np.int64)
        embs = rng.integers(-2, 3, (ids.size, DIM)).astype(np.float32)
        columns = {"ids": ids, "deleted": gone, "table/item_embs": embs}
        if self.features is not None:
            columns["table/f"] = rng.normal(size=(ids.size, self.features.shape[1])).astype(np.float16)
            self.features = np.concatenate([self.features, columns["table/f"]])
        columns.update({f"attribute/{name}/values": x for name, x in (attributes or {}).items()})
        for level in range(len(self.lists)):
            columns.update(links_columns(level, self._random_links(level, before, ids.size)))
        self.segments.append(segment_bytes(len(self.segments) + 1, len(self.segments), before, columns))
        self.item_ids = np.concatenate([self.item_ids, ids])
        self.item_embs = np.concatenate([self.item_embs, embs])
        self.deleted = np.concatenate([self.deleted, np.zeros(ids.size, np.bool_)])
        self.deleted[gone] = True

    def _random_links(self, level: int, before: int, new: int) -> dict[int, list[int]]:
        """Sets lists of `level` for new positions, at upper levels for some, and for some others."""
        rng, after = self.rng, before + new
        of_level = self.lists[level]
        of_level += [[] for _ in range(new)]
        linked = [p for p in range(before, after) if level == 0 or rng.random() < 0.3]
        changed = {p: [int(n) for n in rng.integers(0, after, rng.integers(0, 6))] for p in linked}
        for position in rng.choice(before, min(before, 2 * len(linked)), replace=False):
            changed[int(position)] = [*of_level[position][:4], *(int(rng.choice(linked)) for _ in range(2))]
        for position, neighbors in changed.items():
            of_level[position] = neighbors
        return changed

    def state(self) -> Corpus:
        """Base and overlay as one corpus; `deleted` are the positions that segments have deleted."""
        levels = []
        for lists in self.lists:
            splits = np.concatenate([[0], np.cumsum([len(each) for each in lists])]).astype(np.int64)
            levels.append(Level(np.array([n for each in lists for n in each], np.int32), splits))
        meta = dataclasses.replace(self.corpus.graph.meta, num_items=self.item_ids.size)
        graph = GraphIndex(meta, self.corpus.graph.enter_points, tuple(levels))
        return Corpus(graph, self.item_ids, self.item_embs)

    def state_proxy(self) -> ProxyTables | None:
        if self.proxy is None or self.features is None:
            return None
        base = self.corpus.item_ids.size
        return self.proxy._replace(features=self.features, base_items=base)
