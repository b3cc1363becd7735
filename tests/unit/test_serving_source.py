"""Where versions come from: base paths, good and bad, and the models that are looked for."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nann.serving.server import All, ModelConfig, Specific
from nann.serving.server import _source as source_module
from nann.serving.server._source import FileSystemSource
from support.log_lines import LogLines

_SECONDS = 60


class _Aspired:
    """Takes over what a source says; its `wait_for` waits until it said a certain thing."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []
        self.changed = threading.Condition()
        self.failure: Exception | None = None

    def __call__(self, name: str, versions: Mapping[int, Path]) -> None:
        with self.changed:
            if self.failure is not None:
                raise self.failure
            self.calls.append((name, list(versions)))
            self.changed.notify_all()

    def wait_for(self, name: str, versions: list[int]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: (name, versions) in self.calls, _SECONDS), self.calls

    def wait_for_another_look(self) -> None:
        with self.changed:
            seen = len(self.calls)
            # The look under way may have begun before; the one after it did not.
            assert self.changed.wait_for(lambda: len(self.calls) >= seen + 2, _SECONDS)


Start = Callable[..., FileSystemSource]


@pytest.fixture
def aspired() -> _Aspired:
    return _Aspired()


@pytest.fixture
def log() -> Iterator[LogLines]:
    with LogLines("nann.serving") as lines:
        yield lines


@pytest.fixture
def start(aspired: _Aspired) -> Iterator[Start]:
    started: list[FileSystemSource] = []

    def run(*models: ModelConfig, poll_seconds: float = 0.01) -> FileSystemSource:
        started.append(FileSystemSource(aspired, poll_seconds=poll_seconds))
        started[-1].set_models(models)
        started[-1].start()
        return started[-1]

    yield run
    for source in started:
        source.stop()


def _model(base_path: Path, *versions: int, name: str = "m", **config: Any) -> ModelConfig:
    for version in versions:
        (base_path / str(version)).mkdir(parents=True)
    return ModelConfig(name=name, base_path=base_path, **config)


def test_models_are_added_and_removed_while_it_runs(start: Start, aspired: _Aspired, tmp_path: Path) -> None:
    first, second = _model(tmp_path / "a", 1, name="a"), _model(tmp_path / "b", 1, 2, name="b")
    source = start(first)
    aspired.wait_for("a", [1])
    source.set_models([second])
    aspired.wait_for("a", [])
    aspired.wait_for("b", [2])
    with aspired.changed:
        aspired.calls.clear()
    aspired.wait_for_another_look()
    assert {name for name, _ in aspired.calls} == {"b"}


def test_a_look_that_is_late_does_not_bring_a_removed_model_back(
    start: Start, aspired: _Aspired, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, go_on = threading.Event(), threading.Event()
    find = source_module.find_versions

    def find_slowly(base_path: Path) -> dict[int, Path]:
        looking.set()
        assert go_on.wait(_SECONDS)
        return find(base_path)

    monkeypatch.setattr(source_module, "find_versions", find_slowly)
    source = start(_model(tmp_path / "a", 1, name="a"))
    assert looking.wait(_SECONDS)
    source.set_models([_model(tmp_path / "b", 1, name="b")])
    go_on.set()
    aspired.wait_for("b", [1])
    assert [versions for name, versions in aspired.calls if name == "a"] == [[]]


def test_a_poll_time_of_0_looks_once_and_again_when_models_change(
    start: Start, aspired: _Aspired, tmp_path: Path
) -> None:
    model = _model(tmp_path / "a", 1, name="a")
    source = start(model, poll_seconds=0)
    aspired.wait_for("a", [1])
    _model(tmp_path / "a", 2)
    source.set_models([model])
    aspired.wait_for("a", [2])


def test_a_poll_time_of_centuries_is_as_long_as_the_system_can_wait(
    start: Start, aspired: _Aspired, tmp_path: Path
) -> None:
    start(_model(tmp_path, 1), poll_seconds=1e12)
    aspired.wait_for("m", [1])


def _listing_fails(error: Exception) -> Callable[[Path], Iterator[Path]]:
    def iterdir(path: Path) -> Iterator[Path]:
        raise error

    return iterdir


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/m"),
            "PERMISSION_DENIED: /m; Permission denied",
        ),
        (OSError(errno.ESTALE, "Stale file handle", "/m"), "/m; Stale file handle"),
        (OSError(errno.EIO, "Input/output error", "/m"), "/m; Input/output error"),
        (MemoryError(), "the look for versions failed"),
        (ValueError("embedded null byte"), "the look for versions failed"),
    ],
)
def test_a_base_path_that_cannot_be_listed_is_looked_at_again(
    start: Start,
    aspired: _Aspired,
    log: LogLines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    text: str,
) -> None:
    model = _model(tmp_path, 7)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", _listing_fails(error))
        start(model)
        assert log.wait_for(text).startswith("model m: ")
        assert not aspired.calls
    aspired.wait_for("m", [7])


