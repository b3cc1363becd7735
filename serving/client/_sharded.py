"""The client of a corpus in shards: asks a server of each, and puts their answers together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nann.errors import InvalidInputError
from nann.serving.client import _errors, _merge, _query
from nann.serving.client._channel import open_channel
from nann.serving.client._connection import Connection, Deadline, Version, encode_inputs
from nann.serving.client._query import Ids, Query
from nann.serving.client._results import MissingShard, ModelMetadata, ShardedTopK
from nann.serving.client._shard_set import Answers, HedgeAfter, Request, Shard, ShardSet


class ShardedClient:
    """Asks the shards of a corpus, as `nann export --shards` writes them, over gRPC. Thread-safe.

    A request goes to all shards at once. Their answers are merged exactly: the higher score first, the
    smaller item id among equals. All parts of a result are of one version of the model.

    Args:
      shards: for each shard the address of its server, or the addresses of its replicas. A name that has
        several addresses, such as "dns:///shard-0:8500", stands for all of them in turn.
      model: the model's name on the servers, or a name for each shard.
      version: a version's number, a version's label, or None for the newest that all shards have; each call
        may override it.
      timeout: seconds a call may take; each call may override it.
      shard_timeout: seconds a shard may take, with all its replicas; None is all of `timeout`.
      allow_partial: True lets a result be without the shards that did not answer, which it names in
        `missing`. False makes the first failure of a shard that of the call. Each call may override it.
      hedge_after: seconds after which another replica of a slow shard is asked as well and the first
        answer counts; "p95" is the time in which 95 % of the shard's last 200 answers came; None is never.
      channel: makes the channel to an address (TLS, interceptors); `close` closes it. Without it the client
        opens channels with `credentials`, `retries` and `max_message_bytes`.
      credentials, compression, max_message_bytes: as for `NannClient`.
      retries: how often to try again, 0 to 4, while the only server of a shard cannot be reached. Of
        several replicas the next one is asked instead.
    """

    def __init__(
        self,
        shards: Sequence[str | Sequence[str]],
        *,
        model: str | Sequence[str] = "nann",
        version: Version = None,
        timeout: float = 10.0,
        shard_timeout: float | None = None,
        allow_partial: bool = False,
        hedge_after: HedgeAfter = None,
        channel: Callable[[str], grpc.Channel] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
        retries: int = 2,
        max_message_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        if channel is not None and credentials is not None:
            raise InvalidInputError("give `credentials` or a `channel` that has them, not both")
        if isinstance(hedge_after, str) and hedge_after != "p95":
            raise InvalidInputError(f'hedge_after: expected seconds, "p95" or None, got {hedge_after!r}')
        self._version = version
        self._timeout = timeout
        self._shard_timeout = shard_timeout
        self._allow_partial = allow_partial
        self._channels: list[grpc.Channel] = []
        self._lock = threading.Lock()
        self._known_metadata: dict[Version, ModelMetadata] = {}

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
            return Connection(opened, target=target, model=name, version=None, compression=compression)

        targets = _targets(shards)
        self._set = ShardSet(
            [
                Shard([connect(target, name, len(replicas) == 1) for target in replicas], hedge_after)
                for replicas, name in zip(targets, _names(model, len(targets)), strict=True)
            ]
        )

    def __enter__(self) -> ShardedClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; calls under way are cancelled."""
        for channel in self._channels:
            channel.close()

    def wait_ready(self, timeout: float) -> None:
        """Wait until a replica of each shard accepts connections, and check that it has the model.

        Raises:
          DeadlineExceededError: a shard has none within `timeout` seconds.
          ModelNotFoundError: a shard's servers are there, but have no version of the model available.
        """
        self._set.wait_available(Deadline(timeout))

    def top_k(
        self,
        comm_seq: ArrayLike | Mapping[str, ArrayLike],
        level_topn: ArrayLike,
        *,
        exclude_ids: Ids | None = None,
        timeout: float | None = None,
        version: Version = None,
        signature: str | None = None,
        allow_partial: bool | None = None,
    ) -> ShardedTopK:
        """Return the best items of each user over all shards, given the user's state.

        Args:
          level_topn: beams, as for `NannClient.top_k`, sent to every shard: for the work of one walk over
            the whole corpus divide all but the last, the number of results, by the number of shards.
          allow_partial: in place of the client's.

        Other arguments are those of `NannClient.top_k`.

        Raises:
          InvalidInputError: an argument has the wrong type or shape.
          VersionMismatchError: the shards have no version in common.
          NannClientError: a shard failed, or, with `allow_partial`, all did. RequestRejectedError and
            ResponseError are raised for any shard: they are no matter of availability.
        """
        deadline = self._deadline(timeout)
        query = _query.search_by_state(
            comm_seq,
            level_topn,
            exclude_ids=exclude_ids,
            signature=signature,
            width=self._width(version, deadline),
        )
        return self._search(query, version, deadline, allow_partial)

    def top_k_by_ids(
        self,
        item_ids: Ids | None = None,
        cate_ids: Ids | None = None,
        *,
        level_topn: ArrayLike,
        exclude_ids: Ids | None = None,
        timeout: float | None = None,
        version: Version = None,
        signature: str = "retrieve_by_ids",
        allow_partial: bool | None = None,
        **features: Ids,
    ) -> ShardedTopK:
        """Return the best items of each user over all shards, given the ids of what the user has done.

        The arguments are those of `NannClient.top_k_by_ids` and of `top_k`.
        """
        deadline = self._deadline(timeout)
        query = _query.search_by_ids(
            {"item_ids": item_ids, "cate_ids": cate_ids, **features},
            level_topn,
            exclude_ids=exclude_ids,
            signature=signature,
            width=self._width(version, deadline),
        )
        return self._search(query, version, deadline, allow_partial)

    def score(
        self,
        comm_seq: ArrayLike,
        item_ids: ArrayLike,
        *,
        timeout: float | None = None,
        version: Version = None,
        signature: str = "score",
    ) -> NDArray[np.float32]:
        """Return the model's scores of given items, float32 [B, n]; -inf for an id that no shard has.

        The arguments are those of `NannClient.score`. All shards must answer.
        """
        deadline = self._deadline(timeout)
        width = self._width(version, deadline)
        query = _query.score_of_items(comm_seq, item_ids, signature=signature, width=width)
        answers = self._ask(query, version, deadline, allow_partial=False)
        # Every shard but the item's own says -inf.
        best: NDArray[np.float32] = np.maximum.reduce(
            [
                _query.read_scores(query, outputs, self._set.shards[number].bad_answer)
                for number, (outputs, _) in answers.outputs.items()
            ]
        )
        return best

    def _search(
        self, query: Query, version: Version, deadline: Deadline, allow_partial: bool | None
    ) -> ShardedTopK:
        allow = self._allow_partial if allow_partial is None else allow_partial
        answers = self._ask(query, version, deadline, allow_partial=allow)
        parts = [
            _query.read_top_k(query, outputs, answered_by, self._set.shards[number].bad_answer)
            for number, (outputs, answered_by) in sorted(answers.outputs.items())
        ]
        ids, scores = _merge.merge_top_k(
            [part.ids for part in parts], [part.scores for part in parts], query.results
        )
        repeated = _merge.repeated_id(ids)
        if repeated is not None:
            raise _errors.ResponseError(
                f"expected shards with disjoint items, found item {repeated} in two of them; check that the "
                "targets are all shards of one `nann export --shards`, each shard once"
            )
        counts = [part.items_scored for part in parts if part.items_scored is not None]
        return ShardedTopK(
            ids=ids,
            scores=scores,
            items_scored=np.sum(counts, axis=0, dtype=np.int32) if len(counts) == len(parts) else None,
            model_version=parts[0].model_version,
            missing=tuple(MissingShard(*item) for item in sorted(answers.errors.items())),
        )

    def _ask(self, query: Query, version: Version, deadline: Deadline, *, allow_partial: bool) -> Answers:
        request = Request(
            signature=query.signature,
            inputs=encode_inputs(query.inputs),
            version=self._version if version is None else version,
            deadline=deadline,
            shard_timeout=self._shard_timeout,
            stop_at_failure=not allow_partial,
        )
        try:
            answers = self._set.predict(request)
        except _errors.RequestRejectedError:
            # The model may have been replaced by one of another shape; look again next time.
            with self._lock:
                self._known_metadata.clear()
            raise
        if answers.errors and not (allow_partial and answers.outputs):
            number, error = min(answers.errors.items())
            raise _errors.of_shard(error, number, len(self._set.shards)) from error
        return answers

    def _width(self, version: Version, deadline: Deadline) -> _query.Width:
        chosen = self._version if version is None else version

        def width(signature: str, name: str) -> int | None:
            with self._lock:
                known = self._known_metadata.get(chosen)
            if known is None:
                known = self._set.metadata(chosen, deadline)
                with self._lock:
                    self._known_metadata[chosen] = known
            return known.row_width(signature, name)

        return width

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._timeout if timeout is None else timeout)


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
