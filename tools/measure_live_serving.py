"""measure_live_serving.py [--items N] [--rounds N] PART...: a server and its segments, measured.

Vectors in clusters are exported with room for a fifth of them, or for all changes of `load`, and served by
`nann serve`. The parts:

visible: milliseconds from the call that publishes a segment of 1,000 changed items, and from its file, until
         an answer of the server has it. Medians.
load:    p99 at half of saturation in an open loop, without changes and with 200 changes a second, in
         interleaved rounds. A publisher in a process of its own makes the changes. It runs in the scheduling
         class "idle": it stands for one on another machine, and must not take processor time from the server.
         Further requests, in both kinds of rounds, check the answers: wrong are those that the items of
         their segment do not explain.
restart: seconds from the start of the program until it is ready: with the base alone, with segments of a
         tenth of the items, and after a compaction of these. Items per second that a running server applies,
         to which the segments are given at once.
idle:    latency in this process of an export that takes segments, and has none, as a multiple of that of one
         that takes none: the median over interleaved rounds, which begin with one and the other in turn.

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from live_answers import AnswerCheck
from measure_live import BATCH, BEAMS, DIM, clustered

from nann.bench.load import BenchOptions, run_bench
from nann.export import ExportOptions, Tuning, export_vectors
from nann.live import Publisher
from nann.live.compact import compact
from nann.ops import load_library
from nann.serving.client import NannClient

Vectors = npt.NDArray[np.float32]
SEGMENTS, CHANGES_PER_SECOND, STAGE_SECONDS = 20, 200, 15.0
IDLE_ROUNDS, IDLE_CALLS = 60, 200
# A publisher starts in some seconds.
START_SECONDS = 60.0
# Of the items: restart inserts a tenth, and a compaction takes as many again.
ROOM_SHARE = 0.2
# Between answers that are asked for, so that waiting takes no processor that the server needs.
ASK_SECONDS = 0.002


@contextmanager
def serving(models: Path, **environment: str) -> Iterator[tuple[NannClient, str, float]]:
    """A client of a new server, its address, and the seconds until it was ready."""
    began = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "nann", "serve", "--json", "--host=localhost", "--port=0"),
            *("--rest_api_port=0", "--model_name=nann", f"--model_base_path={models}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    try:
        address = json.loads(process.stdout.readline())["grpc"]
        with NannClient(address, model="nann", timeout=60) as client:
            while not _is_ready(client):
                time.sleep(ASK_SECONDS)
            yield client, address, time.monotonic() - began
    finally:
        process.terminate()
        process.wait()


def _is_ready(client: NannClient) -> bool:
    from nann.serving.client import NannClientError

    try:
        applied(client)
    except NannClientError:
        return False
    return True


def applied(client: NannClient) -> int:
    """The segment of an answer."""
    answer = client.top_k({"query_emb": np.zeros((1, DIM), np.float32)}, BEAMS, min_segment=0)
    assert answer.applied_segment is not None
    return int(answer.applied_segment)


def events(ids: Any, vectors: Vectors) -> list[bytes]:
    """Changed items."""
    return [
        json.dumps({"id": int(item), "embedding": vector.tolist()}).encode()
        for item, vector in zip(ids, vectors, strict=True)
    ]


def visible(model_dir: Path, items: int, random: np.random.Generator) -> dict[str, float]:
    from_call, from_file = [], []
    with serving(model_dir.parent) as (client, _, _), Publisher(model_dir) as publisher:
        for _ in range(SEGMENTS):
            lines = events(random.choice(items, BATCH, replace=False), clustered(BATCH, random))
            called = time.monotonic()
            segment = publisher.publish(lines, {"files": {}}).segment
            written = time.monotonic()
            while applied(client) != segment:
                time.sleep(ASK_SECONDS)
            seen = time.monotonic()
            from_call.append(1000 * (seen - called))
            from_file.append(1000 * (seen - written))
    return {
        "visible_ms_from_call": statistics.median(from_call),
        "visible_ms_from_file": statistics.median(from_file),
        "visible_ms_from_call_slowest": max(from_call),
    }


def _stage(address: str, model_dir: Path, **load: Any) -> dict[str, Any]:
    options = BenchOptions(
        target=address, model_dir=model_dir, warmup_seconds=1.0, seconds=STAGE_SECONDS, **load
    )
    stage: dict[str, Any] = run_bench(options)["beams"][0]["stages"][0]
    return stage


@contextmanager
def changing(model_dir: Path, items: int, random: np.random.Generator) -> Iterator[None]:
    """A publisher that gets CHANGES_PER_SECOND events."""
    source = model_dir.parent / "items.jsonl"
    source.touch()
    command = [sys.executable, "-m", "nann", "publish", "--model", str(model_dir), "--source", str(source)]
    publisher = subprocess.Popen(
        ["chrt", "--idle", "0", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    stop = threading.Event()

    def write() -> None:
        tenth = CHANGES_PER_SECOND // 10
        with source.open("ab") as file:
            while not stop.wait(0.1):
                lines = events(random.choice(items, tenth, replace=False), clustered(tenth, random))
                file.write(b"".join(line + b"\n" for line in lines))
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()
        publisher.terminate()
        publisher.wait()


def load(model_dir: Path, items: int, random: np.random.Generator, rounds: int) -> dict[str, Any]:
    without, changed, failed = [], [], 0
    with serving(model_dir.parent) as (client, address, _):
        saturation = _stage(address, model_dir, concurrency=(4,), qps=())["throughput"]
        half: dict[str, Any] = {"concurrency": (), "qps": (saturation / 2,)}
        with AnswerCheck(client, BEAMS, clustered(1000, random)) as check:
            for _ in range(rounds):
                stage = _stage(address, model_dir, **half)
                without.append(stage["latency"]["p99_ms"])
                failed += sum(stage["errors"].values())
                with changing(model_dir, items, random):
                    _await_segment(client)
                    stage = _stage(address, model_dir, **half)
                changed.append(stage["latency"]["p99_ms"])
                failed += sum(stage["errors"].values())
        segments = applied(client)
    return {
        "saturation_per_second": saturation,
        "p99_ms_without": without,
        "p99_ms_with_changes": changed,
        "p99_ratio": statistics.median(np.divide(changed, without)),
        "failed": failed + check.failed,
        "answers_checked": check.checked,
        "answers_wrong": check.wrong(model_dir),
        "segments": segments,
    }


def _await_segment(client: NannClient) -> None:
    """Until a publisher that was started has published."""
    before, until = applied(client), time.monotonic() + START_SECONDS
    while applied(client) == before:
        if time.monotonic() > until:
            raise SystemExit(f"expected a segment within {START_SECONDS:g} s, found none")
        time.sleep(ASK_SECONDS)


def _room_of(rounds: int) -> int:
    """New items that the changes of all rounds are, with as many for the publisher's starts."""
    return round(2 * rounds * STAGE_SECONDS * CHANGES_PER_SECOND)


