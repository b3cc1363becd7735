"""The servers of all shards, asked in such a way that all answers are of one version of the model."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from nann.serving.client import _errors
from nann.serving.client._answer import Answer
from nann.serving.client._connection import Connection, Deadline, PendingCall, Version
from nann.serving.client._fan_out import Group, Latencies, fan_out
from nann.serving.client._results import ModelMetadata

T = TypeVar("T")
HedgeAfter = float | Literal["p95"] | None

# How long the version that all shards have is asked for, after they answered with different ones. It spares
# most requests a second round while a version is published, and the newest version is still used soon after.
_PIN_SECONDS = 5.0
# Metadata costs a server little, so the next server is asked soon.
_METADATA_HEDGE_SECONDS = 0.1


@dataclass(frozen=True)
class Request:
    """A request to all shards.

    inputs:          from `encode_inputs`.
    shard_timeout:   seconds that a shard has in each round, within the deadline; None means all of it.
    stop_at_failure: whether the first failure of a shard ends the request.
    """

    signature: str
    inputs: bytes
    version: Version
    deadline: Deadline
    shard_timeout: float | None
    stop_at_failure: bool


@dataclass(frozen=True)
class Answers:
    """The answer or the error of each shard, by its number. After a failure a shard may have neither."""

    answers: dict[int, Answer]
    errors: dict[int, _errors.NannClientError]

    def lacks_the_version(self) -> bool:
        return any(error.code == "NOT_FOUND" for error in self.errors.values())


class Shard:
    """The replicas of one shard."""

    def __init__(self, replicas: Sequence[Connection], hedge_after: HedgeAfter) -> None:
        self.replicas = replicas
        self._hedge_after = hedge_after
        self._latencies = Latencies()
        self._turns = itertools.count()

    def group(self, start: Callable[[Connection], PendingCall[T]]) -> Group[T]:
        """Return a call to one replica, a different one each time, and to others as `Group` says."""
        first = next(self._turns) % len(self.replicas)
        order = [*self.replicas[first:], *self.replicas[:first]]
        after = self._latencies.p95() if self._hedge_after == "p95" else self._hedge_after
        return Group(order, start, hedge_after=after, latencies=self._latencies)


class ShardSet:
    """All shards of a corpus. Thread-safe."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards
        # Version that the caller asks for -> version that all shards have, and until when to ask for it.
        # Threads may overwrite each other's entries: each one is valid.
        self._pins: dict[Version, tuple[int, float]] = {}

    def predict(self, request: Request) -> Answers:
        """Ask all shards. All answers are of one version.

        Raises:
          RequestRejectedError, ResponseError: a shard refused the request, or its answer is malformed.
          VersionMismatchError: the shards have no version in common.
        """
        everyone = range(len(self.shards))
        pin, until = self._pins.get(request.version, (None, 0.0))
        is_pinned = pin is not None and time.monotonic() < until
        answers = self._round(everyone, request, pin if is_pinned else request.version)
        if is_pinned and answers.lacks_the_version():
            answers = self._round(everyone, request, request.version)
        if len({answer.version for answer in answers.answers.values()}) > 1:
            return self._agree(request, answers)
        return answers

    def metadata(self, version: Version, deadline: Deadline) -> ModelMetadata:
        """Return the signatures of the model from the first server that answers."""
        connections = [connection for shard in self.shards for connection in shard.replicas]
        group = Group(
            connections,
            lambda connection: connection.metadata(version).start(deadline),
            hedge_after=_METADATA_HEDGE_SECONDS,
            hedges=len(connections),
        )
        fan_out([group], stop_at_failure=True)
        if group.answer is None:
            assert group.error is not None
            raise group.error
        return group.answer

    def wait_available(self, deadline: Deadline) -> None:
        """Wait until a replica of each shard has the model."""
        groups = [
            Group(
                shard.replicas,
                lambda connection: connection.start_wait_available(deadline),
                hedge_after=0.0,
                hedges=len(shard.replicas),
            )
            for shard in self.shards
        ]
        fan_out(groups, stop_at_failure=True)
        for number, group in enumerate(groups):
            if group.error is not None:
                raise _errors.of_shard(group.error, number, len(groups)) from group.error

    def _round(self, numbers: Sequence[int], request: Request, version: Version) -> Answers:
        """Ask the shards with these numbers once."""
        deadline = request.deadline.within(request.shard_timeout)

        def start(connection: Connection) -> PendingCall[Answer]:
            return connection.predict(request.signature, request.inputs, version).start(deadline)

        groups = {number: self.shards[number].group(start) for number in numbers}
        fan_out(list(groups.values()), stop_at_failure=request.stop_at_failure)
        for number, group in groups.items():
            if isinstance(group.error, _errors.RequestRejectedError | _errors.ResponseError):
                raise _errors.of_shard(group.error, number, len(self.shards)) from group.error
        return Answers(
            answers={n: group.answer for n, group in groups.items() if group.answer is not None},
            errors={n: group.error for n, group in groups.items() if group.error is not None},
        )

    def _agree(self, request: Request, answers: Answers) -> Answers:
        """Ask the shards that answered with another version again, for one that all have.

        A server answers with its newest version, or with its label's. So a version that all have is at most
        the oldest of the answers; only with replicas of different versions it may be newer.
        """
        by_version: dict[int | None, list[int]] = {}
        for number, answer in sorted(answers.answers.items()):
            by_version.setdefault(answer.version, []).append(number)
        for version in sorted(version for version in by_version if version is not None):
            others = [number for number in answers.answers if number not in by_version[version]]
            again = self._round(others, request, version)
            if again.lacks_the_version():
                continue
            self._pins[request.version] = (version, time.monotonic() + _PIN_SECONDS)
            kept = {number: answers.answers[number] for number in by_version[version]}
            return Answers({**kept, **again.answers}, {**answers.errors, **again.errors})
        found = "; ".join(
            f"version {version} from shards {numbers}" for version, numbers in by_version.items()
        )
        raise _errors.VersionMismatchError(
            f"expected answers of one version, found {found}, and no version that all of them have. Let the "
            "servers keep the previous version, too, while a new one is published (version policy `latest` "
            "with 2 versions), or pass `version`.",
        )
