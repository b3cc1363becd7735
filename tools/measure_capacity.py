#!/usr/bin/env python3
"""What a request to an export costs the server, printed as JSON: the figures of docs/scale.md.

    .venv/bin/python tools/measure_capacity.py --model-base-path MODELS/nann

Starts `nann serve`, asks it for random users from a few threads at once, and divides the server's processor
time (not the time of the clock: other work on the machine changes it little) by requests and by items scored.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np

from nann.serving.client import NannClient

_START_SECONDS = 120


def processor_seconds(process: int) -> float:
    """User and system time of a process and its threads so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(process: int) -> dict[str, int]:
    """Resident memory of a process: its own, and what it maps of files."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss")}
    return {"anonymous_bytes": values["RssAnon"], "mapped_bytes": values["RssFile"]}


def random_states(manifest: dict[str, Any], users: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    shapes = {name: spec["shape"] for name, spec in manifest["model"]["user_state"].items()}
    return [
        {
            name: random.standard_normal((1, np.prod(shape))).astype(np.float32)
            for name, shape in shapes.items()
        }
        for _ in range(users)
    ]


def measure(
    process: int, client: NannClient, states: list[Any], beams: list[int], callers: int
) -> dict[str, Any]:
    def ask(state: Any) -> int:
        counts = client.top_k(state, beams, signature="retrieve").items_scored
        assert counts is not None
        return int(counts[0])

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(ask, states[: 4 * callers]))  # Warm.
        before = processor_seconds(process)
        items = list(pool.map(ask, states))
        seconds = processor_seconds(process) - before
    return {
        "requests": len(states),
        "items_scored_a_request": sum(items) / len(items),
        "processor_ms_a_request": 1e3 * seconds / len(items),
        "requests_a_second_and_core": len(items) / seconds,
        "items_scored_a_second_and_core": sum(items) / seconds,
        **resident_bytes(process),
    }


@click.command()
@click.option("--model-base-path", type=click.Path(path_type=Path), required=True)
@click.option("--requests", default=500, show_default=True)
@click.option("--callers", default=4, show_default=True, help="Requests under way at once.")
def main(model_base_path: Path, requests: int, callers: int) -> None:
    """Measure the newest version below MODEL_BASE_PATH, with the beams that its manifest has."""
    version = max(
        (path for path in model_base_path.iterdir() if path.name.isdigit()), key=lambda p: int(p.name)
    )
    manifest = json.loads((version / "assets.extra" / "nann_manifest.json").read_text())
    command = [sys.executable, "-m", "nann", "serve", "--json", "--host", "localhost", "--port", "0"]
    command += ["--rest_api_port", "0", "--model_name", "nann", "--model_base_path", str(model_base_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["grpc"]
            with NannClient(address, model="nann") as client:
                client.wait_ready(_START_SECONDS)
                states = random_states(manifest, requests)
                figures = measure(server.pid, client, states, manifest["level_topn"], callers)
        finally:
            server.terminate()
    print(json.dumps({"level_topn": manifest["level_topn"], **figures}, indent=2))


if __name__ == "__main__":
    main()