def restart(model_dir: Path, items: int, random: np.random.Generator) -> dict[str, float]:
    found = {}
    with Publisher(model_dir) as publisher:
        while publisher.state.num_positions < items + items // 10:
            lines = events(random.choice(items, BATCH, replace=False), clustered(BATCH, random))
            publisher.publish(lines, {"files": {}})
        last = publisher.state.applied
    with serving(model_dir.parent, NANN_UPDATES_POLL_MS="0") as (_, _, seconds):
        found["ready_seconds_base_alone"] = seconds
    with serving(model_dir.parent) as (client, _, seconds):
        assert applied(client) == last
        found["ready_seconds_with_segments"] = seconds
    found["segments"] = last
    updates = model_dir.parent / "updates"
    away = updates.rename(updates.with_name("away"))
    with serving(model_dir.parent) as (client, _, _):
        assert applied(client) == 0
        began = time.monotonic()
        away.rename(updates)
        while applied(client) != last:
            time.sleep(ASK_SECONDS)
        found["applied_items_per_second"] = items // 10 / (time.monotonic() - began)
    began = time.monotonic()
    compact(model_dir, model_dir.with_name("2"))
    found["compaction_seconds"] = time.monotonic() - began
    with serving(model_dir.parent) as (_, _, seconds):
        found["ready_seconds_compacted"] = seconds
    return found


def idle(vectors: Path, folder: Path, options: ExportOptions) -> dict[str, float]:
    load_library()
    loaded, asks = [], []
    for share in (0.0, options.overlay_share):
        model_dir = folder / str(share) / "1"
        export_vectors(vectors, model_dir, replace(options, overlay_share=share), metric="l2")
        exported = tf.saved_model.load(str(model_dir))
        inputs = {
            "query_emb": tf.constant(clustered(1, np.random.default_rng(1))),
            "level_topn": tf.constant([BEAMS]),
            "exclude_ids": tf.constant([[-1]], tf.int64),
        }
        loaded.append(exported)  # A signature does not keep what it is of.
        asks.append(partial(exported.signatures["retrieve"], **inputs))
    ratios = []
    for number in range(IDLE_ROUNDS):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        seconds = {each: _median_seconds(asks[each]) for each in order}
        ratios.append(seconds[1] / seconds[0])
    return {"idle_latency_ratio": statistics.median(ratios)}


def _median_seconds(ask: Callable[[], Any]) -> float:
    times = []
    for _ in range(IDLE_CALLS):
        began = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["visible", "load", "restart", "idle"])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    options = ExportOptions(
        level_topn=BEAMS, overlay_share=ROOM_SHARE, tuning=Tuning(walk="adaptive", expand=8)
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "base.npy", clustered(arguments.items, random))
        result: dict[str, Any] = {"items": arguments.items}
        for part in arguments.parts:
            if part == "idle":
                result |= idle(folder / "base.npy", folder / part, options)
                continue
            model_dir = folder / part / "nann" / "1"
            room = ROOM_SHARE if part != "load" else _room_of(arguments.rounds) / arguments.items
            export_vectors(folder / "base.npy", model_dir, replace(options, overlay_share=room), metric="l2")
            if part == "visible":
                result |= visible(model_dir, arguments.items, random)
            elif part == "load":
                result |= load(model_dir, arguments.items, random, arguments.rounds)
            else:
                result |= restart(model_dir, arguments.items, random)
        print(json.dumps(result))


if __name__ == "__main__":
    main()
