"""measure_live.py [--items N] [--case random|clusters|replaced]: live items against a fresh export of them.

Vectors in clusters are exported. A tenth of the items is inserted and a tenth deleted through segments: at
random ("random"), or whole clusters that the base does not have ("clusters"). Or 1 % of the items changes ten
times ("replaced"). Prints one JSON object: upserts per second of the publisher, and the share of the true
best 200 that the export with its segments finds, and a fresh export.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.export import ExportOptions, Tuning, export_vectors
from nann.live import Publisher
from nann.ops import load_library

DIM, K, USERS, BATCH, PER_CLUSTER = 64, 200, 128, 1000, 250
BEAMS = [100, 200, 200, 200, 200, K]
Vectors = npt.NDArray[np.float32]


def clustered(count: int, random: np.random.Generator) -> Vectors:
    """Vectors cluster by cluster."""
    centres = random.normal(size=(-(-count // PER_CLUSTER), DIM))
    vectors = np.repeat(centres, PER_CLUSTER, axis=0)[:count] + 0.7 * random.normal(size=(count, DIM))
    return vectors.astype(np.float32)


def changes(case: str, items: int, random: np.random.Generator) -> tuple[Vectors, list[tuple[Any, Any]]]:
    """The base's vectors [items, D], and batches of (ids, vectors) to insert and of ids to delete."""
    vectors = clustered(items + items // 10, random)
    if case == "random":
        vectors = vectors[random.permutation(len(vectors))]
    base, new = vectors[:items], vectors[items:]
    if case == "replaced":
        ids = random.choice(items, items // 100, replace=False)
        return base, [
            ((ids, (base[ids] + 0.7 * random.normal(size=(ids.size, DIM))).astype(np.float32)), [])
            for _ in range(10)
        ]
    deleted = random.permutation(items)[: items // 10] if case == "random" else np.arange(items // 10)
    return base, [
        (
            (items + np.arange(start, start + len(new[start : start + BATCH])), new[start : start + BATCH]),
            gone,
        )
        for start, gone in zip(
            range(0, len(new), BATCH), np.array_split(deleted, -(-len(new) // BATCH)), strict=True
        )
    ]


def events(inserted: tuple[Any, Vectors], deleted: Any) -> Iterator[bytes]:
    """The events of one batch."""
    for item, vector in zip(*inserted, strict=True):
        yield json.dumps({"id": int(item), "embedding": vector.tolist()}).encode()
    for item in deleted:
        yield json.dumps({"id": int(item), "delete": True}).encode()


def agreement(model_dir: Path, ids: npt.NDArray[np.int64], vectors: Vectors, users: Vectors) -> float:
    """Share of the true best K that `retrieve` finds."""
    load_library()
    exported = tf.saved_model.load(str(model_dir))  # It has applied the segments when it is loaded.
    answers = exported.signatures["retrieve"](
        query_emb=tf.constant(users),
        level_topn=tf.constant([BEAMS] * len(users)),
        exclude_ids=tf.fill([len(users), 1], tf.constant(-1, tf.int64)),
    )
    found = answers["top_k"].numpy()
    squares = (vectors * vectors).sum(axis=1)
    shares = []
    for user, answer in zip(users, found, strict=True):
        best = np.argpartition(squares - 2 * vectors @ user, K)[:K]
        shares.append(np.isin(ids[best], answer).mean())
    return float(np.mean(shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--case", choices=["random", "clusters", "replaced"], default="random")
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    base, batches = changes(arguments.case, arguments.items, random)
    items = dict(enumerate(base))
    options = ExportOptions(level_topn=BEAMS, overlay_share=0.2, tuning=Tuning(walk="adaptive", expand=8))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "base.npy", base)
        export_vectors(folder / "base.npy", folder / "nann/1", options, metric="l2")
        seconds, upserts = 0.0, 0
        with Publisher(folder / "nann/1") as publisher:
            for inserted, deleted in batches:
                lines = list(events(inserted, deleted))
                started = time.perf_counter()
                publisher.publish(lines, {})
                seconds += time.perf_counter() - started
                upserts += len(inserted[0])
                items.update(zip(map(int, inserted[0]), inserted[1], strict=True))
                for item in deleted:
                    del items[int(item)]
        ids, vectors = np.array(list(items), np.int64), np.array(list(items.values()), np.float32)
        np.save(folder / "fresh.npy", vectors)
        np.save(folder / "ids.npy", ids)
        export_vectors(folder / "fresh.npy", folder / "fresh/1", options, ids=folder / "ids.npy", metric="l2")
        users = (vectors[random.choice(len(vectors), USERS)] + 0.5 * random.normal(size=(USERS, DIM))).astype(
            np.float32
        )
        print(
            json.dumps(
                {
                    "items": arguments.items,
                    "case": arguments.case,
                    "upserts": upserts,
                    "upserts_per_second": upserts / seconds,
                    "agreement_live": agreement(folder / "nann/1", ids, vectors, users),
                    "agreement_fresh": agreement(folder / "fresh/1", ids, vectors, users),
                    "segment_bytes": sum(p.stat().st_size for p in folder.glob("nann/updates/1/*.segment")),
                }
            )
        )


if __name__ == "__main__":
    main()
