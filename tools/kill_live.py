"""kill_live.py [--kills N] [--seed N]: server, publisher, compaction and Redis are killed at random points.

A producer adds events to a Redis stream. `nann publish --follow` publishes them, `nann serve` serves them,
and `nann compact` makes one version after the other. All of them run at once; after a random time one is
killed by SIGKILL and started again, N times. Then the stream is read to its end. Two things are checked.
Whenever a server answers, it has exactly the items of the segment that it says it has applied. At the end the
last version has exactly the items of all events, and no version has one twice.

Needs redis-server and nann[live]. Prints one JSON object; whatever is wrong ends it with an error.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np
import redis

from nann.errors import InvalidFileError
from nann.export import ExportOptions, Tuning, export_vectors
from nann.live import State, open_base, read_segment, segment_numbers, segment_path, updates_dir

# Small enough that a compaction takes seconds, and so large that no version is full before the next one.
ITEMS, DIM, CAPACITY = 2000, 16, 1.0
ALL = 4 * ITEMS
# Between events, so that there are some for as long as the kills take.
EVENT_SECONDS = 0.1
# From one kill to the next: processes take some seconds to start, and are killed then as well as later.
LONGEST_PAUSE_SECONDS = 6.0
# A compaction that is never finished moves nothing: after each it rests, and runs at most one time in two.
COMPACTION_REST_SECONDS = 10.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


class Role:
    """A process that is started again whenever it has ended."""

    def __init__(self, name: str, folder: Path, rest_seconds: float = 0.0) -> None:
        self.name, self._log, self._rest = name, folder / f"{name}.log", rest_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at, self.kills = 0.0, 0

    def command(self) -> list[str]:
        raise NotImplementedError

    def keep_running(self) -> None:
        """Start the process where it does not run."""
        if self._process is not None and self._process.poll() is not None:
            self._process = None
            self._start_at = time.monotonic() + self._rest
        if self._process is None and time.monotonic() >= self._start_at:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(self.command(), stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self.kills += 1

    def stop(self) -> None:
        """Let it end; it is not started again by itself."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


class Redis(Role):
    def __init__(self, folder: Path) -> None:
        super().__init__("redis-server", folder)
        self.port, self._folder = free_port(), folder / "redis"
        self._folder.mkdir()

    def command(self) -> list[str]:
        program = shutil.which("redis-server") or "redis-server"
        return [
            *(program, "--port", str(self.port), "--dir", str(self._folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "always"),
        ]


def versions(models: Path) -> list[Path]:
    """The version folders, the oldest first."""
    return sorted((each for each in models.iterdir() if each.name.isdecimal()), key=lambda p: int(p.name))


class Publisher(Role):
    def __init__(self, folder: Path, models: Path, source: str) -> None:
        super().__init__("publisher", folder)
        self._models, self._source = models, source

    def command(self) -> list[str]:
        model = str(versions(self._models)[-1])
        return [
            *(sys.executable, "-m", "nann", "publish", "--model", model, "--source", self._source),
            *("--follow", "--segment-items", "20", "--max-delay", "0.05"),
        ]


class Server(Role):
    def __init__(self, folder: Path, models: Path) -> None:
        super().__init__("server", folder)
        self.port, self._models = free_port(), models

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "nann", "serve", "--model_name", "nann"),
            *("--model_base_path", str(self._models), "--port", "0", "--rest_api_port", str(self.port)),
        ]

    def items(self) -> tuple[int, set[int]] | None:
        """The segment of an answer and all items in it; None where there is no answer."""
        inputs = {
            "query_emb": [[0.0] * DIM],
            "level_topn": [[100, 100, 100, 100, 100, ALL]],
            "exclude_ids": [[-1]],
        }
        body = json.dumps({"signature_name": "retrieve", "inputs": inputs}).encode()
        url = f"http://localhost:{self.port}/v1/models/nann:predict"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as answer:
                outputs = json.load(answer)["outputs"]
        except (OSError, ValueError, urllib.error.URLError):
            return None
        return outputs["applied_segment"][0], {item for item in outputs["top_k"][0] if item >= 0}


class Compaction(Role):
    def __init__(self, folder: Path, models: Path) -> None:
        super().__init__("compaction", folder, COMPACTION_REST_SECONDS)
        self._models = models

    def command(self) -> list[str]:
        newest = versions(self._models)[-1]
        following = newest.with_name(str(int(newest.name) + 1))
        for left in self._models.glob(".*.writing-*"):  # Of one that was killed.
            shutil.rmtree(left)
        return [
            *(sys.executable, "-m", "nann", "compact", "--model", str(newest), "--out", str(following)),
        ]


