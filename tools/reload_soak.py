"""Reload soak: constant requests while versions come, go, are damaged and change their label.

.venv/bin/nann export --run build/demo --out build/soak/1 --walk fixed
.venv/bin/python tools/reload_soak.py build/demo/models/nann/1 build/soak/1 --minutes 15

Versions are links to the two exports in turn, which must differ in `items_scored`. A request fails, or its
answer is wrong, only where the server is at fault: each answer names its version and must be that export's.
Prints one JSON object; ends with 1 if a request failed, an answer was wrong, or the server holds more then.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nann.files import link_or_copy
from nann.serving.client import NannClient, NannClientError, TopK

_CALLERS = 2  # for the newest version and for the label, each
_REQUESTS_PER_SECOND = 25.0  # of each caller
_PAUSE_SECONDS = 1.0  # between two changes
_NEAR_SECONDS = 0.5  # of the moment at which a version becomes available
_WAIT_SECONDS = 120.0


class Server:
    """`nann serve` with a config file that this tool rewrites."""

    def __init__(self, folder: Path) -> None:
        self.base_path, self._config = folder / "nann", folder / "models.config"
        self.base_path.mkdir()
        self.label(None)
        flags = [f"--model_config_file={self._config}", "--model_config_file_poll_wait_seconds=1"]
        flags += ["--file_system_poll_wait_seconds=1", "--max_num_load_retries=0", "--json", "--port=0"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nann", "serve", *flags, "--rest_api_port=0", "--host=localhost"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def wait_ready(self) -> str:
        """Return the address."""
        assert self._process.stdout is not None
        return str(json.loads(self._process.stdout.readline())["grpc"])

    def label(self, version: int | None) -> None:
        """Have the label `stable` name a version."""
        label = "" if version is None else f' version_labels {{ key: "stable" value: {version} }}'
        text = (
            f'model_config_list {{ config {{ name: "nann" base_path: "{self.base_path}" '
            f'model_platform: "tensorflow" model_version_policy {{ all {{}} }}{label} }} }}'
        )
        beside = self._config.with_suffix(".tmp")
        beside.write_text(text)
        beside.rename(self._config)

    def publish(self, export: Path, version: int, *, is_damaged: bool = False) -> None:
        """Put a version in place as an exporter does."""
        beside = self.base_path / f".{version}"
        shutil.copytree(export, beside, copy_function=lambda source, to: link_or_copy(Path(source), Path(to)))
        if is_damaged:
            (beside / "saved_model.pb").unlink()
            (beside / "saved_model.pb").write_bytes((export / "saved_model.pb").read_bytes()[:1000])
        beside.rename(self.base_path / str(version))

    def remove(self, version: int) -> None:
        (self.base_path / str(version)).rename(self.base_path / f".{version}")
        shutil.rmtree(self.base_path / f".{version}")

    def held(self) -> dict[str, int]:
        """Return what the process holds: file descriptors, threads, and memory of its own in MB."""
        proc = Path(f"/proc/{self._process.pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        return {
            "fds": len(os.listdir(proc / "fd")),
            "threads": int(status["Threads"]),
            "anonymous_mb": int(status["RssAnon"].split()[0]) // 1024,
        }

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_WAIT_SECONDS)


class Load:
    """Callers that check every answer."""

    def __init__(self, ask: Callable[[int | str | None], TopK], expected: Callable[[int], int]) -> None:
        self._ask, self._expected = ask, expected
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.failures: Counter[str] = Counter()
        self.wrong = 0
        self.answers: list[tuple[float, float]] = []  # (when, seconds)
        versions = [None, "stable"] * _CALLERS
        self._threads = [threading.Thread(target=self._call, args=(version,)) for version in versions]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _call(self, version: str | None) -> None:
        while not self._over.wait(1 / _REQUESTS_PER_SECOND):
            began = time.monotonic()
            try:
                found = self._ask(version)
            except NannClientError as error:
                with self._lock:
                    self.failures[f"{error.code}: {error.details[:200]}"] += 1
                continue
            assert found.items_scored is not None
            assert found.model_version is not None
            with self._lock:
                self.answers.append((began, time.monotonic() - began))
                self.wrong += int(found.items_scored[0]) != self._expected(found.model_version)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "the server did not follow in time"
        time.sleep(0.05)


class Changes:
    """What happens to the versions, one change after the other."""

    def __init__(self, server: Server, client: NannClient, exports: list[Path]) -> None:
        self._server, self._client, self._exports = server, client, exports
        self._numbers = itertools.count(2)
        self._kept = [1]
        self.counts: Counter[str] = Counter()
        self.available_at: list[float] = []

    def states(self) -> Mapping[int, str]:
        return {status.version: status.state for status in self._client.status()}

    def round(self) -> None:
        """A new version, its label, a damaged one, and the end of the oldest."""
        new = next(self._numbers)
        self._server.publish(self._exports[new % 2], new)
        wait_until(lambda: self.states().get(new) == "AVAILABLE")
        self.available_at.append(time.monotonic())
        self._kept.append(new)
        time.sleep(_PAUSE_SECONDS)
        self._server.label(new)
        wait_until(lambda: self.is_labelled(new))
        damaged = next(self._numbers)
        self._server.publish(self._exports[damaged % 2], damaged, is_damaged=True)
        wait_until(lambda: self.states().get(damaged) == "END")
        time.sleep(_PAUSE_SECONDS)
        self._server.remove(damaged)
        while len(self._kept) > 2:
            old = self._kept.pop(0)
            self._server.remove(old)
            wait_until(lambda: self.states().get(old) == "END")  # noqa: B023
            self.counts["removed"] += 1
        self.counts.update(added=1, damaged=1, relabelled=1)
        time.sleep(_PAUSE_SECONDS)

    def is_labelled(self, version: int) -> bool:
        """Whether the label names this version."""
        try:
            return self._client.metadata(version="stable").version == version
        except NannClientError:
            return False  # No version has the label yet.


def main() -> int:
    """Run the soak and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("exports", type=Path, nargs=2)
    parser.add_argument("--minutes", type=float, default=15)
    options = parser.parse_args()
    for export in options.exports:
        if not (export / "saved_model.pb").is_file():
            parser.error(
                f"{export}: expected an export, found no saved_model.pb; --help says how to make one"
            )
    with tempfile.TemporaryDirectory(dir=options.exports[0].parent) as folder:
        return soak(Path(folder), options.exports, options.minutes * 60)


