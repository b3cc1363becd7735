"""A small export that takes segments, and events for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.export import ExportOptions, Tuning, export_model
from support.tiny_run import write_run

BEAMS = [20, 30, 30, 30, 30, 20]


def write_export(
    folder: Path,
    *,
    share: float = 0.5,
    walk: str = "adaptive",
    model: Any = None,
    write: Callable[..., Path] = write_run,
    **run: Any,
) -> Path:
    """folder/models/nann/1, of the run folder/run, which `write` writes."""
    write(folder / "run", **run)
    model_dir = folder / "models" / "nann" / "1"
    tuning = Tuning(walk=walk)  # type: ignore[arg-type]
    options = ExportOptions(level_topn=BEAMS, overlay_share=share, tuning=tuning)
    export_model(folder / "run", model_dir, options, model=model)
    return model_dir


def upsert(item_id: int, embedding: npt.NDArray[Any], **more: Any) -> bytes:
    return json.dumps({"id": int(item_id), "embedding": np.asarray(embedding).tolist(), **more}).encode()


def delete(item_id: int) -> bytes:
    return json.dumps({"id": int(item_id), "delete": True}).encode()


def write_lines(path: Path, events: Iterable[bytes]) -> Path:
    path.write_bytes(b"".join(event + b"\n" for event in events))
    return path
