"""A small export that takes segments, and events for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.export import ExportOptions, Tuning, export_model
from nann.live import Base, State, open_base, replay, updates_dir
from support.tiny_run import write_run

BEAMS = [20, 30, 30, 30, 30, 20]


def write_export(
    folder: Path,
    *,
    share: float = 0.5,
    walk: str = "adaptive",
    model: Any = None,
    write: Callable[..., Path] = write_run,
    stream_offset: dict[str, Any] | None = None,
    precision: str = "float32",
    accuracy: float = 0.99,
    **run: Any,
) -> Path:
    """folder/models/nann/1, of the run folder/run, which `write` writes."""
    write(folder / "run", **run)
    model_dir = folder / "models" / "nann" / "1"
    tuning = Tuning(walk=walk, precision=precision, accuracy=accuracy)  # type: ignore[arg-type]
    options = ExportOptions(level_topn=BEAMS, overlay_share=share, tuning=tuning, stream_offset=stream_offset)
    export_model(folder / "run", model_dir, options, model=model)
    return model_dir


def upsert(item_id: int, embedding: npt.NDArray[Any], **more: Any) -> bytes:
    return json.dumps({"id": int(item_id), "embedding": np.asarray(embedding).tolist(), **more}).encode()


def delete(item_id: int) -> bytes:
    return json.dumps({"id": int(item_id), "delete": True}).encode()


def write_lines(path: Path, events: Iterable[bytes]) -> Path:
    path.write_bytes(b"".join(event + b"\n" for event in events))
    return path


def random_events(base: Base, count: int, *, seed: int, repeat: bool = True) -> list[bytes]:
    """New, changed and deleted items; with `repeat` some items change several times."""
    random = np.random.default_rng(seed)
    ids = random.permutation(base.ids)[: count // 2].tolist() + [10**6 + i for i in range(count // 2)]
    return [
        delete(item) if random.random() < 0.3 else upsert(item, random.normal(size=base.dim).round(3))
        for item in (random.choice(ids, count) if repeat else random.permutation(ids)[:count]).tolist()
    ]


def expected_items(base: Base, events: Iterable[bytes]) -> dict[int, list[float]]:
    """The items and their embeddings after these events."""
    items = dict(zip(base.ids.tolist(), np.asarray(base.tables["item_embs"]).tolist(), strict=True))
    for event in map(json.loads, events):
        items.pop(event["id"], None)
        if "embedding" in event:
            items[event["id"]] = np.array(event["embedding"], base.tables["item_embs"].dtype).tolist()
    return dict(sorted(items.items()))


def state_of(model_dir: Path) -> State:
    """What a server that has applied all segments holds."""
    state = State(open_base(model_dir))
    for _ in replay(state, updates_dir(model_dir)):
        pass
    return state


def items_of(model_dir: Path) -> dict[int, list[float]]:
    """The items and their embeddings, as servers see them."""
    state = state_of(model_dir)
    live = state.live
    embs = state.rows("item_embs", live).tolist()
    return dict(sorted(zip(state.ids(live).tolist(), embs, strict=True)))


def new_rows(model_dir: Path) -> int:
    """Rows that all segments add."""
    return sum(segment.num_new for segment in state_of(model_dir).segments)
