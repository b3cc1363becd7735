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
        """Return whether the model has aspired versions, each of which is available or given up.

        While one is available, those that wait for their next try are not waited for.
        """
        with self._changed:
            aspired = [status for status in self._statuses.get(model, {}).values() if status.is_aspired]
        serves = any(status.state is State.AVAILABLE for status in aspired)
        return bool(aspired) and all(s.is_settled or (serves and s.is_retrying) for s in aspired)

    def has_ended(self) -> bool:
        """Return whether no version of any model is loaded or will be."""
        with self._changed:
            models = self._statuses.values()
            return all(status.state is State.END for model in models for status in model.values())

    def check_loaded(self, models: Iterable[str]) -> None:
        """Report the aspired versions of these models that could not be loaded.

        Raises:
          StatusError: UNKNOWN, with the error of each.
        """
        self._check((model, self._settled(model)) for model in models)

    def check_newest_loaded(self, models: Iterable[str]) -> None:
        """Report the models whose newest aspired version that has settled could not be loaded.

        That is what TensorFlow Serving asks of a reload, which loads the newest version first.

        Raises:
          StatusError: UNKNOWN, with the error of each.
        """
        self._check(((model, self._settled(model)[:1]) for model in models), what="model(s)")

    def _settled(self, model: str) -> list[VersionStatus]:
        """Return the aspired versions that are available or given up, the newest first."""
        with self._changed:
            known = sorted(self._statuses.get(model, {}).items(), reverse=True)
        return [status for _, status in known if status.is_aspired and status.is_settled]

    def _check(
        self, settled: Iterable[tuple[str, list[VersionStatus]]], *, what: str = "servable(s)"
    ) -> None:
        failed = [
            f"{{{{name: {model} version: {status.number}}} due to error: {status.error}}}, "
            for model, statuses in settled
            for status in statuses
            if status.error is not None
        ]
        if failed:
            raise StatusError(
                Code.UNKNOWN, f"{len(failed)} {what} did not become available: {{{''.join(failed)}}}"
            )
