"""A new version of the model appears while the load runs."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from nann.bench._histogram import Latencies
from nann.bench._load import Interval, Record
from nann.errors import InvalidInputError, NannError
from nann.serving.client import NannClient, NannClientError

_POLL_SECONDS = 0.02


class ModelSwitch:
    """Publishes a version into a server's base path and watches the server take it up.

    `with ModelSwitch(...) as switch: <put load on>`, then `switch.events`: seconds from the beginning of the
    block to "published", "available" (the new version answers) and "old_gone" (the last one it had before
    is unloaded).
    """

    def __init__(self, model_dir: Path, base_path: Path, client: NannClient, *, after_seconds: float) -> None:
        self._model_dir = model_dir
        self._base_path = base_path
        self._client = client
        self._after = after_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._failure: BaseException | None = None
        self.events: dict[str, float] = {}
        self.versions: tuple[int, int] = (newest_version(base_path), newest_version(base_path) + 1)

    def __enter__(self) -> ModelSwitch:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if error is None and self._failure is not None:
            raise self._failure

    def _watch(self) -> None:
        try:
            if self._over.wait(self._after):
                raise InvalidInputError("switch: the load ended before the new version was published.")
            publish(self._model_dir, self._base_path / str(self.versions[1]))
            self._note("published")
            while not self._over.wait(_POLL_SECONDS) and "old_gone" not in self.events:
                self._look()
        except (NannError, OSError) as error:
            self._failure = error

    def _look(self) -> None:
        try:
            states = {status.version: status.state for status in self._client.status()}
        except NannClientError:
            return  # The load's own requests say what a server that does not answer means.
        if states.get(self.versions[1]) == "AVAILABLE":
            self._note("available")
            if states.get(self.versions[0], "END") == "END":
                self._note("old_gone")

    def _note(self, event: str) -> None:
        self.events.setdefault(event, time.monotonic() - self._began)


def newest_version(base_path: Path) -> int:
    """The largest number among the sub-folders; InvalidInputError when there is none."""
    versions = [int(p.name) for p in base_path.glob("*") if p.name.isdigit() and p.is_dir()]
    if not versions:
        raise InvalidInputError(
            f"{base_path}: expected the base path of the served model, with a folder a version, found none."
        )
    return max(versions)


def publish(model_dir: Path, version_dir: Path) -> None:
    """Put an export in place as a new version: linked or copied beside, then renamed."""
    beside = version_dir.with_name(f".{version_dir.name}.writing")

    def link_or_copy(source: str, destination: str) -> None:
        try:
            os.link(source, destination)
        except OSError:
            shutil.copy2(source, destination)

    try:
        shutil.copytree(model_dir, beside, copy_function=link_or_copy)
        beside.rename(version_dir)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def phases(record: Record, events: dict[str, float], interval_seconds: float) -> dict[str, Any]:
    """Latency and errors before, during and after the switch.

    During: the intervals from the one in which the version was published to the one in which the old one
    was gone.
    """
    first = int(events["published"] / interval_seconds)
    last = int(events["old_gone"] / interval_seconds) if "old_gone" in events else max(record.intervals)
    groups: dict[str, list[Interval]] = {"before": [], "during": [], "after": []}
    for number, interval in record.intervals.items():
        groups["before" if number < first else "during" if number <= last else "after"].append(interval)
    return {name: _summary(intervals) for name, intervals in groups.items()}


def _summary(intervals: list[Interval]) -> dict[str, Any]:
    latencies = Latencies(digits=2)
    for interval in intervals:
        latencies.merge(interval.latencies.encode())
    return {"errors": sum(interval.errors for interval in intervals), **latencies.summary()}
