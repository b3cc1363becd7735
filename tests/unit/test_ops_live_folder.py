"""What a server does when the folder of segments misbehaves: it serves what it has, and recovers."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nann.ops
from support.live_case import LiveCase, publish, segment_bytes
from support.live_ops import applied, make_case, wait_for, wait_for_segment

# Linux's numbers (linux/capability.h): files are read whatever their mode says.
_CAPABILITIES_VERSION_3 = 0x20080522
_READS_EVERYTHING = 1 << 1 | 1 << 2


class Errors:
    """All that was written to standard error in this test."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd, self._text = capfd, ""

    def wait_for(self, part: str) -> None:
        wait_for(lambda: part in self.text())

    def text(self) -> str:
        self._text += self._capfd.readouterr().err
        return self._text


@pytest.fixture
def errors(capfd: pytest.CaptureFixture[str]) -> Errors:
    return Errors(capfd)


@pytest.fixture
def case(tmp_path: Path) -> LiveCase:
    made = make_case(tmp_path, 4)
    for _ in range(3):
        made.add_random_segment(new=2, changed=1, deleted=1)
    return made


@contextlib.contextmanager
def modes_count() -> Iterator[None]:
    """This thread, and threads that it starts, read no file whose mode forbids it, even as root."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0
    before = data[0]
    data[0] = before & ~_READS_EVERYTHING
    assert libc.capset(header, data) == 0
    yield
    data[0] = before
    assert libc.capset(header, data) == 0


def segments_applied() -> int:
    return int(nann.ops.metrics()["/nann/segments_applied"])


def path_of(case: LiveCase, number: int) -> Path:
    return case.updates / f"{number:010}.segment"


def test_a_file_that_cannot_be_opened_for_a_moment_is_applied_later(case: LiveCase, errors: Errors) -> None:
    case.publish_all()
    path_of(case, 2).chmod(0)
    refused = nann.ops.metrics()["/nann/segments_refused"]
    with modes_count():
        index = nann.ops.IndexResource(**case.arguments())
    assert applied(index) == 1
    errors.wait_for("0000000002.segment: cannot be read")
    # Size, inode and time of the file stay as they are.
    path_of(case, 2).chmod(0o644)
    wait_for_segment(index, 3)
    assert nann.ops.metrics()["/nann/segments_refused"] == refused + 1


def test_an_empty_folder_is_no_rollback(case: LiveCase, tmp_path: Path, errors: Errors) -> None:
    """As of a mount that is not there for a moment."""
    case.publish_all()
    index = nann.ops.IndexResource(**case.arguments())
    before = segments_applied()
    away = tmp_path / "away"
    away.mkdir()
    for path in case.updates.iterdir():
        path.rename(away / path.name)
    errors.wait_for("0000000003.segment: expected the segment that was applied last, found none")
    assert applied(index) == 3
    for path in away.iterdir():
        path.rename(case.updates / path.name)
    publish(case.updates, 4, segment_bytes(4, 3, case.item_ids.size, {}))
    wait_for_segment(index, 4)
    assert segments_applied() == before + 1


def test_a_listing_that_lacks_the_last_segment_once_is_no_rollback(case: LiveCase, errors: Errors) -> None:
    case.publish_all()
    index = nann.ops.IndexResource(**case.arguments())
    before = segments_applied()
    hidden = path_of(case, 3).rename(case.updates / ".hidden")
    errors.wait_for("0000000003.segment: expected the segment that was applied last, found none")
    hidden.rename(path_of(case, 3))
    publish(case.updates, 4, segment_bytes(4, 3, case.item_ids.size, {}))
    wait_for_segment(index, 4)
    assert segments_applied() == before + 1


def test_after_a_rollback_the_old_state_serves_until_the_new_one_is_whole(
    case: LiveCase, errors: Errors
) -> None:
    case.publish_all()
    index = nann.ops.IndexResource(**case.arguments())
    whole = path_of(case, 1).read_bytes()
    publish(case.updates, 1, whole[:-1])
    path_of(case, 3).unlink()
    errors.wait_for("0000000001.segment: expected")
    assert applied(index) == 3
    publish(case.updates, 1, whole)
    wait_for_segment(index, 2)


def test_an_index_that_is_unloaded_does_not_wait_for_a_rollback(tmp_path: Path) -> None:
    """Of 3,000 segments some are applied again before the index goes; it does not wait for all."""
    case, count = make_case(tmp_path, 5), 3000
    for number in range(1, count + 1):
        publish(case.updates, number, segment_bytes(number, number - 1, 60, {}))
    index = nann.ops.IndexResource(**case.arguments())
    before = segments_applied()
    path_of(case, count).unlink()
    wait_for(lambda: segments_applied() > before, ticks_seconds=0.0)
    del index
    gc.collect()
    assert segments_applied() < before + count - 1


SHRINKING = """
import os, sys, threading
from pathlib import Path
import numpy as np
import nann.ops
from support.live_case import segment_bytes
from support.live_ops import applied, make_case

case = make_case(sys.argv[1], 6)
rows = {"publisher/ballast": np.zeros(2**25, np.uint8)}
case.updates.mkdir(parents=True)
path = case.updates / "0000000001.segment"
content = segment_bytes(1, 0, 60, rows)
path.write_bytes(content[:-1] + b"1")
index = nann.ops.IndexResource(**case.arguments())
refused = nann.ops.metrics()["/nann/segments_refused"]
while nann.ops.metrics()["/nann/segments_refused"] < refused + 20:
    os.truncate(path, 4096)
    os.truncate(path, len(content))
path.write_bytes(content)
while applied(index) != 1:
    pass
print("served")
"""


def test_a_file_that_shrinks_while_it_is_read_ends_no_server(tmp_path: Path) -> None:
    program = [sys.executable, "-c", SHRINKING, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "NANN_UPDATES_POLL_MS": "1"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "served\n"
