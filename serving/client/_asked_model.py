"""What the clients know of the model that they ask, from one call to the next."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np

from nann.errors import InvalidInputError
from nann.serving.client._connection import Deadline, Version
from nann.serving.client._errors import RequestRejectedError
from nann.serving.client._fit import fitting
from nann.serving.client._query import Query, SpecOf
from nann.serving.client._results import ModelMetadata, TensorSpec


class AskedModel:
    """Base of all clients: the version and the time limit of calls, and the signatures that were fetched.

    Threads may overwrite each other's signatures: all of them are valid.
    """

    def __init__(self, *, version: Version, timeout: float | None) -> None:
        self._version = version
        self._timeout = timeout
        self._known_metadata: dict[Version, ModelMetadata] = {}
        self._forgetting_when_rejected = _ForgettingWhenRejected(self._known_metadata)

    def _options(self, version: Version, timeout: float | None) -> tuple[Version, Deadline]:
        """Return the version to ask for and the deadline of a call."""
        deadline = Deadline(self._timeout if timeout is None else timeout)
        version = self._version if version is None else version
        _check_version(version)
        return version, deadline

    def _built_as_known(self, build: Callable[[SpecOf], Query], version: Version) -> Query | None:
        """Return the query that `build` makes by what is known; None if the signatures must be fetched.

        Where known signatures refuse the inputs they are forgotten: another model may have come with other
        shapes. What no signatures would allow is refused at once.
        """
        known = self._known_metadata.get(version)
        if known is not None:
            try:
                return fitting(build, known)
            except InvalidInputError:
                self._known_metadata.pop(version, None)
        try:
            query = build(_needed)
        except _SignaturesNeededError:
            return None
        return query if known is None else None


class _SignaturesNeededError(Exception):
    """A query cannot be built before the signatures of the model are fetched."""


def _needed(signature: str, name: str) -> TensorSpec | None:
    raise _SignaturesNeededError


def _check_version(version: Any) -> None:
    """Raise InvalidInputError unless it is a number of the protocol, a label, or None for the newest."""
    if version is None or isinstance(version, str):
        return
    is_number = isinstance(version, (int, np.integer)) and not isinstance(version, bool)
    if not is_number or not 0 <= version < 2**63:
        raise InvalidInputError(
            f"version: expected a number from 0 to 2^63 - 1, a label, or None for the newest, got {version!r}"
        )


class _ForgettingWhenRejected:
    """Within, a rejection makes the signatures forgotten: another model may have come with other shapes."""

    def __init__(self, known: dict[Version, ModelMetadata]) -> None:
        self._known = known

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, RequestRejectedError):
            self._known.clear()
