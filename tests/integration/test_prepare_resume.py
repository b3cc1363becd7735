"""A preparation that is killed goes on, and gives the same files as one that never was."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nann.training import prepare_data

# Blocks and partitions of some hundred lines; the process kills itself at a given report of progress.
PROGRAM = """
import os, signal, sys
from pathlib import Path
from nann.training import prepare_data
from nann.training.ingest import _prepare

_prepare.BLOCK_BYTES = 2_000
_prepare._BYTES_PER_PARTITION = 4_000
calls = 0

def count(stage, done, total):
    global calls
    calls += 1
    if calls == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

prepare_data(sys.argv[1], Path(sys.argv[2]), on_progress=count)
print(calls)
"""


def _run(source: Path, out: Path, *, kill_at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(source), str(out), str(kill_at)]
    return subprocess.run(command, env=os.environ, check=False, capture_output=True, text=True)


def _sums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lines") / "events.csv"
    rows = ((1 + n * 7 % 97, 1 + n * n % 211, 1 + n * n % 5, "pv", n * 13 % 1009) for n in range(3000))
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows) + "junk\n")
    return path


def test_killed_anywhere_and_run_again_gives_the_same_bytes(lines: Path, tmp_path: Path) -> None:
    whole = _run(lines, tmp_path / "whole", kill_at=0)
    assert whole.returncode == 0, whole.stderr
    calls = int(whole.stdout)
    assert calls > 30
    # In the first pass, at its end, in the second pass, in the third, and at the last report.
    for kill_at in (4, calls // 3, calls // 2, calls - 5, calls):
        out = tmp_path / f"killed-{kill_at}"
        killed = _run(lines, out, kill_at=kill_at)
        assert killed.returncode == -signal.SIGKILL
        assert not out.exists()
        again = _run(lines, out, kill_at=0)
        assert again.returncode == 0, again.stderr
        if kill_at > calls // 3:
            assert int(again.stdout) < calls, "it went on, and did not begin again"
        assert _sums(out) == _sums(tmp_path / "whole")
        assert not list(tmp_path.glob(".*")), "nothing temporary is left"


def test_block_size_and_partitions_do_not_change_the_result(lines: Path, tmp_path: Path) -> None:
    assert _run(lines, tmp_path / "small", kill_at=0).returncode == 0
    prepare_data(str(lines), tmp_path / "large")
    assert _sums(tmp_path / "small") == _sums(tmp_path / "large")


def test_what_was_left_for_another_file_is_not_used(lines: Path, tmp_path: Path) -> None:
    source = tmp_path / "events.csv"
    source.write_bytes(lines.read_bytes())
    assert _run(source, tmp_path / "out", kill_at=20).returncode == -signal.SIGKILL
    text = source.read_text().splitlines(keepends=True)
    source.write_text("".join(text[:1500]))
    assert _run(source, tmp_path / "out", kill_at=0).returncode == 0
    prepare_data(str(source), tmp_path / "expected")
    assert _sums(tmp_path / "out") == _sums(tmp_path / "expected")
