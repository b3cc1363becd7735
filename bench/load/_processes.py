"""Load on a server from separate processes.

A Python process writes and reads messages on one core only. Above that load it would count its own waiting
time as the server's.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from nann.bench.load.generator import Record, run_load
from nann.bench.load.schedule import Stage
from nann.bench.requests import Request
from nann.bench.targets import ServerTarget

# Processes start together. They import gRPC and NumPy first, which takes seconds on a busy machine.
_MEET_SECONDS = 120.0


@dataclass(frozen=True)
class ServerAddress:
    """Address of the model, for a generator process."""

    target: str
    model: str
    timeout: float


class GeneratorProcesses:
    """Processes with one connection each that share the load of every stage."""

    def __init__(self, processes: int, address: ServerAddress) -> None:
        # Not fork: the copy of a process with gRPC's threads deadlocks.
        context = multiprocessing.get_context("spawn")
        self._processes = processes
        self._pool = ProcessPoolExecutor(processes, context, _start, (address, context.Barrier(processes)))

    def __enter__(self) -> GeneratorProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, requests: Sequence[Request], stage: Stage, *, seed: int) -> Record:
        """Like `run_load`, by all processes together."""
        at_work = min(self._processes, stage.callers)
        shares = [stage.share(at_work, part) for part in range(at_work)]
        idle = [None] * (self._processes - at_work)
        futures = [
            self._pool.submit(_run_share, requests, share, seed + part)
            for part, share in enumerate([*shares, *idle])
        ]
        record = Record(stage.interval_seconds)
        for future in futures:
            if (seen := future.result()) is not None:
                record.merge(seen)
        return record


_target: ServerTarget | None = None
_barrier: Any = None


def _start(address: ServerAddress, barrier: Any) -> None:
    global _target, _barrier
    _target = ServerTarget(address.target, model=address.model, timeout=address.timeout)
    _barrier = barrier


def _run_share(requests: Sequence[Request], stage: Stage | None, seed: int) -> dict[str, Any] | None:
    assert _target is not None
    # The barrier makes sure that each process takes one share, and that all start together.
    _barrier.wait(_MEET_SECONDS)
    return None if stage is None else run_load(_target.call, requests, stage, seed=seed).packed()
