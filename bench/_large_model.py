"""A corpus of any size that is written, exported and loaded, and the memory that each takes.

The embeddings and the graph are random (neither an export nor a load looks at their meaning); the model has a
user-side embedding table of one row an item.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil

_DIM, _SEQUENCE, _TABLE_DIM = 64, 50, 32
_DEGREE, _UPPER_SHARE = 64, 32  # Level 0 has 64 neighbours a node; one node in 32 lives on level 1.
_CHUNK_ROWS = 2**18
_BEAMS = (100, 200, 200, 200, 200, 200)


class LargeModel:
    """Dot product of the item with the mean of the user's events, through one matrix."""

    def __init__(self, items: int) -> None:
        import tensorflow as tf

        self.user_features = {"item_ids": tf.TensorSpec([_SEQUENCE], tf.int64)}
        self.user_state = {"comm_seq": tf.TensorSpec([_SEQUENCE, _TABLE_DIM], tf.float32)}
        self.embedding_dim = _DIM
        self._table = tf.Variable(tf.random.normal([items + 1, _TABLE_DIM]), name="events")
        self._kernel = tf.Variable(tf.random.normal([_TABLE_DIM, _DIM]))

    def embed_user(self, features: Any) -> dict[str, Any]:
        import tensorflow as tf

        present = tf.cast(features["item_ids"] > 0, tf.float32)[..., None]
        return {"comm_seq": tf.gather(self._table, features["item_ids"]) * present}

    def embed_item(self, features: Any) -> Any:
        raise NotImplementedError("the embeddings are drawn")

    def score(self, user_state: Any, item_embs: Any) -> Any:
        import tensorflow as tf

        user = tf.linalg.matvec(self._kernel, tf.reduce_mean(user_state["comm_seq"], 0), transpose_a=True)
        return tf.linalg.matvec(item_embs, user)


def write_large_run(run: Path, items: int) -> None:
    """A run folder of `items` items, its arrays written in chunks."""
    from nann.export import GraphIndex, Level, write_index
    from nann.ops import IndexMeta

    shutil.rmtree(run, ignore_errors=True)
    rng = np.random.default_rng(0)
    for name in ("embeddings", "vocabulary"):
        (run / name).mkdir(parents=True)
    ids = np.arange(1, items + 1, dtype=np.int64) * 3
    np.save(run / "vocabulary/item_ids.npy", ids)
    np.save(run / "embeddings/item_ids.npy", rng.permutation(ids))
    path = run / "embeddings/item_embs.npy"
    embs = np.lib.format.open_memmap(path, "w+", np.float32, (items, _DIM))
    for start in range(0, items, _CHUNK_ROWS):
        rows = min(_CHUNK_ROWS, items - start)
        embs[start : start + rows] = rng.standard_normal((rows, _DIM), np.float32)
    upper = np.arange(0, items, _UPPER_SHARE, dtype=np.int64)
    lengths = np.zeros(items, np.int64)
    lengths[upper] = _DEGREE // 2
    levels = (
        Level(
            rng.integers(0, items, items * _DEGREE, np.int32),
            _DEGREE * np.arange(items + 1, dtype=np.int64),
        ),
        Level(
            upper[rng.integers(0, len(upper), lengths.sum())].astype(np.int32),
            np.concatenate([[0], np.cumsum(lengths)]),
        ),
    )
    meta = IndexMeta(1, items, _DIM, "l2", _DEGREE // 2, 100, 2, (3, 1))
    write_index(run / "index", GraphIndex(meta, upper[:1000].astype(np.int32), levels))
    # Last: a run that has it is whole.
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "none:None"}))


def export_large(run: Path, out: Path, items: int) -> dict[str, Any]:
    """Export the run; how long it took, and the anonymous memory that the model itself had taken before."""
    from nann.export import export_model

    model = LargeModel(items)
    before = anonymous_bytes()
    started = time.perf_counter()
    export_model(run, out, model=model, overwrite=True)
    return {"export_seconds": time.perf_counter() - started, "model_anon_bytes": before}


def load_large(model_dir: Path) -> dict[str, Any]:
    """Read the export's files, then load it and answer a request; what both took."""
    import tensorflow as tf

    import nann.ops

    nann.ops.load_library()
    # Not that this way of loading is deprecated: it is the one that servers use.
    tf.get_logger().setLevel("ERROR")
    tf.compat.v1.Session().close()
    before = anonymous_bytes()
    files = sorted((model_dir / "assets").iterdir())
    cat_seconds = _read(files)
    started = time.perf_counter()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(model_dir))
        load_seconds = time.perf_counter() - started
        signature = meta.signature_def["serving_default"]
        feeds = {
            signature.inputs["comm_seq"].name: np.ones((1, _SEQUENCE * _TABLE_DIM), np.float16),
            signature.inputs["level_topn"].name: np.array(_BEAMS, np.int32),
        }
        ids = session.run(signature.outputs["top_k"].name, feeds)
        added = anonymous_bytes() - before
    return {
        "load_seconds": load_seconds,
        "cat_seconds": cat_seconds,
        "load_anon_bytes": added,
        "asset_bytes": sum(path.stat().st_size for path in files),
        "found": int((ids >= 0).sum()),
    }


def _read(files: list[Path]) -> float:
    """Seconds to read the files, as cat does; they are in the page cache afterwards."""
    buffer = bytearray(2**20)
    for path in files:
        _read_one(path, buffer)
    started = time.perf_counter()
    for path in files:
        _read_one(path, buffer)
    return time.perf_counter() - started


def _read_one(path: Path, buffer: bytearray) -> None:
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def anonymous_bytes(process: psutil.Process | None = None) -> int:
    """Memory of a process, this one by default, that is no mapped file."""
    memory = (process or psutil.Process()).memory_info()
    return int(memory.rss - memory.shared)


def in_process_of_its_own(
    function: Callable[..., dict[str, Any]], *arguments: Any
) -> tuple[dict[str, Any], int]:
    """The function's result from a new process, and that process' most anonymous memory in bytes."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        process = psutil.Process(pool.submit(os.getpid).result())
        future = pool.submit(function, *arguments)
        peak = 0
        while not future.done():
            peak = max(peak, anonymous_bytes(process))
            time.sleep(0.05)
        return future.result(), peak
