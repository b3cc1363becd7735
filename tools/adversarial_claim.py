#!/usr/bin/env python3
"""adversarial_claim.py OUT [SOURCE]: does the adversarial term make a model easier to walk?

Trains arms that differ in one thing (nothing, the adversarial term, noise on item embeddings), with
several seeds, on the same data and for the same number of epochs. Each is measured through its exports:
next-item recall by brute force, by the fixed walk and by the walk that `nann export` chooses, agreement
with brute force, and the items that a walk scores for 98 % of it. Writes OUT/claim.json and OUT/claim.png.
A run that was stopped goes on: what is done is not done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nann.export import build_index
from nann.training import EvaluateOptions, TrainOptions, embed, evaluate, prepare_data, sweep, train

SOURCE = "synthetic:items=200000,users=100000,events=30,seed=0"
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "adversarial": {"adv_eps": 0.1, "adv_weight": 1.0},
    "noise": {"item_noise": 0.6},
}
TARGET = 0.98
K = 200


def measured(folder: Path, data: Path, arm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one arm and seed; read from FOLDER/figures.json when they are there."""
    figures = folder / "figures.json"
    if figures.is_file():
        found: dict[str, Any] = json.loads(figures.read_text())
        return found
    training = TrainOptions(epochs=options.epochs, patience=0, seed=seed, **ARMS[arm])
    run = train(data, folder, training, model=options.model)
    embed(folder)
    build_index(folder)
    walks = {
        walk: evaluate(
            folder, EvaluateOptions(walk=walk, k=K, brute_force=True, max_users=options.users)
        ).to_json()
        for walk in ("fixed", "auto")
    }
    points = sweep(folder, EvaluateOptions(walk="adaptive", k=K, max_users=options.users)).points
    result = {
        "arm": arm,
        "seed": seed,
        "recall_brute_force": walks["fixed"]["recall_brute_force"],
        "recall_fixed": walks["fixed"]["recall_walk"],
        "recall_chosen_walk": walks["auto"]["recall_walk"],
        "agreement_fixed": walks["fixed"]["agreement"],
        "agreement_chosen_walk": walks["auto"]["agreement"],
        "items_scored_at_target": items_scored_at(
            TARGET, [(point.agreement, point.items_scored) for point in points]
        ),
        "history": [dict(epoch) for epoch in run.history],
    }
    figures.write_text(json.dumps(result))
    return result


def items_scored_at(target: float, points: Sequence[tuple[float, float]]) -> float | None:
    """Items that the walk scores for this agreement, between two beams that were measured (linearly).

    points: (agreement, items scored) of some beams. None where none reaches `target`, or the narrowest does.
    """
    agreements, items = np.array(sorted(points)).T
    if not agreements[0] < target <= agreements[-1]:
        return None
    return float(np.interp(target, agreements, items))


def plot(results: list[dict[str, Any]], file: Path) -> None:
    """Each figure by arm: a point per seed, and the mean. At last the curves of the trainings."""
    import matplotlib.pyplot as plt

    names = [name for name in results[0] if name.startswith(("recall", "agreement", "items"))]
    columns = 4  # On a page of documentation more are too small to read.
    rows = -(-(len(names) + 1) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(3 * columns, 3 * rows), layout="constrained")
    for unused in grid.flat[len(names) + 1 :]:
        unused.set_axis_off()
    axes = list(grid.flat[: len(names) + 1])
    for axis, name in zip(axes[:-1], names, strict=True):
        for place, arm in enumerate(ARMS):
            values = [each[name] for each in results if each["arm"] == arm and each[name] is not None]
            axis.plot([place] * len(values), values, "o", color="tab:blue", alpha=0.5)
            if values:
                axis.plot(place, np.mean(values), "_", color="black", markersize=20)
        axis.set_title(name.replace("_", " "), fontsize=8)
        axis.set_xticks(range(len(ARMS)), ARMS, fontsize=7)
    for color, arm in zip(("black", "tab:blue", "tab:orange"), ARMS, strict=True):
        curves = [each["history"] for each in results if each["arm"] == arm]
        for number, curve in enumerate(curves):
            recall = [epoch["validation_recall_at_50"] for epoch in curve]
            epochs = range(1, len(recall) + 1)
            axes[-1].plot(epochs, recall, "o-", color=color, alpha=0.6, label=None if number else arm)
    axes[-1].set_title("validation recall at 50, by epoch", fontsize=8)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    axes[-1].legend(fontsize=7)
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("source", nargs="?", default=SOURCE)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="the same for all arms")
    parser.add_argument("--users", type=int, default=1000, help="how many are measured")
    parser.add_argument("--model", default="attention")
    options = parser.parse_args()
    data = options.out / "data"
    if not data.exists():
        prepare_data(options.source, data)
    results = []
    for seed in range(options.seeds):
        for arm in ARMS:
            results.append(measured(options.out / f"{arm}-{seed}", data, arm, seed, options))
            print(json.dumps({name: v for name, v in results[-1].items() if name != "history"}), flush=True)
            (options.out / "claim.json").write_text(json.dumps(results))
            plot(results, options.out / "claim.png")


if __name__ == "__main__":
    main()
