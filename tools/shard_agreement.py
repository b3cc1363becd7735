#!/usr/bin/env python3
"""How well shards find what brute force finds, beside the walk over all items: the table of docs/shards.md.

    .venv/bin/python tools/shard_agreement.py --run RUN --out MODELS

RUN is a run of `nann train`, `nann embed` and `nann index`. Exports it whole and in shards to MODELS (what is
there is used again), serves all of it in one `nann serve`, and asks for users of the run's data set.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

from nann.export import ExportOptions, Tuning, export_model, export_shards, shard_dirs
from nann.run import load_model
from nann.serving.client import NannClient, ShardedClient
from nann.training import read_dataset
from nann.training.ranking import states_before_last_event

_SECONDS = 600
_VERSION = "1"


def exported(run: Path, models: Path, counts: list[int], options: ExportOptions) -> dict[str, Path]:
    """Model name -> base path, of the whole ("whole") and of each shard ("0-of-4")."""
    base_paths = {"whole": models / "whole"}
    if not base_paths["whole"].exists():
        export_model(run, base_paths["whole"] / _VERSION, options)
    for count in counts:
        folders = [folder.parent for folder in shard_dirs(models / "nann" / _VERSION, count)]
        if not folders[0].exists():
            export_shards(run, models / "nann" / _VERSION, options, shards=count)
        base_paths |= {f"{shard}-of-{count}": folder for shard, folder in enumerate(folders)}
    return base_paths


def user_states(run: Path, users: int) -> np.ndarray[Any, Any]:
    """The states of users of the data set, before their last event."""
    dataset = read_dataset(run / json.loads((run / "run.json").read_text())["data"])
    model = load_model(run)
    chosen = np.sort(np.random.default_rng(0).permutation(dataset.num_users)[:users])
    return np.stack([state["comm_seq"] for state in states_before_last_event(model, dataset, chosen)])


def best_items(client: NannClient, ids: Any, states: Any, k: int) -> list[set[int]]:
    """Brute force: the k best of all items for each user."""
    found = []
    for state in states:
        scores = client.score(state[np.newaxis], ids)[0]
        found.append(set(ids[np.lexsort((ids, -scores))[:k]].tolist()))
    return found


@contextlib.contextmanager
def serving(base_paths: dict[str, Path], config: Path) -> Iterator[str]:
    """One server of all models; yields its gRPC address."""
    listed = "".join(
        f'config {{ name: "{name}" base_path: "{path.resolve()}" model_platform: "tensorflow" }}\n'
        for name, path in base_paths.items()
    )
    config.write_text(f"model_config_list {{ {listed} }}")
    command = [sys.executable, "-m", "nann", "serve", "--json", "--host", "localhost", "--port", "0"]
    command += ["--rest_api_port", "0", "--model_config_file", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())["grpc"]
        finally:
            server.terminate()


def measure(
    client: ShardedClient, states: Any, best: list[set[int]], level_topn: list[int]
) -> dict[str, Any]:
    """Mean of the items scored in all, and of the share of the best items found."""
    answers = [client.top_k(state[np.newaxis], level_topn) for state in states]
    shares = [
        len(wanted & set(answer.ids[0].tolist())) / len(wanted)
        for wanted, answer in zip(best, answers, strict=True)
    ]
    scored = [int(answer.items_scored[0]) for answer in answers if answer.items_scored is not None]
    return {"items_scored": round(float(np.mean(scored))), "agreement": round(float(np.mean(shares)), 3)}


@click.command()
@click.option("--run", type=click.Path(path_type=Path), required=True)
@click.option("--out", "models", type=click.Path(path_type=Path), required=True)
@click.option("--users", default=100, show_default=True)
@click.option("--k", default=50, show_default=True)
@click.option("--shards", "counts", multiple=True, default=[2, 4, 8], show_default=True)
@click.option("--beam", "beams", multiple=True, default=[100, 200, 400], show_default=True)
@click.option("--walk", type=click.Choice(["fixed", "adaptive"]), default="fixed", show_default=True)
def main(
    run: Path,
    models: Path,
    users: int,
    k: int,
    counts: tuple[int, ...],
    beams: tuple[int, ...],
    walk: Literal["fixed", "adaptive"],
) -> None:
    """Print one JSON line for each number of shards and each beam, which the shards divide among them."""
    models.mkdir(parents=True, exist_ok=True)
    base_paths = exported(run, models, list(counts), ExportOptions(tuning=Tuning(walk=walk)))
    states = user_states(run, users)
    ids = np.load(run / "embeddings/item_ids.npy")
    hops = sum(json.loads((run / "index/index.json").read_text())["hops_per_level"])
    with serving(base_paths, models / "models.config") as address:
        with NannClient(address, model="whole", timeout=_SECONDS) as client:
            best = best_items(client, ids, states, k)
        for count in (1, *counts):
            names = ["whole"] if count == 1 else [f"{shard}-of-{count}" for shard in range(count)]
            with ShardedClient([address] * count, model=names, timeout=_SECONDS) as client:
                for beam in beams:
                    width = -(-beam // count)
                    level_topn = [-(-width // 2), *[width] * hops, k]
                    figures = measure(client, states, best, level_topn)
                    print(json.dumps({"shards": count, "level_topn": level_topn, **figures}), flush=True)


if __name__ == "__main__":
    main()
