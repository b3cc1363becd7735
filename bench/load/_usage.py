"""Processor time and memory of the process that answers requests."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from nann.errors import InvalidInputError

# Sampling ten times a second costs nothing and sees the peaks of a load.
_SAMPLE_SECONDS = 0.1
_LOCAL = ("localhost", "127.0.0.1", "::1", "[::1]")


@dataclass(frozen=True)
class Usage:
    """Resources that a process used while it was watched.

    Attributes:
      cpu_cores: processor seconds per second; 2.0 means that two cores were busy.
      rss_bytes: largest resident memory, including mapped index files.
      anonymous_bytes: largest resident memory that is not of a mapped file.
    """

    cpu_cores: float
    rss_bytes: int
    anonymous_bytes: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class UsageSampler:
    """Watches a process while the block runs: `with UsageSampler(pid) as sampler: ...; sampler.usage`."""

    def __init__(self, pid: int | None = None) -> None:
        try:
            self._process = psutil.Process(pid or os.getpid())
        except psutil.NoSuchProcess as error:
            raise InvalidInputError(
                f"server pid: expected a running process, found no {pid}. Correct --server-pid."
            ) from error
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._rss = self._anonymous = 0
        self._cpu_seconds = 0.0
        self._seconds = 0.0

    @property
    def usage(self) -> Usage:
        """The resources used; complete after the block."""
        cores = self._cpu_seconds / self._seconds if self._seconds else 0.0
        return Usage(cores, self._rss, self._anonymous)

    def __enter__(self) -> UsageSampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        try:
            before, started = self._process.cpu_times(), time.monotonic()
            ended = False
            while not ended:
                memory = self._process.memory_info()
                self._rss = max(self._rss, memory.rss)
                self._anonymous = max(self._anonymous, memory.rss - memory.shared)
                ended = self._done.wait(_SAMPLE_SECONDS)
            after = self._process.cpu_times()
            self._cpu_seconds = after.user + after.system - before.user - before.system
            self._seconds = time.monotonic() - started
        except psutil.NoSuchProcess:
            # The process ended while it was watched; its callers' errors say so.
            return


def find_server_pid(target: str) -> int | None:
    """The process of this machine that listens on the port of `target`; None when it is unknown."""
    host, _, port = target.rpartition(":")
    if host not in _LOCAL or not port.isdigit():
        return None
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    # An address is a pair of host and port, or empty.
    listening = {c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr[1:] == (int(port),)}
    return listening.pop() if len(listening) == 1 else None
