"""A run folder of the tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nann.export import build_index
from support.tiny_model import CATES, ITEMS, D

N = 500


def write_run(
    run: Path,
    *,
    dtype: type = np.float32,
    items: int = N,
    m: int = 6,
    embs: npt.NDArray[np.float32] | None = None,
) -> Path:
    """Embeddings (random ones unless given), vocabularies, index and run.json of a tiny model."""
    random = np.random.default_rng(3)
    for name in ("embeddings", "vocabulary"):
        (run / name).mkdir(parents=True)
    np.save(run / "embeddings/item_ids.npy", random.permutation(items).astype(np.int64) * 7 + 3)
    if embs is None:
        embs = random.normal(size=(items, D))
    np.save(run / "embeddings/item_embs.npy", embs.astype(dtype))
    np.save(run / "vocabulary/item_ids.npy", np.arange(ITEMS, dtype=np.int64) * 2 + 1)
    np.save(run / "vocabulary/cate_ids.npy", np.arange(CATES, dtype=np.int64) + 100)
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "support.tiny_model:TinyModel"}))
    # One thread makes the same graph on every machine.
    build_index(run, m=m, threads=1)
    return run
