"""Two logical CPU devices in a process of their own: they must be made before TensorFlow is used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_TESTS = Path(__file__).parents[1]
_FOLDERS = (_TESTS, _TESTS.parent / "docs" / "examples")
_TWO_DEVICES = (
    "import tensorflow as tf\n"
    "(cpu,) = tf.config.list_physical_devices('CPU')\n"
    "tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)\n"
)


def with_two_devices(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a Python program that sees two devices; it need not succeed."""
    return subprocess.run(
        [sys.executable, "-c", _TWO_DEVICES + program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, _FOLDERS))},
        capture_output=True,
        text=True,
        check=False,
    )


def train_mirrored(data: Path, run: Path, *options: str) -> None:
    """`nann train --strategy mirrored` on two devices, which must succeed."""
    arguments = ("train", "--data", data, "--out", run, "--strategy", "mirrored", "--json", *options)
    done = with_two_devices("from nann.cli import main; main()", *arguments)
    assert done.returncode == 0, done.stderr
