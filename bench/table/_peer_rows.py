"""Rows against other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np

from nann.bench.corpus import Metric
from nann.bench.peers.libraries import installed_peers
from nann.bench.peers.rounds import PeerOptions, compare_in_one_thread
from nann.bench.workloads import Check, Outcome, TableOptions
from nann.progress import OnProgress


def against_peers(options: TableOptions, on_progress: OnProgress, *, items: int, metric: Metric) -> Outcome:
    """This project's fastest walk against the fastest graph library, at three recalls, in one thread."""
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
            figures[f"{text}, us per query"] = row.get("micros_a_query", np.nan)
            figures[f"{text}, effort and recall"] = f"{row['effort']}, {row['recall']:.3f}"
    return Outcome(checks, figures)


def _checks(case: dict[str, Any], name: str) -> list[Check]:
    """Checks of the walk with the fastest whole call: its whole call and its kernel."""
    whole = {walk: ratio for walk, ratio in case["ratios"].items() if not walk.endswith("(kernel)")}
    if not whole:
        return [Check(f"{name}: recall not reached", 0.0, 1.0)]
    walk = max(whole, key=lambda name: float(whole[name]["value"]))
    checks = []
    for part, ratio in (("whole call", whole[walk]), ("kernel", case["ratios"][f"{walk} (kernel)"])):
        what = f"{name}, {part}: {walk} against {ratio['against']}"
        checks.append(Check(what, ratio["value"], 1.0, True, ratio["low"], ratio["high"]))
    return checks
