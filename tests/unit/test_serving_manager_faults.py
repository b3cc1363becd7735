"""Versions that cannot be loaded, retried or closed: each is its own failure and stops nothing else."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError

from nann.serving.server import Code, StatusError
from nann.serving.server._versions import State
from support.log_lines import LogLines
from support.managed_models import (
    Loaded,
    Models,
    error_of,
    made_models,
    served,
    states,
    wait,
    wait_for_states,
)


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Models]:
    with made_models(tmp_path / "m") as made:
        yield made


_ODD_ERRORS = [
    (OSError(errno.ESTALE, "Stale file handle", "/m/2/a"), "UNKNOWN: /m/2/a; Stale file handle"),
    (
        PermissionError(errno.EACCES, "No", "/m/2"),
        "PERMISSION_DENIED: /m/2; No",
    ),
    (OSError("no errno"), "UNKNOWN: OSError: no errno"),
    (MemoryError("1 TB"), "RESOURCE_EXHAUSTED: MemoryError: 1 TB"),
    (DecodeError("Wrong wire type"), "UNKNOWN: DecodeError: Wrong wire type"),
    (KeyError("alias"), "UNKNOWN: KeyError: 'alias'"),
    (SystemExit(3), "UNKNOWN: SystemExit: 3"),
    (tf.errors.DataLossError(None, None, "corrupted record at 0"), "DATA_LOSS: corrupted record at 0"),
]
odd_errors = pytest.mark.parametrize(("error", "text"), _ODD_ERRORS, ids=lambda value: type(value).__name__)


@odd_errors
def test_any_error_of_a_load_is_that_version_s_failure(
    models: Models, error: BaseException, text: str
) -> None:
    models.add(1)
    manager = models.manage(retries=2)
    manager.wait_until_available()
    models.fail(2, error)
    with LogLines("nann.serving") as log:
        models.add(2)
        log.wait_for(f"model m version 2: cannot be loaded (retry in 0.02 s): {text}", times=2)
        log.wait_for(f"model m version 2: cannot be loaded (given up): {text}")
    wait_for_states(manager, {1: State.AVAILABLE, 2: State.END})
    assert models.attempts == [1, 2, 2, 2]
    assert str(error_of(manager, 2)) == text
    assert served(manager) == 1
    models.add(3)
    wait_for_states(manager, {1: State.END, 2: State.END, 3: State.AVAILABLE})


@odd_errors
def test_any_error_of_a_load_at_the_start_is_told(models: Models, error: BaseException, text: str) -> None:
    models.add(2)
    models.fail(2, error)
    manager = models.manage()
    with pytest.raises(StatusError) as failure:
        manager.wait_until_available()
    assert f"{{name: m version: 2}} due to error: {text}" in str(failure.value)


def test_a_version_that_can_be_read_after_all_is_served(models: Models) -> None:
    models.add(1)
    models.fail(1, OSError(errno.ESTALE, "Stale file handle", "/m/1"), times=2)
    manager = models.manage(retries=2)
    assert manager.wait_until_available()
    assert served(manager) == 1


def test_folders_of_odd_kinds(models: Models) -> None:
    models.add(1)
    manager = models.manage(retries=1)
    manager.wait_until_available()
    (models.base_path / "7").symlink_to(models.base_path / "7")
    wait_for_states(manager, {1: State.AVAILABLE, 7: State.END})
    assert "reserve resources to load servable {name: m version: 7}: " in str(error_of(manager, 7))
    assert "Too many levels of symbolic links" in str(error_of(manager, 7))
    # The load itself says what is missing in these.
    models.fail(8, StatusError(Code.NOT_FOUND, "no SavedModel"))
    (models.base_path / "8").symlink_to(models.base_path / "nowhere")
    wait(manager, lambda: states(manager).get(8) is State.END)
    assert str(error_of(manager, 8)) == "NOT_FOUND: no SavedModel"
    models.add(9)
    wait_for_states(manager, {1: State.END, 7: State.END, 8: State.END, 9: State.AVAILABLE})


def test_a_folder_that_may_not_be_listed(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    models.add(1)
    manager = models.manage()
    with pytest.raises(StatusError, match="Permission denied"):
        manager.wait_until_available()
    assert str(error_of(manager, 1)) == (
        "PERMISSION_DENIED: Error while attempting to reserve resources to load servable "
        f"{{name: m version: 1}}: {models.base_path / '1'}; Permission denied"
    )


def test_a_wait_of_centuries_before_a_retry(models: Models) -> None:
    models.add(1)
    models.failures[1] = 1
    with LogLines("nann.serving") as log:
        manager = models.manage(retries=1, retry_seconds=1e12)
        log.wait_for("cannot be loaded (retry in")
    models.add(2)
    assert manager.wait_until_available()
    wait_for_states(manager, {1: State.END, 2: State.AVAILABLE})


def test_a_version_dropped_while_it_waits_for_its_retry_keeps_its_error(models: Models) -> None:
    """As recorded in the episode `deleted_during_retries_v4`: the error is the one of a last try."""
    models.add(1)
    manager = models.manage(retries=9, retry_seconds=1e12)
    manager.wait_until_available()
    models.failures[4] = 1
    with LogLines("nann.serving") as log:
        models.add(4)
        log.wait_for("version 4: cannot be loaded (retry in")
    models.fail(4, StatusError(Code.NOT_FOUND, "no SavedModel"))
    (models.base_path / "4").rmdir()
    wait_for_states(manager, {1: State.AVAILABLE, 4: State.END})
    assert str(error_of(manager, 4)) == "NOT_FOUND: no SavedModel"
    # A version that is only superseded is not tried once more.
    models.failures[5] = 1
    with LogLines("nann.serving") as log:
        models.add(5)
        log.wait_for("version 5: cannot be loaded (retry in")
    models.add(6)
    wait_for_states(manager, {1: State.END, 4: State.END, 5: State.END, 6: State.AVAILABLE})
    assert str(error_of(manager, 5)) == "DATA_LOSS: version 5 is damaged"
    assert models.attempts == [1, 4, 4, 5, 6]


def test_a_version_that_cannot_be_closed_is_unloaded_all_the_same(models: Models) -> None:
    class Stuck(Loaded):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EIO, "Input/output error")

    models.add(1)
    manager = models.manage()
    manager.wait_until_available()
    models.loaded[1].__class__ = Stuck
    models.add(2)
    wait_for_states(manager, {1: State.END, 2: State.AVAILABLE})
