"""The TensorFlow versions that pyproject.toml supports, and environments of those that are not installed."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

from packaging.requirements import Requirement

from support.processes import ROOT, output_of


def supported() -> list[str]:
    """Minor versions such as "2.21", from the metadata of the installed nann."""
    requirements = map(Requirement, importlib.metadata.requires("nann") or [])
    (tensorflow,) = (each for each in requirements if each.name == "tensorflow")
    return [f"2.{minor}" for minor in range(100) if tensorflow.specifier.contains(f"2.{minor}.0")]


def installed() -> str:
    """Minor version of the TensorFlow that runs the tests."""
    return ".".join(importlib.metadata.version("tensorflow").split(".")[:2])


def others() -> list[str]:
    """Supported minor versions that are not the installed one."""
    return [version for version in supported() if version != installed()]


def preload_libraries(version: str) -> Path:
    """Folder with the op library and the shim for a stock server of `version`, by the documented command."""
    output_of("make", "-C", ROOT, "preload", f"TENSORFLOW={version}", f"PYTHON={sys.executable}")
    return ROOT / "build" / f"preload-{version}"


def environment_with_nann(version: str) -> Path:
    """Folder of programs of an environment under build/ with nann and TensorFlow `version`.

    It is kept: a second call compiles what changed. `preload_libraries` made it.
    """
    preload_libraries(version)
    folder = ROOT / "build" / f"tensorflow-{version}"
    # The other packages are those that are pinned for the tests.
    pins = (ROOT / "requirements.txt").read_text().splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{pin}\n" for pin in pins if not re.match("#|tensor", pin)))
    install = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += [
        "--constraint",
        constraints,
        f"tensorflow=={version}.*",
        f"tensorflow-serving-api=={version}.*",
    ]
    output_of(*install, "scikit-build-core")
    options = ["--no-build-isolation", "--config-settings", f"build-dir={ROOT}/build/cmake/wheel-{version}"]
    output_of(*install, *options, f"{ROOT}[tensorflow]")
    return folder / "bin"


def environment_of(name: str, *requirements: str) -> Path:
    """Folder of programs of an environment under build/ with these packages, and without nann. It is kept."""
    folder = ROOT / "build" / name
    if not (folder / "bin" / "pip").exists():
        output_of(sys.executable, "-m", "venv", folder)
    output_of(folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
    return folder / "bin"
