"""Rows against other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nann.bench._corpus import Metric
from nann.bench._peer_rounds import PeerOptions, compare_peers
from nann.bench._peers import installed_peers
from nann.bench._targets import limit_threads
from nann.bench._workloads import Check, Outcome, TableOptions
from nann.progress import OnProgress


def against_peers(options: TableOptions, on_progress: OnProgress, *, items: int, metric: Metric) -> Outcome:
    """This project's fastest walk against the fastest graph library, at three recalls; in one thread."""
    compared = compare_in_one_thread(
        PeerOptions(
            items=options.items(items),
            metrics=(metric,),
            rounds=options.rounds,
            peers=installed_peers(),
            seed=options.seed,
            m=options.m,
            ef_construction=options.ef_construction,
        ),
        options.work,
        on_progress,
    )
    checks: list[Check] = []
    figures: dict[str, float | str] = {}
    for case in compared["cases"]:
        name = f"recall@{case['k']} {case['recall']:g}"
        checks.extend(_checks(case, name))
        for row in case["rows"]:
            text = f"{name}, {row['name']}"
            figures[f"{text}, us a query"] = row.get("micros_a_query", np.nan)
            figures[f"{text}, effort and recall"] = f"{row['effort']}, {row['recall']:.3f}"
    return Outcome(checks, figures)


def compare_in_one_thread(options: PeerOptions, work: Path, on_progress: OnProgress) -> dict[str, Any]:
    """`compare_peers` for a new process, whose TensorFlow has no threads yet."""
    limit_threads(1)
    return compare_peers(options, work, on_progress=on_progress)


def compare_stock(options: PeerOptions, work: Path, on_progress: OnProgress) -> dict[str, Any]:
    """The attention walk against stock TensorFlow ops, on the same vectors; checks and figures."""
    from nann.bench._attention_rows import against_stock

    outcome = against_stock(
        TableOptions(
            work=work,
            rounds=options.rounds,
            m=options.m,
            ef_construction=options.ef_construction,
            seed=options.seed,
        ),
        on_progress,
        items=options.items,
        dim=options.dim,
        faster=4.0,
        same_ids=0.999,
    )
    return {"checks": [check.to_json() for check in outcome.checks], "figures": dict(outcome.figures)}


def _checks(case: dict[str, Any], name: str) -> list[Check]:
    """Kernel and whole call of the walk whose whole call is the fastest."""
    whole = {walk: ratio for walk, ratio in case["ratios"].items() if not walk.endswith("(kernel)")}
    if not whole:
        return [Check(f"{name}: recall was not reached", 0.0, 1.0)]
    walk = max(whole, key=lambda name: float(whole[name]["value"]))
    checks = []
    for part, ratio in (("whole call", whole[walk]), ("kernel", case["ratios"][f"{walk} (kernel)"])):
        what = f"{name}, {part}: {walk} against {ratio['against']}"
        checks.append(Check(what, ratio["value"], 1.0, True, ratio["low"], ratio["high"]))
    return checks
