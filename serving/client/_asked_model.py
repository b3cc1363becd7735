"""What the clients know of the model that they ask, from one call to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nann.serving.client._connection import Deadline, Version
from nann.serving.client._errors import RequestRejectedError
from nann.serving.client._results import ModelMetadata


class AskedModel:
    """Base of all clients: the version and the time limit of calls, and the signatures that were fetched.

    Threads may overwrite each other's signatures: all of them are valid.
    """

    def __init__(self, *, version: Version, timeout: float | None) -> None:
        self._version = version
        self._timeout = timeout
        self._known_metadata: dict[Version, ModelMetadata] = {}

    def _options(self, version: Version, timeout: float | None) -> tuple[Version, Deadline]:
        """Return the version to ask for and the deadline of a call."""
        deadline = Deadline(self._timeout if timeout is None else timeout)
        return self._version if version is None else version, deadline

    @contextmanager
    def _noticing_rejections(self) -> Iterator[None]:
        """Forget the signatures after a rejection: another model may have come with other shapes."""
        try:
            yield
        except RequestRejectedError:
            self._known_metadata.clear()
            raise