class Producer(threading.Thread):
    """Adds events until it is stopped: a new item and the deletion of the oldest one in turn, each item once.

    So there are always as many items, however long the kills take, and an answer holds all of them.
    """

    def __init__(self, port: int, base_ids: list[int], chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.items, self.events = set(base_ids), 0
        self._port, self._to_delete, self._chance = port, deque(base_ids), chance
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(EVENT_SECONDS):
            self.events += 1
            if self.events % 2 == 0:
                item = self._to_delete.popleft()
                self._add(self.events, {"id": item, "delete": True})
                self.items.discard(item)
            else:
                item = 10**6 + self.events
                vector = [self._chance.gauss(0, 1) for _ in range(DIM)]
                self._add(self.events, {"id": item, "embedding": vector})
                self.items.add(item)
                self._to_delete.append(item)

    def stop(self) -> None:
        """Let it end after the event that it adds."""
        self._stopped.set()

    def _add(self, number: int, event: dict[str, Any]) -> None:
        """Until it is acknowledged. The id is given, so that what is added again is refused."""
        while True:
            try:
                with redis.Redis(port=self._port) as client:
                    client.xadd("items", {"event": json.dumps(event)}, id=f"{number}-0")
                    return
            except redis.ResponseError as error:
                if "equal or smaller" in str(error):
                    return
                time.sleep(0.01)  # It loads its file.
            except redis.RedisError:
                time.sleep(0.01)


def items_of(model_dir: Path, until: int | None = None) -> set[int]:
    """The ids of a version with its segments up to number `until`."""
    state = State(open_base(model_dir))
    for number in segment_numbers(updates_dir(model_dir)):
        if until is None or number <= until:
            path = segment_path(updates_dir(model_dir), number)
            state.apply(read_segment(path), str(path))
    return set(state.ids(state.live).tolist())


def check_answer(server: Server, models: Path) -> bool:
    """Whether the server answered; AssertionError where it has other items than its segment says.

    An answer does not name its version: the items must be those of one of them.
    """
    answer = server.items()
    if answer is None:
        return False
    applied, found = answer
    if not any(items_of(version, applied) == found for version in versions(models)):
        raise AssertionError(
            f"after segment {applied} the server has {len(found)} items: no version has them"
        )
    return True


def check_end(models: Path, producer: Producer) -> None:
    """AssertionError unless the newest version has every event once."""
    newest = versions(models)[-1]
    found = items_of(newest)
    lost, more = producer.items - found, found - producer.items
    assert not lost, f"{len(lost)} items are lost"
    assert not more, f"{len(more)} items were deleted and are there"
    for version in versions(models):
        counts = Counter(np.asarray(open_base(version).ids).tolist())
        for number in segment_numbers(updates_dir(version)):
            segment = read_segment(segment_path(updates_dir(version), number))
            counts.update(segment.column("ids", "<i8").tolist())
        twice = [item for item, count in counts.items() if count > 1]
        assert not twice, f"{version}: {len(twice)} items were inserted twice, such as {twice[:3]}"


def run(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    chance, models = random.Random(seed), folder / "models" / "nann"
    vectors = np.random.default_rng(seed).normal(size=(ITEMS, DIM)).astype(np.float32)
    np.save(folder / "vectors.npy", vectors)
    options = ExportOptions(level_topn=[100] * 5 + [ALL], overlay_share=CAPACITY, tuning=Tuning(walk="all"))
    export_vectors(folder / "vectors.npy", models / "1", options, metric="l2")
    store = Redis(folder)
    source = f"redis://localhost:{store.port}/items"
    publisher, server = Publisher(folder, models, source), Server(folder, models)
    roles = [store, publisher, server, Compaction(folder, models)]
    producer = Producer(store.port, np.asarray(open_base(models / "1").ids).tolist(), random.Random(seed))
    producer.start()
    started, answers = time.monotonic(), 0
    try:
        while sum(role.kills for role in roles) < kills:
            until = time.monotonic() + chance.uniform(0, LONGEST_PAUSE_SECONDS)
            while time.monotonic() < until:
                for role in roles:
                    role.keep_running()
                time.sleep(0.02)
            with contextlib.suppress(InvalidFileError, FileNotFoundError):  # A version that appears just now.
                answers += check_answer(server, models)
            chance.choice(roles).kill()
        producer.stop()
        while producer.is_alive():
            store.keep_running()
            time.sleep(0.02)
        roles[-1].stop()
        _read_to_the_end(store, publisher, server, models, producer)
        check_end(models, producer)
    finally:
        for role in reversed(roles):
            role.stop()
    return {
        "kills": {role.name: role.kills for role in roles},
        "answers_checked": answers,
        "versions": len(versions(models)),
        "events": producer.events,
        "seconds": round(time.monotonic() - started),
    }


def _read_to_the_end(
    store: Redis, publisher: Publisher, server: Server, models: Path, producer: Producer
) -> None:
    """Wait until the newest version has all items, and a server of it answers so."""
    while items_of(versions(models)[-1]) != producer.items:
        store.keep_running()
        publisher.keep_running()
        time.sleep(1.0)
    while True:
        server.keep_running()
        answer = server.items()
        if answer is not None and answer[1] == producer.items:
            return
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(run(Path(name), arguments.kills, arguments.seed)))


if __name__ == "__main__":
    main()
