"""The source of versions: looks at the base paths and says which versions should be served."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from nann.serving.server._config import ModelConfig, Specific
from nann.serving.server._status import as_status
from nann.serving.server._versions import MAX_VERSION, MIN_VERSION

_log = logging.getLogger("nann.serving")

_NUMBER = re.compile(r"[ \t-\r]*[+-]?[0-9]+[ \t-\r]*")
# What a model waits for is logged again after this time: often enough for somebody who has just begun to
# read the log, seldom enough not to fill it.
_REPEAT_SECONDS = 60.0
# A message lists no more versions than a line can show.
_MAX_LISTED = 10

Aspire = Callable[[str, Mapping[int, Path]], None]


class FileSystemSource:
    """Looks for the versions of models in their base paths, from a thread of its own.

    After each look, `aspire` gets the model's name and the versions that its policy chooses. A base path
    that cannot be read changes nothing. `aspire` may be called from the source's thread and from any thread
    that calls `set_models`, but never from two threads at once.
    """

    def __init__(self, aspire: Aspire, *, poll_seconds: float) -> None:
        """Look every `poll_seconds`; with 0, only at `start` and after each `set_models`."""
        self._aspire = aspire
        self._poll_seconds = min(poll_seconds or threading.TIMEOUT_MAX, threading.TIMEOUT_MAX)
        # Guards `_models` and is held while `aspire` runs, so that a look that began before a model was
        # removed cannot bring it back.
        self._lock = threading.Lock()
        self._models: dict[str, ModelConfig] = {}
        self._look_now = threading.Event()
        self._is_stopped = False
        # Only the source's thread uses this: what was last logged about a model, and when.
        self._logged: dict[str, tuple[str, float]] = {}
        self._thread = threading.Thread(target=self._run, name="nann-version-source", daemon=True)

    def set_models(self, models: Iterable[ModelConfig]) -> None:
        """Replace the models that are looked for. Those left out have no aspired versions any more."""
        with self._lock:
            removed = list(self._models)
            self._models = {model.name: model for model in models}
            for name in removed:
                if name not in self._models:
                    self._aspire(name, {})
        self._look_now.set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Returns when the look under way, if any, is finished."""
        self._is_stopped = True
        self._look_now.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_stopped:
            for model in list(self._models.values()):
                try:
                    self._look(model)
                except Exception:
                    _log.exception("model %s: the look for versions failed", model.name)
            self._look_now.wait(self._poll_seconds)
            self._look_now.clear()

    def _look(self, model: ModelConfig) -> None:
        try:
            found = find_versions(model.base_path)
            chosen = model.policy.choose(list(found))
            problem = _problem(model, found, chosen)
        except OSError as error:
            self._log_problem(model.name, f"base path {model.base_path} cannot be read: {as_status(error)}")
            return
        self._log_problem(model.name, problem)
        with self._lock:
            if self._models.get(model.name) is model:
                self._aspire(model.name, {number: found[number] for number in chosen})

    def _log_problem(self, name: str, problem: str) -> None:
        last, logged_at = self._logged.get(name, ("", 0.0))
        now = time.monotonic()
        if problem != last or now - logged_at >= _REPEAT_SECONDS:
            self._logged[name] = (problem, now)
            if problem:
                _log.warning("model %s: %s", name, problem)


def find_versions(base_path: Path) -> dict[int, Path]:
    """Return the versions in a base path: entries whose whole name is a number.

    "00041" is version 41. "-3" is version -3, as in TensorFlow Serving.

    Raises:
      OSError: the folder is missing or cannot be read.
    """
    found: dict[int, Path] = {}
    for path in sorted(base_path.iterdir()):
        if _NUMBER.fullmatch(path.name) and MIN_VERSION <= (number := int(path.name)) <= MAX_VERSION:
            found[number] = path
    return found


def _problem(model: ModelConfig, found: Mapping[int, Path], chosen: Collection[int]) -> str:
    """Return why versions that should be served are not there; empty if none is missing."""
    policy = model.policy
    missing = set(policy.versions).difference(found) if isinstance(policy, Specific) else ()
    if missing:
        what = f"waiting for version {_listed(missing)}, which the version policy asks for"
    elif not found:
        what = "waiting for a version"
    elif not chosen:
        what = "the version policy asks for no version"
    else:
        return ""
    if found:
        return f"{what}: base path {model.base_path} has version {_listed(found)}"
    hint = ""
    if (model.base_path / "saved_model.pb").is_file():
        hint = f"; that folder is itself a version, its base path is {model.base_path.parent}"
    return (
        f"{what}: no versions under base path {model.base_path}{hint}; "
        "versions are folders whose names are numbers"
    )


def _listed(numbers: Collection[int]) -> str:
    shown = ", ".join(map(str, sorted(numbers, reverse=True)[:_MAX_LISTED]))
    more = len(numbers) - _MAX_LISTED
    return f"{shown} and {more} more" if more > 0 else shown
