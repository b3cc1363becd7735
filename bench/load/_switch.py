"""Publishing a new version of the model while the load runs."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

from nann.bench.load._histogram import Latencies
from nann.bench.load.generator import Interval, Record
from nann.errors import InvalidInputError, NannError
from nann.files import link_or_copy, staged_directory
from nann.serving.client import NannClient, NannClientError

# The resolution of the events; a status request takes a millisecond.
_POLL_SECONDS = 0.02


class ModelSwitch:
    """Publishes a version in a server's base path and watches the server load it.

    Use: `with ModelSwitch(...) as switch: <put load on>`, then read `switch.events`: seconds from the
    beginning of the block to "published", "available" (the new version answers) and "old_gone" (the old
    version is unloaded).
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

    def __exit__(self, kind: object, error: object, trace: object) -> None:
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
            return  # The requests of the load count a server that does not answer.
        if states.get(self.versions[1]) == "AVAILABLE":
            self._note("available")
            if states.get(self.versions[0], "END") == "END":
                self._note("old_gone")

    def _note(self, event: str) -> None:
        self.events.setdefault(event, time.monotonic() - self._began)


def newest_version(base_path: Path) -> int:
    """The largest version in `base_path`; InvalidInputError when there is none."""
    versions = [int(p.name) for p in base_path.glob("*") if p.name.isdigit() and p.is_dir()]
    if not versions:
        raise InvalidInputError(
            f"{base_path}: expected the base path of the served model with version folders, found none. "
            "Correct --switch-base."
        )
    return max(versions)


def publish(model_dir: Path, version_dir: Path) -> None:
    """Publish an export as a new version, its files linked where the file system allows."""

    def copy(source: str, target: str) -> None:
        link_or_copy(Path(source), Path(target))

    with staged_directory(version_dir, replace=False) as staged:
        shutil.copytree(model_dir, staged, copy_function=copy, dirs_exist_ok=True)


def phases(record: Record, events: dict[str, float], interval_seconds: float) -> dict[str, Any]:
    """Latency and errors before, during and after the switch.

    "During" are the intervals from the one in which the version was published to the one in which the old
    version was gone.
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
