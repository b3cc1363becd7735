"""tests/conftest.py: where CI is set, a test that would be skipped fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

TESTS = """
import pytest

def test_skipped():
    pytest.skip("for a reason")

@pytest.mark.skipif(True, reason="for another")
def test_skipped_if(): ...

@pytest.mark.xfail
def test_that_is_known_to_fail():
    assert False

def test_that_passes(): ...
"""


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [("", "1 passed, 3 skipped, 1 xfailed"), ("1", "1 failed, 1 passed, 1 xfailed, 2 errors")],
)
def test_a_skip_is_a_failure_in_ci(tmp_path: Path, ci: str, outcome: str) -> None:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_skips.py").write_text(TESTS)
    (tmp_path / "test_module.py").write_text(
        "import pytest\npytest.importorskip('a_module_that_is_nowhere')\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-ra",
        "--continue-on-collection-errors",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**os.environ, "CI": ci}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert re.search(outcome, done.stdout), done.stdout
    assert done.returncode == (1 if ci else 0)
    for reason in ("for a reason", "for another", "a_module_that_is_nowhere"):
        assert reason in done.stdout