def soak(folder: Path, exports: list[Path], seconds: float) -> int:
    """Return the exit code."""
    beams = json.loads((exports[0] / "assets.extra/nann_manifest.json").read_text())["level_topn"]
    server = Server(folder)
    server.publish(exports[1], 1)
    with NannClient(server.wait_ready(), model="nann", timeout=30) as client:
        width = client.metadata().row_width("retrieve", "comm_seq")
        assert width is not None
        user = np.random.default_rng(0).normal(size=(1, width)).astype(np.float32)

        def ask(version: int | str | None) -> TopK:
            return client.top_k({"comm_seq": user}, beams, version=version, signature="retrieve")

        server.publish(exports[0], 0)
        wait_until(
            lambda: any(status.version == 0 and status.state == "AVAILABLE" for status in client.status())
        )
        scored = [int(np.asarray(ask(version).items_scored)[0]) for version in (0, 1)]
        assert scored[0] != scored[1], f"the exports must differ in items_scored, both score {scored[0]}"
        server.remove(0)
        server.label(1)
        changes = Changes(server, client, exports)
        wait_until(lambda: changes.is_labelled(1))
        load = Load(ask, lambda version: scored[version % 2])
        load.start()
        began, before = time.monotonic(), None
        while time.monotonic() - began < seconds:
            changes.round()
            # The first rounds fill pools and caches.
            if before is None and changes.counts["added"] == 5:
                before = server.held()
        load.stop()
        after = server.held()
    report = summary(load, changes, before or after, after)
    print(json.dumps({**report, "exit_code": server.stop()}, indent=1))
    return int(bool(load.failures or load.wrong or has_grown(before or after, after)))


def has_grown(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    """Whether more is held than chance explains: a few descriptors and threads, a tenth of the memory."""
    few = 4
    return (
        after["fds"] > before["fds"] + few
        or after["threads"] > before["threads"] + few
        or after["anonymous_mb"] > 1.1 * before["anonymous_mb"]
    )


def summary(
    load: Load, changes: Changes, before: Mapping[str, int], after: Mapping[str, int]
) -> dict[str, Any]:
    """Return the figures."""
    when, took = np.array(load.answers).T
    switches = np.array(changes.available_at)
    is_near = (np.abs(when[:, None] - switches[None, :]) < _NEAR_SECONDS).any(axis=1)
    near, far = (float(np.percentile(took[each], 99)) * 1000 for each in (is_near, ~is_near))
    return {
        "requests": len(took),
        "failures": dict(load.failures),
        "wrong": load.wrong,
        "changes": dict(changes.counts),
        "p50_ms": round(float(np.median(took)) * 1000, 2),
        "p99_ms": round(far, 2),
        "p99_near_a_switch_ms": round(near, 2),
        "held_after_5_rounds": before,
        "held_at_the_end": after,
    }


if __name__ == "__main__":
    sys.exit(main())
