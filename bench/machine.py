"""Description of the machine and of the installed versions that figures belong to."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import psutil

from nann.version import __version__

_PACKAGES = ("tensorflow", "numpy", "faiss-cpu", "hnswlib", "usearch", "scann", "grpcio")
# Load average per core above which another program runs.
_BUSY = 0.25


def _versions() -> dict[str, str]:
    """Of the packages that are installed."""
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def describe_machine() -> dict[str, Any]:
    """Processor, memory, system and versions, and how busy the machine is now."""
    cores = len(os.sched_getaffinity(0))
    load = psutil.getloadavg()[0]
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "nann": __version__,
        **_versions(),
        "load_average": round(load, 2),
        "busy": load > _BUSY * cores,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
