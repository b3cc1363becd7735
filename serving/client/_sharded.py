"""The client of a corpus in shards: asks a server of each, and merges their answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import grpc
import numpy as np

from nann.errors import InvalidInputError
from nann.serving.client import _errors
from nann.serving.client._answer import Answer
from nann.serving.client._channel import MAX_MESSAGE_BYTES, check_credentials, open_channel
from nann.serving.client._connection import Connection, Deadline, Version
from nann.serving.client._encoding import encode_inputs
from nann.serving.client._merge import merge_passing, merge_top_k, repeated_id
from nann.serving.client._query import Query
from nann.serving.client._results import MissingShard, ModelMetadata, ShardedTopK
from nann.serving.client._rows import checked_rows
from nann.serving.client._search_client import SearchClient
from nann.serving.client._shard_set import HedgeAfter, Request, Shard, ShardSet


class ShardedClient(SearchClient[ShardedTopK]):
    """Asks the shards of a corpus, as `nann export --shards` writes them, over gRPC. Thread-safe.

    A request goes to all shards at once. Their answers are merged exactly: higher scores first, the smaller
    item id first among equal scores. All parts of a result are of one version of the model.

    Args:
      shards: for each shard the address of its server, or the addresses of its replicas. A name with several
        addresses, such as "dns:///shard-0:8500", means all of them in turn.
      model: name of the model on the servers, or one name per shard.
      version: number of a version, label of a version, or None for the newest that all shards have. Each call
        may override it.
      timeout: seconds that a call may take, None for no limit. Each call may override it.
      shard_timeout: seconds that a shard may take, with all its replicas; None means all of `timeout`.
      allow_partial: with True a result may lack the shards that did not answer; `missing` names them. With
        False the first shard that fails makes the call fail. Each call may override it.
      hedge_after: seconds after which another replica of a slow shard is asked as well; the first answer
        counts. "p95" is the time within which 95 % of the shard's last 200 answers came. None means never.
      channel: returns the channel to an address, for TLS or interceptors; `close` closes it. Without it the
        client opens channels with `credentials`, `retries` and `max_message_bytes`.
      credentials, compression, max_message_bytes: as for `NannClient`.
      retries: how often a call is sent again, 0 to 4, while the only server of a shard cannot be reached. For
        a shard with several replicas the next one is asked instead.

    Raises:
      InvalidInputError: an argument is malformed or out of range.

    Example:
      >>> with ShardedClient(shards, model="nann", allow_partial=True, shard_timeout=5) as client:
      ...     client.wait_ready(timeout=60)
      ...     result = client.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10])
      >>> result.ids.shape, result.is_partial
      ((1, 10), False)
    """

    def __init__(
        self,
        shards: Sequence[str | Sequence[str]],
        *,
        model: str | Sequence[str] = "nann",
        version: Version = None,
        timeout: float | None = 10.0,
        shard_timeout: float | None = None,
        allow_partial: bool = False,
        hedge_after: HedgeAfter = None,
        channel: Callable[[str], grpc.Channel] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
        retries: int = 2,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        super().__init__(version=version, timeout=timeout)
        check_credentials(channel, credentials)
        if isinstance(hedge_after, str) and hedge_after != "p95":
            raise InvalidInputError(f'hedge_after: expected seconds, "p95" or None, got {hedge_after!r}')
        self._shard_timeout = shard_timeout
        self._allow_partial = allow_partial
        self._channels: list[grpc.Channel] = []

        def connect(target: str, name: str, is_only: bool) -> Connection:
            opened = (
                channel(target)
                if channel is not None
                else open_channel(
                    target,
                    credentials=credentials,
                    retries=retries if is_only else 0,
                    max_message_bytes=max_message_bytes,
                    round_robin=True,
                )
            )
            self._channels.append(opened)
            return Connection(opened, target=target, model=name, compression=compression)

        targets = _targets(shards)
        self._set = ShardSet(
            [
                Shard([connect(target, name, len(replicas) == 1) for target in replicas], hedge_after)
                for replicas, name in zip(targets, _names(model, len(targets)), strict=True)
            ]
        )

    def close(self) -> None:
        """Close the connections. Calls that are under way are cancelled.

        Example:
          >>> client = ShardedClient(shards)
          >>> client.close()
        """
        for channel in self._channels:
            channel.close()

    def wait_ready(self, timeout: float | None) -> None:
        """Wait until a replica of each shard accepts connections and has a version of the model available.

        Args:
          timeout: seconds.

        Raises:
          DeadlineExceededError: no replica of a shard answered in time.
          ModelNotFoundError: the servers of a shard answered, but have no version of the model available.

        Example:
          >>> client.wait_ready(timeout=60)
        """
        self._set.wait_available(Deadline(timeout))

    def _ask(
        self, query: Query, version: Version, deadline: Deadline, *, allow_partial: bool | None
    ) -> tuple[list[Answer], tuple[MissingShard, ...]]:
        may_lack = self._allow_partial if allow_partial is None else allow_partial
        found = self._set.predict(
            Request(
                signature=query.signature,
                inputs=encode_inputs(query.inputs),
                version=version,
                deadline=deadline,
                shard_timeout=self._shard_timeout,
                stop_at_failure=not may_lack,
            )
        )
        errors = sorted(found.errors.items())
        if errors and not (may_lack and found.answers):
            number, error = errors[0]
            raise _errors.of_shard(error, number, len(self._set.shards)) from error
        answers = [answer for _, answer in sorted(found.answers.items())]
        return answers, tuple(MissingShard(number, error) for number, error in errors)

    def _combine(self, query: Query, answers: list[Answer], missing: tuple[MissingShard, ...]) -> ShardedTopK:
        parts = [answer.top_k(query) for answer in answers]
        ids, scores = merge_top_k(
            [part.ids for part in parts], [part.scores for part in parts], query.results
        )
        repeated = repeated_id(ids)
        if repeated is not None:
            raise _errors.ResponseError(
                f"expected shards with disjoint items, found item {repeated} in two of them; check that the "
                "targets are all shards of one `nann export --shards`, each shard once"
            )
        passing = [part.passing for part in parts if part.passing is not None]
        exact = [part.exact for part in parts if part.exact is not None]
        counts = [part.items_scored for part in parts if part.items_scored is not None]
        result = ShardedTopK(
            ids=ids,
            scores=scores,
            items_scored=np.sum(counts, axis=0, dtype=np.int32) if len(counts) == len(parts) else None,
            model_version=parts[0].model_version,
            passing=merge_passing(passing) if len(passing) == len(parts) else None,
            exact=np.logical_and.reduce(exact) if len(exact) == len(parts) else None,
            missing=missing,
        )
        return checked_rows(query, answers, result)

    def _fetch_metadata(self, version: Version, deadline: Deadline) -> ModelMetadata:
        return self._set.metadata(version, deadline)


def _targets(shards: Sequence[str | Sequence[str]]) -> list[list[str]]:
    expected = "shards: expected a list with the address, or the addresses, of each shard"
    if isinstance(shards, str):
        raise InvalidInputError(f"{expected}, got one string; write [{shards!r}]")
    targets = [[shard] if isinstance(shard, str) else list(shard) for shard in shards]
    if not targets or not all(targets):
        raise InvalidInputError(f"{expected}, got {targets}")
    return targets


def _names(model: str | Sequence[str], shards: int) -> list[str]:
    names = [model] * shards if isinstance(model, str) else list(model)
    if len(names) != shards:
        raise InvalidInputError(f"model: expected one name, or one for each of {shards} shards, got {names}")
    return names
