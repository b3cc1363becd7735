"""What a search by ids takes with users encoded natively and by TensorFlow (docs/speed.md).

    PYTHONPATH=tests .venv/bin/python -m zoo.encoders [NAME ...]

One user among 500 items, both exports in one process and in turns: medians of rounds, in milliseconds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import nann.bench.requests as bench_requests
from nann.bench.statistics import interleaved
from nann.export import ExportOptions, build_index, export_model
from nann.export.loaded import LoadedModel
from zoo import ZOO, write_run

_BEAMS = (20, 40, 40, 40, 40, 40)
_ROUNDS, _CALLS = 7, 60
_BY_IDS = "retrieve_by_ids"


def milliseconds_of(name: str, folder: Path) -> dict[str, float] | None:
    """Export a member both ways; encoder -> median time of a search. None where TensorFlow has to encode."""
    write_run(name, folder / "run")
    build_index(folder / "run", m=8)
    calls: dict[str, Callable[[], Any]] = {}
    for encoder in ("auto", "tensorflow"):
        out = folder / encoder / "1"
        result = export_model(folder / "run", out, ExportOptions(level_topn=_BEAMS, encoder=encoder))
        if (result["encoder"] or {}).get("executor") == "tensorflow" and encoder == "auto":
            return None
        calls[encoder] = _search(out)
    seconds = interleaved({name: partial(_median, call) for name, call in calls.items()}, _ROUNDS)
    return {encoder: float(np.median(each)) * 1e3 for encoder, each in seconds.items()}


def _search(model_dir: Path) -> Callable[[], Any]:
    """A search by the ids of the export's warm-up."""
    model = LoadedModel(model_dir)
    logged = bench_requests.read_prediction_logs(model_dir / "assets.extra/tf_serving_warmup_requests")
    inputs = next(each.inputs for each in logged if each.signature == _BY_IDS)
    return lambda: model.run(_BY_IDS, inputs)


def _median(call: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(_CALLS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main(names: list[str]) -> None:
    """Measure and print."""
    for name in names or list(ZOO):
        with tempfile.TemporaryDirectory() as folder:
            found = milliseconds_of(name, Path(folder))
        if found is None:
            print(f"{name}: TensorFlow", flush=True)
            continue
        by_tensorflow, natively = found["tensorflow"], found["auto"]
        print(
            f"{name}: {by_tensorflow:.3f} ms by TensorFlow, {natively:.3f} natively, "
            f"{by_tensorflow / natively:.2f} times",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