def test_base_paths_of_odd_kinds_delay_no_other_model(
    start: Start, aspired: _Aspired, log: LogLines, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    odd = ["missing", "file", "dangling", "loop"]
    models = [ModelConfig(name=name, base_path=tmp_path / name) for name in odd]
    start(*models, _model(tmp_path / "good", 3, name="good"))
    aspired.wait_for("good", [3])
    for name in odd:
        log.wait_for(f"model {name}: base path {tmp_path / name} cannot be read")
    assert {name for name, _ in aspired.calls} == {"good"}


def test_a_failure_to_take_the_versions_over_does_not_end_the_looks(
    start: Start, aspired: _Aspired, log: LogLines, tmp_path: Path
) -> None:
    aspired.failure = RuntimeError("can't start new thread")
    start(_model(tmp_path, 1))
    log.wait_for("model m: the look for versions failed")
    aspired.failure = None
    aspired.wait_for("m", [1])


def test_a_specific_version_that_does_not_exist_is_named_with_what_is_there(
    start: Start, aspired: _Aspired, log: LogLines, tmp_path: Path
) -> None:
    start(_model(tmp_path, 1, 2, 3, policy=Specific((2, 77, 78))))
    aspired.wait_for("m", [2])
    assert log.wait_for("waiting for") == (
        "model m: waiting for version 78, 77, which the version policy asks for: "
        f"base path {tmp_path} has version 3, 2, 1"
    )
    aspired.wait_for_another_look()
    # The next line comes after a minute, or when something changed.
    assert log.count("waiting for") == 1
    _model(tmp_path, 78)
    log.wait_for("waiting for version 77, which the version policy asks for")


def test_what_is_waited_for_is_said_again_after_a_while(
    start: Start, log: LogLines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "_REPEAT_SECONDS", 0.0)
    start(_model(tmp_path, 1, policy=Specific((77,))))
    log.wait_for("waiting for version 77", times=3)


@pytest.mark.parametrize(
    ("versions", "policy", "text"),
    [
        ([], Specific((77,)), "waiting for version 77, which the version policy asks for: no versions under"),
        ([1], Specific(()), "the version policy asks for no version: base path"),
        ([], All(), "waiting for a version: no versions under base path"),
        (range(1, 14), Specific((77,)), "has version 13, 12, 11, 10, 9, 8, 7, 6, 5, 4 and 3 more"),
    ],
)
def test_what_is_waited_for(
    start: Start, log: LogLines, tmp_path: Path, versions: list[int], policy: Any, text: str
) -> None:
    start(_model(tmp_path, *versions, policy=policy))
    log.wait_for(text)


def test_a_version_in_place_of_a_base_path_is_recognised(start: Start, log: LogLines, tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_text("")
    start(_model(tmp_path))
    log.wait_for(f"that folder is itself a version, its base path is {os.path.dirname(tmp_path)}")
