"""The versions of models: where each one is in its life."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from nann.serving.server._servable import Servable
from nann.serving.server._status import StatusError

# Versions are int64 in TensorFlow Serving's protocol.
MIN_VERSION, MAX_VERSION = -(2**63), 2**63 - 1


class State(IntEnum):
    """The state of a version, with the numbers of `tensorflow.serving.ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """What the server tells about a version; `is_retrying` is that of a `Version`."""

    number: int
    state: State
    error: StatusError | None
    is_aspired: bool
    is_retrying: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it is available or given up."""
        return self.state in (State.AVAILABLE, State.END)


class Choice(IntEnum):
    """How a request chooses a version of a model."""

    NEWEST = 0
    VERSION = 1
    LABEL = 2


@dataclass(frozen=True)
class Route:
    """What a request asks for: a model, and a version or label where `choice` says so."""

    model: str
    choice: Choice = Choice.NEWEST
    version: int = 0
    label: str = ""


@dataclass(eq=False)
class Version:
    """One version of one model, from the moment it is aspired until it is unloaded.

    "Aspired" is TensorFlow Serving's word for: it should be served. The lock of the manager guards the
    fields that change. `dropped` is an event, so that the loader can wait for it without that lock.
    """

    model: str
    number: int
    path: Path
    state: State = State.START
    # Why it could not be loaded; set when the loader gave up.
    error: StatusError | None = None
    servable: Servable | None = None
    # The number of requests that use the servable now, and one for the front if it has the version.
    leases: int = 0
    # Whether it was given to the front, which has it until it is unloaded.
    is_shared: bool = False
    # The last load failed, and the loader waits before it tries again.
    is_retrying: bool = False
    # Set while the version is not aspired.
    dropped: threading.Event = field(default_factory=threading.Event)

    def __str__(self) -> str:
        return f"model {self.model} version {self.number}"

    @property
    def is_aspired(self) -> bool:
        return not self.dropped.is_set()

    @property
    def status(self) -> VersionStatus:
        return VersionStatus(self.number, self.state, self.error, self.is_aspired, self.is_retrying)
