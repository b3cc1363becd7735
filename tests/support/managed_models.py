"""A model manager with servables that are plain objects, and a loader that does what a test tells it."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nann.serving.server import Code, ManagerOptions, ModelConfig, StatusError
from nann.serving.server._manager import ModelManager
from nann.serving.server._versions import State

SECONDS = 60


class Loaded:
    def __init__(self, version: int) -> None:
        self.version = version
        self.closed = threading.Event()

    def close(self) -> None:
        assert not self.closed.is_set()
        self.closed.set()


class Models:
    """A base path, and a loader that records and fails as it is told."""

    def __init__(self, base_path: Path) -> None:
        self.base_path = base_path
        self.failures: dict[int, int] = {}
        # What else a load raises, and what it waits for.
        self.errors: dict[int, BaseException] = {}
        self.gates: dict[int, threading.Event] = {}
        self.loading: dict[int, threading.Event] = defaultdict(threading.Event)
        self.attempts: list[int] = []
        self.loaded: dict[int, Loaded] = {}
        self.all_loaded: list[Loaded] = []
        self.managers: list[ModelManager] = []

    def add(self, version: int, name: str = "m") -> None:
        (self.base_path.with_name(name) / str(version)).mkdir(parents=True)

    def config(self, name: str = "m", **config: Any) -> ModelConfig:
        return ModelConfig(name=name, base_path=self.base_path.with_name(name), **config)

    def fail(self, version: int, error: BaseException, *, times: int = 1000) -> None:
        """Have the loads of a version raise `error`."""
        self.errors[version] = error
        self.failures[version] = times

    def load(self, name: str, version: int, path: Path) -> Any:
        assert path == self.base_path.with_name(name) / str(version)
        self.attempts.append(version)
        self.loading[version].set()
        if version in self.gates:
            assert self.gates[version].wait(SECONDS)
        if self.failures.get(version, 0) > 0:
            self.failures[version] -= 1
            raise self.errors.get(version) or StatusError(Code.DATA_LOSS, f"version {version} is damaged")
        self.loaded[version] = Loaded(version)
        self.all_loaded.append(self.loaded[version])
        return self.loaded[version]

    def manage(
        self, *, retries: int = 0, retry_seconds: float = 0.02, allow_labels: bool = False, **config: Any
    ) -> ModelManager:
        options = ManagerOptions(
            poll_seconds=0.02,
            max_load_retries=retries,
            load_retry_seconds=retry_seconds,
            allow_labels_for_unavailable=allow_labels,
        )
        manager = ModelManager([self.config(**config)], self.load, options)
        self.managers.append(manager)
        manager.start()
        return manager


@contextmanager
def made_models(base_path: Path) -> Iterator[Models]:
    """Models whose managers are stopped at the end."""
    made = Models(base_path)
    yield made
    for gate in made.gates.values():
        gate.set()
    for manager in made.managers:
        manager.stop()


def wait(manager: ModelManager, condition: Callable[[], bool]) -> None:
    assert manager._monitor.wait_until(condition, SECONDS)


def states(manager: ModelManager, name: str = "m") -> dict[int, State]:
    try:
        return {status.number: status.state for status in manager.statuses(name)}
    except StatusError:
        return {}


def wait_for_states(manager: ModelManager, expected: dict[int, State], name: str = "m") -> None:
    wait(manager, lambda: states(manager, name) == expected)


def error_of(manager: ModelManager, version: int) -> StatusError:
    (status,) = manager.statuses("m", version=version)
    assert status.error is not None
    return status.error


def served(manager: ModelManager, name: str = "m", **choice: Any) -> int:
    with manager.lease(name, **choice) as lease:
        return lease.version
