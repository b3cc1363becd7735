"""The loader: loads versions, each in a thread of its own, and tries again when a load fails."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from nann.serving.server._servable import Servable
from nann.serving.server._status import Code, StatusError, as_status
from nann.serving.server._versions import Version

_log = logging.getLogger("nann.serving")

Load = Callable[[str, int, Path], Servable]
# Called with a version, what came of a try to load it, and whether no further try follows.
OnOutcome = Callable[[Version, "Servable | StatusError", bool], None]


class Loader:
    """Loads versions. Any exception in a load is a failure of that version, and of nothing else.

    Every version has its own thread until it is loaded or given up, so that a slow load or a wait between
    two tries delays no other version. `load` and `on_outcome` are called from that thread, without a lock.
    """

    def __init__(
        self, load: Load, on_outcome: OnOutcome, *, max_retries: int, retry_seconds: float, threads: int = 0
    ) -> None:
        """`threads` limits how many versions are loaded at once, without those that wait for a retry."""
        self._load = load
        self._on_outcome = on_outcome
        self._max_retries = max_retries
        self._may_load = threading.BoundedSemaphore(threads) if threads else nullcontext()
        self._retry_seconds = min(retry_seconds, threading.TIMEOUT_MAX)

    def start(self, version: Version) -> bool:
        """Begin to load a version; False if the system has no thread for it."""
        name = f"nann-load-{version.model}-{version.number}"
        try:
            threading.Thread(target=self._run, args=(version,), name=name, daemon=True).start()
        except RuntimeError as error:
            _log.error("%s: cannot be loaded (the next look for versions tries again): %s", version, error)
            return False
        return True

    def _run(self, version: Version) -> None:
        outcome = self._try_to_load(version)
        for _ in range(self._max_retries):
            if not isinstance(outcome, StatusError) or version.dropped.is_set():
                break
            _log.error("%s: cannot be loaded (retry in %g s): %s", version, self._retry_seconds, outcome)
            self._on_outcome(version, outcome, False)
            # One last try of a folder that went away makes the error say so.
            if version.dropped.wait(self._retry_seconds) and os.path.lexists(version.path):
                break
            outcome = self._try_to_load(version)
        if isinstance(outcome, StatusError):
            _log.error("%s: cannot be loaded (given up): %s", version, outcome)
        self._on_outcome(version, outcome, True)

    def _try_to_load(self, version: Version) -> Servable | StatusError:
        started = time.monotonic()
        try:
            _check_folder(version)
            with self._may_load:
                servable = self._load(version.model, version.number, version.path)
        # All kinds: this is the only place where a thread of a version can fail.
        except BaseException as error:
            status = as_status(error)
            if status.code is Code.UNKNOWN and status is not error:
                _log.exception("%s: unexpected error", version)
            return status
        _log.info("%s: loaded in %.1f s", version, time.monotonic() - started)
        return servable


def _check_folder(version: Version) -> None:
    """Report a folder that cannot be listed, as TensorFlow Serving does when it estimates its size."""
    try:
        with os.scandir(version.path):
            pass
    except FileNotFoundError:
        pass  # The load itself has a better text for this.
    except OSError as error:
        status = as_status(error)
        raise StatusError(
            status.code,
            "Error while attempting to reserve resources to load servable "
            f"{{name: {version.model} version: {version.number}}}: {status.message}",
        ) from error
