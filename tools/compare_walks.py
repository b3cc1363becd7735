#!/usr/bin/env python3
"""Two walks of one model at equal agreement: what they find for the same users, in turns.

    .venv/bin/python tools/compare_walks.py RUN PROXY_EXPORT ADAPTIVE_EXPORT --beams 600,900,1300 --users 48

The first export is asked with its own beams, the second with each of `--beams` in all hops: of what exports
calibrate two walks seldom agree equally often with scoring every item. Users are those of RUN/requests.npz.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from nann.export._users import gather_users
from nann.export.agreement import score_every_item, shares, worst_share
from nann.export.loaded import LoadedModel
from nann.export.manifest import read_manifest
from nann.run import load_model

# Of the first requests, which map files and allocate.
_WARM_UP = 2


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True))
@click.argument("first", type=click.Path(path_type=Path, exists=True))
@click.argument("second", type=click.Path(path_type=Path, exists=True))
@click.option("--beams", default="500,1000,2000", help="Beams of the second export, separated by commas.")
@click.option("--users", default=48, help="How many users are asked for.")
def main(run: Path, first: Path, second: Path, beams: str, users: int) -> None:
    """Print one row per walk, as Markdown."""
    states = user_states(run, users)
    item_ids = np.load(run / "embeddings" / "item_ids.npy")
    level_topn = read_manifest(first)["level_topn"]
    with LoadedModel(first) as one, LoadedModel(second) as other:
        walks = {"the first": (one, level_topn)}
        for beam in map(int, beams.split(",")):
            walks[f"the second, beam {beam}"] = (
                other,
                [*level_topn[:2], *[beam] * (len(level_topn) - 3), level_topn[-1]],
            )
        for name, row in measured(walks, states, item_ids).items():
            click.echo(f"| {name} | {row} |")


def user_states(run: Path, users: int) -> dict[str, Any]:
    """Of some users of RUN/requests.npz: [users, values] of each state."""
    vocabularies = {file.stem: np.load(file) for file in (run / "vocabulary").glob("*.npy")}
    found = gather_users(load_model(run), vocabularies, run / "requests.npz", count=users)
    return {name: np.asarray(value).reshape(len(value), -1) for name, value in found.sample.state.items()}


def measured(walks: dict[str, Any], states: dict[str, Any], item_ids: Any) -> dict[str, str]:
    """Agreement (mean, worst 5 %, least), items scored, median milliseconds, their ratio to the first."""
    found: dict[str, list[tuple[float, int, float]]] = {name: [] for name in walks}
    users, (first, beams) = len(next(iter(states.values()))), next(iter(walks.values()))
    for user in range(users):
        state = {name: value[user : user + 1] for name, value in states.items()}
        scores = score_every_item(first.run, state, item_ids)[0]
        best = item_ids[np.argpartition(-scores, beams[-1])[: beams[-1]]]
        for name, (model, level_topn) in walks.items():
            for _ in range(_WARM_UP if user == 0 else 0):
                searched(model, state, level_topn)
            items, count, seconds = searched(model, state, level_topn)
            found[name].append((float(shares(items, best[np.newaxis])[0]), count, seconds))
    baseline = [seconds for _, _, seconds in next(iter(found.values()))]
    return {name: row_of(rows, baseline) for name, rows in found.items()}


def searched(model: LoadedModel, state: dict[str, Any], level_topn: list[int]) -> tuple[Any, int, float]:
    """What a search finds, how many items it scores, and how long it takes."""
    inputs = {**state, "exclude_ids": np.array([[-1]]), "level_topn": np.array([level_topn], np.int32)}
    start = time.perf_counter()
    outputs = model.run("retrieve", inputs)
    seconds = time.perf_counter() - start
    return outputs["top_k"], int(np.ravel(outputs["items_scored"])[0]), seconds


def row_of(rows: list[tuple[float, int, float]], baseline: list[float]) -> str:
    """The cells of a walk."""
    agreement, counts, seconds = (np.array(each) for each in zip(*rows, strict=True))
    ratio = statistics.median(seconds / np.array(baseline))
    agreed = f"{agreement.mean():.4f}, {worst_share(agreement):.3f}, {agreement.min():.3f}"
    return f"{agreed} | {counts.mean():,.0f} | {1e3 * statistics.median(seconds):.1f} | {ratio:.2f}"


if __name__ == "__main__":
    main()
