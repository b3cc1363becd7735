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
# Instruction sets, by their names in /proc/cpuinfo, that the native executor has kernels for.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
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
    flags = _cpu_info("flags").split()
    load = psutil.getloadavg()[0]
    return {
        "processor": _cpu_info("model name") or platform.machine(),
        "instructions": ", ".join(name for name in _INSTRUCTIONS if name in flags),
        "cores": cores,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "nann": __version__,
        **_versions(),
        "load_average": round(load, 2),
        "busy": load > _BUSY * cores,
    }


def _cpu_info(field: str) -> str:
    """A field of the first processor; empty where there is none."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""
