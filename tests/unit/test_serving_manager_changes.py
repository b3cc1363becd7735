"""Several models, slow loads, and models that come and go while the manager runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from nann.serving.server import All, Specific, StatusError
from nann.serving.server._manager import ModelManager
from nann.serving.server._versions import Route, State, Version
from support.log_lines import LogLines
from support.managed_models import SECONDS, Models, made_models, served, states, wait, wait_for_states


@pytest.fixture
def models(tmp_path: Path) -> Iterator[Models]:
    with made_models(tmp_path / "m") as made:
        yield made


def test_a_slow_load_delays_no_look_and_no_other_model(models: Models) -> None:
    models.add(1)
    models.gates[1] = threading.Event()
    models.add(5, "other")
    manager = models.manage()
    manager.set_models([models.config(), models.config("other")])
    assert models.loading[1].wait(SECONDS)
    wait_for_states(manager, {5: State.AVAILABLE}, "other")
    models.add(6, "other")
    wait_for_states(manager, {5: State.END, 6: State.AVAILABLE}, "other")
    assert states(manager) == {1: State.LOADING}
    # Nor the next version of its own model, once it is not wanted any more.
    models.add(2)
    wait_for_states(manager, {1: State.LOADING, 2: State.AVAILABLE})
    models.gates[1].set()
    wait_for_states(manager, {1: State.END, 2: State.AVAILABLE})
    assert models.loaded[1].closed.is_set()


def test_versions_of_a_model_are_loaded_one_after_another(models: Models) -> None:
    for version in (1, 2, 3):
        models.add(version)
    models.gates[3] = threading.Event()
    manager = models.manage(policy=All())
    assert models.loading[3].wait(SECONDS)
    assert states(manager) == {1: State.START, 2: State.START, 3: State.LOADING}
    models.gates[3].set()
    manager.wait_until_available()
    assert models.attempts == [3, 2, 1]


def test_models_are_added_and_removed_while_it_runs(models: Models) -> None:
    models.add(1)
    models.add(7, "other")
    manager = models.manage(labels={"stable": 1})
    manager.wait_until_available()
    manager.set_models([models.config(labels={"stable": 1}), models.config("other")])
    assert manager.wait_until_available()
    assert (served(manager), served(manager, "other")) == (1, 7)
    manager.set_models([models.config("other")])
    wait_for_states(manager, {1: State.END})
    assert models.loaded[1].closed.is_set()
    assert served(manager, "other") == 7
    with pytest.raises(StatusError, match=r"Servable not found for request: Latest\(m\)"):
        served(manager)
    with pytest.raises(StatusError, match="Unrecognized servable version label: stable"):
        served(manager, label="stable")
    manager.set_models([models.config(), models.config("other")])
    wait_for_states(manager, {1: State.AVAILABLE})
    assert models.attempts == [1, 7, 1]


def test_removing_the_model_that_is_waited_for_ends_the_wait(models: Models) -> None:
    models.add(7, "other")
    manager = models.manage()
    manager.set_models([models.config(), models.config("other")])
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(manager.wait_until_available()))
    waiting.start()
    manager.set_models([models.config("other")])
    waiting.join(SECONDS)
    assert answers == [True]


def test_a_version_that_is_wanted_again_counts_when_the_start_waits(models: Models) -> None:
    models.add(1)
    models.add(7, "other")
    models.gates = {2: threading.Event(), 7: threading.Event()}
    manager = models.manage()
    manager.set_models([models.config(), models.config("other")])
    wait_for_states(manager, {1: State.AVAILABLE})
    models.add(2)
    assert models.loading[2].wait(SECONDS)
    (models.base_path / "2").rmdir()
    wait(manager, lambda: [status.is_aspired for status in manager.statuses("m")] == [False, True])
    models.gates[2].set()
    wait_for_states(manager, {1: State.AVAILABLE, 2: State.END})
    models.gates[7].set()
    assert manager.wait_until_available()


def test_a_version_that_comes_back_while_it_is_still_in_use_is_loaded_again(models: Models) -> None:
    models.add(1)
    manager = models.manage()
    manager.wait_until_available()
    with manager.lease("m"):
        models.add(2)
        wait_for_states(manager, {1: State.UNLOADING, 2: State.AVAILABLE})
        (models.base_path / "2").rmdir()
        manager._aspire("m", {1: models.base_path / "1"})
        assert states(manager) == {1: State.UNLOADING, 2: State.AVAILABLE}
    wait_for_states(manager, {1: State.AVAILABLE, 2: State.END})
    assert models.attempts == [1, 2, 1]


def test_a_version_is_called_available_once_the_front_answers_by_it(models: Models) -> None:
    first_seen: dict[int, State] = {}
    shared: set[Version] = set()

    def front(routes: Mapping[Route, Version]) -> list[Version]:
        for version in routes.values():
            first_seen.setdefault(version.number, states(manager)[version.number])
        unused = shared - set(routes.values())
        shared.difference_update(unused)
        shared.update(routes.values())
        return list(unused)

    models.add(1)
    models.gates[1] = threading.Event()
    manager = models.manage()
    manager.share(front)
    models.gates[1].set()
    wait_for_states(manager, {1: State.AVAILABLE})
    models.add(2)
    wait_for_states(manager, {1: State.END, 2: State.AVAILABLE})
    assert first_seen == {1: State.LOADING, 2: State.LOADING}


def test_a_specific_version_that_does_not_exist_is_waited_for_aloud(models: Models) -> None:
    models.add(1)
    with LogLines("nann.serving") as log:
        manager = models.manage(policy=Specific((77,)))
        log.wait_for("model m: waiting for version 77, which the version policy asks for")
        log.wait_for(f"base path {models.base_path} has version 1")
    with pytest.raises(StatusError, match="NOT_FOUND: Could not find any versions of model m"):
        manager.statuses("m")
    with pytest.raises(StatusError, match="NOT_FOUND: Could not find version 77 of model m"):
        manager.statuses("m", version=77)
    models.add(77)
    assert manager.wait_until_available()
    assert served(manager) == 77


def test_a_specific_version_that_goes_away_is_unloaded(models: Models) -> None:
    """As recorded in the episode `specific_missing_77`: what the policy does not ask for is not served."""
    models.add(1)
    models.add(2)
    manager = models.manage(policy=Specific((1,)))
    manager.wait_until_available()
    (models.base_path / "1").rmdir()
    wait_for_states(manager, {1: State.END})


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_aspired_in_between_the_last_wish_is_served(models: Models, seed: int) -> None:
    """Random wishes, failing loads and requests; every loaded version is closed once, none while in use."""
    random = Random(seed)
    models.failures = {version: random.randrange(4) for version in range(1, 9)}
    manager = models.manage(retries=1, retry_seconds=0)
    paths = {version: models.base_path / str(version) for version in range(1, 10)}
    for path in paths.values():
        path.mkdir(parents=True)
    manager.set_models([])
    asking = threading.Event()

    def ask() -> None:
        while not asking.is_set():
            with suppress(StatusError), manager.lease("m") as lease:
                loaded: Any = lease.servable
                assert not loaded.closed.is_set()

    with ThreadPoolExecutor(2) as pool:
        askers = [pool.submit(ask) for _ in range(2)]
        try:
            for _ in range(200):
                wish = random.sample(range(1, 9), random.randrange(4))
                manager._aspire("m", {version: paths[version] for version in wish})
            manager._aspire("m", {9: paths[9]})
            wait(manager, lambda: _is_served_alone(manager, 9))
        finally:
            asking.set()
        for asker in askers:
            asker.result()
    manager.stop()
    models.managers.clear()
    assert all(loaded.closed.is_set() for loaded in models.all_loaded)


def _is_served_alone(manager: ModelManager, version: int) -> bool:
    found = states(manager)
    return found.pop(version, None) is State.AVAILABLE and set(found.values()) <= {State.END}
