"""Folders appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nann import files
from nann.files import staged_directory


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_visible_before_the_end(tmp_path: Path) -> None:
    with staged_directory(tmp_path / "7") as staged:
        (staged / "file").touch()
        assert not (tmp_path / "7").exists()
        # A model server reads every name that parses as a number as a version.
        assert [name[0] for name in _names(tmp_path)] == ["."]
    assert _names(tmp_path) == ["7"]
    assert _names(tmp_path / "7") == ["file"]


def test_others_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with staged_directory(tmp_path / "7"):
        pass
    assert (tmp_path / "7").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("in_one_step", [True, False])
def test_an_older_folder_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    if not in_one_step:
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    target = tmp_path / "deep" / "7"
    for name in ("old", "new"):
        with staged_directory(target) as staged:
            (staged / name).touch()
    assert _names(target) == ["new"]
    assert _names(target.parent) == ["7"]


def test_two_names_are_swapped_in_one_step(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"from_{name}").touch()
    if not files._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot swap two names")
    assert (_names(tmp_path / "a"), _names(tmp_path / "b")) == (["from_b"], ["from_a"])


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    with staged_directory(tmp_path / "7") as staged:
        (staged / "old").touch()
    with pytest.raises(FileNotFoundError), staged_directory(tmp_path / "7") as staged:
        (staged / "no_such_folder" / "new").touch()
    assert _names(tmp_path) == ["7"]
    assert _names(tmp_path / "7") == ["old"]


def test_who_came_first_stays_when_nothing_may_be_replaced(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "7")  # an empty folder is as good as none
    with (
        pytest.raises(FileExistsError, match="7: expected no such folder"),
        staged_directory(tmp_path / "7", replace=False),
    ):
        (tmp_path / "7" / "of_another").touch()
    assert _names(tmp_path / "7") == ["of_another"]
    assert _names(tmp_path) == ["7"]


@pytest.mark.parametrize("was_there", [True, False])
def test_a_link_stays_a_link(tmp_path: Path, was_there: bool) -> None:
    if was_there:
        (tmp_path / "disk").mkdir()
    (tmp_path / "7").symlink_to("disk")
    for name in ("old", "new"):
        with staged_directory(tmp_path / "7") as staged:
            (staged / name).touch()
    assert _names(tmp_path) == ["7", "disk"]
    assert (tmp_path / "7").is_symlink()
    assert _names(tmp_path / "disk") == ["new"]


def test_what_a_killed_writer_has_left_is_deleted(tmp_path: Path) -> None:
    """And nothing of one that lives, of another name, or that holds an older folder during a swap."""
    killed = tmp_path / f".7.writing-{'a' * 32}"
    kept = [
        tmp_path / f".77.writing-{'a' * 32}",
        tmp_path / f".7.writing-{'a' * 32}-old",
    ]
    for path in (killed, *kept):
        path.mkdir()
        (path / "file").touch()
    with staged_directory(tmp_path / "7") as living:
        (living / "first").touch()
        with staged_directory(tmp_path / "7") as second:
            assert living.exists()
            (second / "second").touch()
        assert _names(living) == ["first"]
    assert _names(tmp_path) == sorted([*(path.name for path in kept), "7"])
