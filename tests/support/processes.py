"""Programs run by tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*command: object, preload: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program with its output captured; it need not succeed."""
    # cmake and ninja come from the virtual environment.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, **({"LD_PRELOAD": str(preload)} if preload else {})}
    return subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, check=False
    )


def output_of(*command: object) -> str:
    """Standard output of a program that must succeed."""
    done = run(*command)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout
