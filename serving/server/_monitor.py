"""The monitor: what is known about every version, for those who ask and those who wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from nann.serving.server._status import Code, StatusError, not_found
from nann.serving.server._versions import State, Version, VersionStatus


class StateMonitor:
    """Remembers the last published status of every version that the server ever knew.

    Safe to use from any thread. Its lock is a leaf: no other lock is taken while it is held, except by the
    conditions that callers of `wait_until` bring along.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._statuses: dict[str, dict[int, VersionStatus]] = {}

    def publish(self, version: Version) -> None:
        """Take over the status of a version and wake all who wait."""
        with self._changed:
            self._statuses.setdefault(version.model, {})[version.number] = version.status
            self._changed.notify_all()

    def wake(self) -> None:
        """Make `wait_until` test its condition again."""
        with self._changed:
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until `condition` holds, which is tested after each `publish` and `wake`.

        Returns whether it holds, False after `timeout` seconds.
        """
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def statuses(self, model: str, *, version: int | None = None) -> list[VersionStatus]:
        """Return the versions of a model, the newest first, or only the given one.

        Raises:
          StatusError: NOT_FOUND.
        """
        with self._changed:
            known = sorted(self._statuses.get(model, {}).items(), reverse=True)
        chosen = [status for number, status in known if version is None or number == version]
        if not chosen:
            what = "any versions" if version is None else f"version {version}"
            raise not_found(f"Could not find {what} of model {model}")
        return chosen

    def available(self, model: str) -> set[int]:
        """Return the numbers of the versions that are available."""
        with self._changed:
            known = self._statuses.get(model, {}).values()
            return {status.number for status in known if status.state is State.AVAILABLE}

    def is_settled(self, model: str) -> bool:
        """Return whether the model has aspired versions, each of which is available or given up."""
        with self._changed:
            aspired = [status for status in self._statuses.get(model, {}).values() if status.is_aspired]
        return bool(aspired) and all(status.state in (State.AVAILABLE, State.END) for status in aspired)

    def has_ended(self) -> bool:
        """Return whether no version of any model is loaded or will be."""
        with self._changed:
            models = self._statuses.values()
            return all(status.state is State.END for model in models for status in model.values())

    def check_loaded(self, models: Iterable[str], *, what: str = "servable(s)") -> None:
        """Report the aspired versions of these models that could not be loaded; the text counts `what`.

        Raises:
          StatusError: UNKNOWN, with the error of each.
        """
        with self._changed:
            failed = [
                f"{{{{name: {model} version: {number}}} due to error: {status.error}}}, "
                for model in models
                for number, status in self._statuses.get(model, {}).items()
                if status.error is not None and status.is_aspired
            ]
        if failed:
            raise StatusError(
                Code.UNKNOWN, f"{len(failed)} {what} did not become available: {{{''.join(failed)}}}"
            )
