"""A corpus of any size that is written, exported and loaded, and the memory that each of these needs.

Embeddings and graph are random: export and load do not depend on their values. The model has a user-side
embedding table with one row per item.
"""

from __future__ import annotations

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

from nann.run import Run, write_run

# The reference model's sizes.
_DIM, _SEQUENCE, _TABLE_DIM = 64, 50, 32
# A graph with M = 32: 64 neighbours per node on level 0, and one node in 32 on level 1.
_DEGREE, _UPPER_SHARE = 64, 32
# Rows written at once: 64 MB of float32, little beside the memory measured here.
_CHUNK_ROWS = 2**18
_BEAMS = (100, 200, 200, 200, 200, 200)


class LargeModel:
    """Dot product of the item and the mean of the user's events, transformed by a matrix."""

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
        raise NotImplementedError("the run has embeddings")

    def score(self, user_state: Any, item_embs: Any) -> Any:
        import tensorflow as tf

        user = tf.linalg.matvec(self._kernel, tf.reduce_mean(user_state["comm_seq"], 0), transpose_a=True)
        return tf.linalg.matvec(item_embs, user)


def write_large_run(run: Path, items: int) -> None:
    """Write a run folder of `items` items, its arrays in chunks."""
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
    # Last: a run with this file is complete. The exports bring their model with them.
    write_run(run, Run(model="none:None"))


def export_large(run: Path, out: Path, items: int) -> dict[str, Any]:
    """Export the run; returns the duration, and the anonymous memory of the model itself."""
    from nann.export import ExportOptions, Tuning, export_model

    model = LargeModel(items)
    # What is measured is writing and loading, not choosing a walk.
    options = ExportOptions(tuning=Tuning(walk="fixed"))
    before = anonymous_bytes()
    started = time.perf_counter()
    export_model(run, out, options, model=model, overwrite=True)
    return {"export_seconds": time.perf_counter() - started, "model_anon_bytes": before}


def load_large(model_dir: Path) -> dict[str, Any]:
    """Read the export's files, then load it and answer a request; returns the time and memory of both."""
    import tensorflow as tf

    from nann.export.loaded import LoadedModel
    from nann.ops import load_library

    # What the first session of a process takes is not the load's.
    load_library()
    tf.compat.v1.Session().close()
    before = anonymous_bytes()
    files = sorted((model_dir / "assets").iterdir())
    cat_seconds = _read(files)
    started = time.perf_counter()
    with LoadedModel(model_dir) as model:
        load_seconds = time.perf_counter() - started
        state = np.ones((1, _SEQUENCE * _TABLE_DIM), np.float16)
        inputs: dict[str, Any] = {"comm_seq": state, "level_topn": np.array(_BEAMS, np.int32)}
        ids = model.run("serving_default", inputs)["top_k"]
        added = anonymous_bytes() - before
    return {
        "load_seconds": load_seconds,
        "cat_seconds": cat_seconds,
        "load_anon_bytes": added,
        "asset_bytes": sum(path.stat().st_size for path in files),
        "found": int((ids >= 0).sum()),
    }


def _read(files: list[Path]) -> float:
    """Seconds to read the files like `cat`, from the page cache."""
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
    """Memory of a process, by default this one, that is not of a mapped file."""
    memory = (process or psutil.Process()).memory_info()
    return int(memory.rss - memory.shared)


def watched_in_new_process(
    function: Callable[..., dict[str, Any]], *arguments: Any
) -> tuple[dict[str, Any], int]:
    """The function's result from a new process, and the largest anonymous memory of that process in bytes."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        process = psutil.Process(pool.submit(os.getpid).result())
        future = pool.submit(function, *arguments)
        peak = 0
        while not future.done():
            peak = max(peak, anonymous_bytes(process))
            time.sleep(0.05)
        return future.result(), peak
