"""Which version is loaded or unloaded next."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nann.serving.server._policy import next_to_load, next_to_unload
from nann.serving.server._versions import State, Version

_STATES = st.sampled_from(State)


def _version(number: int, state: State, *, is_aspired: bool = True, is_retrying: bool = False) -> Version:
    version = Version("m", number, Path(str(number)), state=state, is_retrying=is_retrying)
    if not is_aspired:
        version.dropped.set()
    return version


def _number(version: Version | None) -> int | None:
    return version.number if version else None


def test_the_only_available_version_stays_while_a_new_one_loads_or_fails() -> None:
    for state in (State.START, State.LOADING, State.END):
        old = _version(1, State.AVAILABLE, is_aspired=False)
        assert next_to_unload([old, _version(2, state)], keep_one=True) is None
    assert next_to_unload([old, _version(2, State.AVAILABLE)], keep_one=True) is old


def test_the_lowest_of_several_spare_versions_goes_before_the_new_one_is_there() -> None:
    """As recorded in the episode `change_base_path`: 1 and 2 end, 3 stays until 10 is available."""
    spare = [_version(number, State.AVAILABLE, is_aspired=False) for number in (3, 1, 2)]
    new = _version(10, State.START)
    assert _number(next_to_unload([*spare, new], keep_one=True)) == 1
    assert next_to_unload([spare[0], new], keep_one=True) is None


def test_a_model_that_should_not_serve_keeps_none() -> None:
    assert _number(next_to_unload([_version(1, State.AVAILABLE, is_aspired=False)], keep_one=False)) == 1


def test_the_highest_version_is_loaded_first_and_one_at_a_time() -> None:
    new = [_version(number, State.START) for number in (2, 10, 9)]
    assert _number(next_to_load(new)) == 10
    assert next_to_load([*new, _version(1, State.LOADING)]) is None


@pytest.mark.parametrize("flags", [{"is_retrying": True}, {"is_aspired": False}])
def test_a_load_that_waits_or_is_not_wanted_delays_no_other(flags: dict[str, bool]) -> None:
    stuck = _version(9, State.LOADING, **flags)
    assert _number(next_to_load([stuck, _version(8, State.START)])) == 8


@given(st.lists(st.tuples(_STATES, st.booleans()), max_size=6), st.booleans())
def test_what_is_aspired_stays_and_so_does_the_last_version_of_a_model_that_should_serve(
    kinds: list[tuple[State, bool]], keep_one: bool
) -> None:
    versions = [_version(number, state, is_aspired=wanted) for number, (state, wanted) in enumerate(kinds)]
    before = {version for version in versions if version.state is State.AVAILABLE}
    while (version := next_to_unload(versions, keep_one=keep_one)) is not None:
        assert version.state is State.AVAILABLE
        assert not version.is_aspired
        version.state = State.UNLOADING
    after = {version for version in versions if version.state is State.AVAILABLE}
    aspired = {version for version in before if version.is_aspired}
    assert after >= aspired
    assert len(after) == max(len(aspired), int(keep_one and bool(before)))
