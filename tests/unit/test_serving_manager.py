"""The life of versions, with servables that are plain objects: what loads is not the subject here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nann.serving.server import All, Latest, Specific, StatusError
from nann.serving.server._status import Code
from nann.serving.server._versions import State
from support.log_lines import LogLines
from support.managed_models import SECONDS, Models, made_models, served, states, wait_for_states


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Models]:
    with made_models(tmp_path / "m") as made:
        yield made


def test_highest_version_is_served_and_a_new_one_replaces_it(models: Models) -> None:
    models.add(2)
    models.add(9)
    manager = models.manage()
    assert manager.wait_until_available()
    assert served(manager) == 9
    models.add(10)
    wait_for_states(manager, {9: State.END, 10: State.AVAILABLE})
    assert served(manager) == 10
    assert models.loaded[9].closed.is_set()
    assert models.attempts == [9, 10]


def test_old_version_stays_until_its_last_request_ends(models: Models) -> None:
    models.add(1)
    manager = models.manage()
    manager.wait_until_available()
    with manager.lease("m") as held:
        models.add(2)
        wait_for_states(manager, {1: State.UNLOADING, 2: State.AVAILABLE})
        with pytest.raises(StatusError, match=r"Specific\(m, 1\)"):
            served(manager, version=1)
        assert not models.loaded[held.version].closed.is_set()
    assert models.loaded[1].closed.is_set()
    assert states(manager) == {1: State.END, 2: State.AVAILABLE}


def test_corrupt_version_ends_with_its_error_and_the_old_one_serves(models: Models) -> None:
    models.add(1)
    manager = models.manage()
    manager.wait_until_available()
    models.failures[2] = 1
    models.add(2)
    wait_for_states(manager, {1: State.AVAILABLE, 2: State.END})
    (status,) = manager.statuses("m", version=2)
    assert status.error is not None
    assert (status.error.code, status.error.message) == (Code.DATA_LOSS, "version 2 is damaged")
    assert served(manager) == 1
    models.add(3)
    wait_for_states(manager, {1: State.END, 2: State.END, 3: State.AVAILABLE})
    # Wanted again after it was not: tried again.
    (models.base_path / "3").rmdir()
    wait_for_states(manager, {1: State.END, 2: State.AVAILABLE, 3: State.END})
    assert models.attempts == [1, 2, 3, 2]


def test_failed_loads_are_tried_again(models: Models) -> None:
    models.add(1)
    models.failures[1] = 2
    manager = models.manage(retries=2)
    assert manager.wait_until_available()
    assert models.attempts == [1, 1, 1]


def test_start_fails_when_a_version_cannot_be_loaded(models: Models) -> None:
    models.add(1)
    models.failures[1] = 5
    manager = models.manage(retries=1)
    with pytest.raises(StatusError) as error:
        manager.wait_until_available()
    assert error.value.message == (
        "1 servable(s) did not become available: {{{name: m version: 1} due to error: DATA_LOSS: "
        "version 1 is damaged}, }"
    )
    assert models.attempts == [1, 1]


def test_a_start_does_not_wait_for_the_retries_of_a_version_while_another_serves(models: Models) -> None:
    for number in (1, 2):
        models.add(number)
    models.failures[2] = 5
    manager = models.manage(policy=All(), retries=5, retry_seconds=3600)
    assert manager.wait_until_available()
    assert states(manager) == {1: State.AVAILABLE, 2: State.LOADING}


def test_a_reload_tells_of_the_newest_version_only(models: Models) -> None:
    manager = models.manage()
    for name, bad in (("old_is_bad", 1), ("new_is_bad", 2)):
        for number in (1, 2):
            models.add(number, name)
        models.failures[bad] = 5
        config = models.config(name, policy=All())
        if bad == 1:
            manager.replace_models([config], lambda: False)
        else:
            with pytest.raises(StatusError) as error:
                manager.replace_models([config], lambda: False)
            assert error.value.message == (
                "1 model(s) did not become available: {{{name: new_is_bad version: 2} due to error: "
                "DATA_LOSS: version 2 is damaged}, }"
            )
        models.failures.clear()


def test_missing_and_empty_base_paths_are_waited_for(models: Models) -> None:
    with LogLines("nann.serving") as log:
        manager = models.manage()
        log.wait_for("cannot be read")
    models.base_path.mkdir()
    models.add(1)
    assert manager.wait_until_available()
    assert served(manager) == 1


def test_waiting_for_models_can_be_interrupted(models: Models) -> None:
    manager = models.manage()
    stop = threading.Event()
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(manager.wait_until_available(stop.is_set)))
    waiting.start()
    stop.set()
    manager.wake()
    waiting.join(SECONDS)
    assert answers == [False]


def test_base_path_that_goes_away_keeps_what_is_served(models: Models) -> None:
    models.add(1)
    manager = models.manage()
    manager.wait_until_available()
    with LogLines("nann.serving") as log:
        models.base_path.rename(models.base_path.with_name("away"))
        log.wait_for("cannot be read")
    assert served(manager) == 1


def test_all_versions_removed_unloads_all(models: Models) -> None:
    models.add(1)
    manager = models.manage()
    manager.wait_until_available()
    (models.base_path / "1").rmdir()
    wait_for_states(manager, {1: State.END})
    with pytest.raises(StatusError, match=r"Servable not found for request: Latest\(m\)"):
        served(manager)


def test_a_file_in_place_of_a_version_is_not_loaded(models: Models) -> None:
    models.add(1)
    manager = models.manage(retries=9)
    manager.wait_until_available()
    (models.base_path / "99").write_text("")
    wait_for_states(manager, {1: State.AVAILABLE, 99: State.END})
    (status,) = manager.statuses("m", version=99)
    assert status.error is not None
    assert status.error.code is Code.FAILED_PRECONDITION
    assert status.error.message.endswith("99; Not a directory")


def test_labels_and_specific_versions(models: Models) -> None:
    for version in (1, 2, 3):
        models.add(version)
    manager = models.manage(policy=Specific((1, 2)), labels={"stable": 1, "gone": 3}, allow_labels=True)
    manager.wait_until_available()
    assert (served(manager), served(manager, label="stable"), served(manager, version=1)) == (2, 1, 1)
    with pytest.raises(StatusError, match=r"Specific\(m, 3\)"):
        served(manager, label="gone")
    with pytest.raises(StatusError, match="Unrecognized servable version label: nope"):
        served(manager, label="nope")


def test_label_of_an_unavailable_version_fails_the_start(models: Models) -> None:
    models.add(1)
    manager = models.manage(policy=Latest(), labels={"canary": 99})
    with pytest.raises(StatusError, match="assign label to version 99 of model m"):
        manager.wait_until_available()


def test_stop_waits_for_requests_and_closes_everything(models: Models) -> None:
    models.add(1)
    manager = models.manage()
    manager.wait_until_available()
    models.managers.clear()
    stopping = threading.Thread(target=manager.stop)
    with manager.lease("m"):
        stopping.start()
        wait_for_states(manager, {1: State.UNLOADING})
        assert stopping.is_alive()
        assert not models.loaded[1].closed.is_set()
    stopping.join(SECONDS)
    assert not stopping.is_alive()
    assert models.loaded[1].closed.is_set()


def test_unknown_models(models: Models) -> None:
    models.add(1)
    manager = models.manage()
    manager.wait_until_available()
    with pytest.raises(StatusError, match="Could not find any versions of model nope"):
        manager.statuses("nope")
    with pytest.raises(StatusError, match="Could not find version 7 of model m"):
        manager.statuses("m", version=7)
    with pytest.raises(StatusError, match=r"Latest\(nope\)"), manager.lease("nope"):
        pass
