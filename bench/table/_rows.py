"""The rows of docs/performance.md. One function measures each row, in a new process."""

from __future__ import annotations

import datetime
import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nann.bench.machine import describe_machine
from nann.bench.new_process import in_new_process
from nann.bench.workloads import Outcome, TableOptions
from nann.errors import InvalidInputError
from nann.files import write_json
from nann.progress import OnProgress, ignore_progress


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
      work, against: what is measured, and what it is compared with.
      function: "module:name" of a function (options, on_progress, **arguments) -> Outcome.
      arguments: its arguments.
    """

    work: str
    against: str
    function: str
    arguments: dict[str, Any]

    def measure(self, options: TableOptions, on_progress: OnProgress) -> Outcome:
        """Measure the row in this process."""
        module, name = self.function.split(":")
        function: Callable[..., Outcome] = getattr(importlib.import_module(module), name)
        return function(options, on_progress, **self.arguments)


def _against_stock(items: int, size: str, precision: str, *, faster: float, same_ids: float) -> Row:
    return Row(
        f"attention scorer, D = 64, L = 50, beams 100,200x5, {precision}, N = {size}",
        "the same walk in stock TensorFlow ops, float32",
        "nann.bench.peers.stock:against_stock",
        {"items": items, "faster": faster, "same_ids": same_ids, "tuning": {"precision": precision}},
    )


def _against_peers(metric: str, name: str) -> Row:
    return Row(
        f"{name}, N = 1M, D = 64, B = 256 queries per call, one thread",
        "the fastest of faiss HNSW, hnswlib, usearch by their batch calls, own graphs",
        "nann.bench.table._peer_rows:against_peers",
        {"items": 1_000_000, "metric": metric},
    )


ROWS: dict[str, Row] = {
    "attention-100k": _against_stock(100_000, "100k", "float32", faster=4.0, same_ids=0.999),
    "attention-1m": _against_stock(1_000_000, "1M", "float32", faster=4.0, same_ids=0.999),
    "bfloat16-100k": _against_stock(100_000, "100k", "bfloat16", faster=8.0, same_ids=0.99),
    "bfloat16-1m": _against_stock(1_000_000, "1M", "bfloat16", faster=8.0, same_ids=0.99),
    "int8-100k": _against_stock(100_000, "100k", "int8", faster=8.0, same_ids=0.99),
    "int8-1m": _against_stock(1_000_000, "1M", "int8", faster=8.0, same_ids=0.99),
    "trained": Row(
        "a trained attention model, N = 1M: the cheapest beams that reach 98 % agreement",
        "brute force with the same scorer",
        "nann.bench.table._trained_rows:against_brute_force",
        {"items": 1_000_000},
    ),
    "adaptive": Row(
        "items scored at equal agreement (98 %), adaptive walk, the same trained model",
        "the Pareto-best of a sweep of fixed beams",
        "nann.bench.table._trained_rows:adaptive_against_fixed",
        {"items": 1_000_000},
    ),
    "peers-ip": _against_peers("ip", "inner product"),
    "peers-l2": _against_peers("l2", "L2"),
    "growth-attention": Row(
        "latency growth, attention scorer, N = 100k to 1M",
        "itself",
        "nann.bench.table._size_rows:latency_growth",
        {"sizes": (100_000, 1_000_000), "attention": True},
    ),
    "growth-l2": Row(
        "latency growth, L2, N = 100k to 1M to 10M (M = 16, ef_construction = 40)",
        "itself",
        "nann.bench.table._size_rows:latency_growth",
        {"sizes": (100_000, 1_000_000, 10_000_000), "attention": False},
    ),
    "load": Row(
        "load time of a 10M x 64 model, warm page cache; memory beyond the files; memory of its export",
        "reading the files; their size; the largest array",
        "nann.bench.table._size_rows:load_and_memory",
        {"items": 10_000_000},
    ),
    "concurrent": Row(
        "8 concurrent requests, attention scorer, N = 100k",
        "1 request at a time, on all cores and on 1 thread",
        "nann.bench.table._concurrent_rows:concurrent_requests",
        {"items": 100_000},
    ),
    "split": Row(
        "scorer split: random graphs of up to 60 ops, and the models shipped",
        "the unsplit scorer",
        "nann.bench.table._split_rows:split_equality",
        {},
    ),
}


def measure_rows(
    options: TableOptions, names: Sequence[str], *, on_progress: OnProgress | None = None
) -> dict[str, str]:
    """Measure rows one after another and keep each result under the work folder.

    Returns the errors by row; a row with an error keeps its earlier result.
    """
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise InvalidInputError(
            f"rows: expected some of {', '.join(ROWS)}, found {', '.join(unknown)}. Correct --only."
        )
    report = on_progress or ignore_progress
    failed = {}
    for name in names:
        machine = describe_machine()
        try:
            outcome = in_new_process(_measure, name, options, on_progress=_of_row(name, report))
        except Exception as error:
            # The other rows do not depend on this one.
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        result = {
            "row": name,
            "scale": options.scale,
            "rounds": options.rounds,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": machine,
            "checks": [check.to_json() for check in outcome.checks],
            "figures": dict(outcome.figures),
        }
        write_json(_path(options, name), result)
    return failed


def _of_row(name: str, report: OnProgress) -> OnProgress:
    return lambda stage, done, total: report(f"{name}: {stage}", done, total)


def kept_results(options: TableOptions) -> dict[str, dict[str, Any]]:
    """The rows measured so far at this scale, in the order of the table."""
    return {
        name: json.loads(_path(options, name).read_text(encoding="utf-8"))
        for name in ROWS
        if _path(options, name).exists()
    }


def _path(options: TableOptions, name: str) -> Path:
    return options.work / f"results-scale-{options.scale:g}" / f"{name}.json"


def _measure(name: str, options: TableOptions, on_progress: OnProgress) -> Outcome:
    return ROWS[name].measure(options, on_progress)
