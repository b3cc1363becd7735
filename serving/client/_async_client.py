"""The client for programs that use asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nann.serving.client import _query
from nann.serving.client._answer import Answer
from nann.serving.client._asked_model import AskedModel
from nann.serving.client._channel import MAX_MESSAGE_BYTES
from nann.serving.client._connection import Deadline, OnCall, Version, connect
from nann.serving.client._encoding import encode_inputs
from nann.serving.client._errors import DeadlineExceededError
from nann.serving.client._fit import fitting
from nann.serving.client._freshness import RETRY_SECONDS, Freshness, signature_for
from nann.serving.client._inputs import as_array
from nann.serving.client._query import Features, Ids, Query, SpecOf, State, Where
from nann.serving.client._results import ModelMetadata, TopK, VersionStatus
from nann.serving.client._rows import checked_rows


class AsyncNannClient(AskedModel):
    """Asks one model on one server from an asyncio program. The methods are those of `NannClient`.

    Make it, use it and close it in one event loop. A task that is cancelled cancels its call.

    Args:
      channel: a channel of `grpc.aio` of your own; `close` leaves it open.
      round_robin: send requests to all addresses of a name in turn, such as of "dns:///nann:8500".

    The other arguments and the errors are those of `NannClient`.

    Example:
      >>> async def with_client(ask):
      ...     async with AsyncNannClient(target, model="nann") as client:
      ...         await client.wait_ready(timeout=60)
      ...         return await ask(client)
      >>> def search(client):
      ...     return client.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10])
      >>> asyncio.run(with_client(search)).ids.shape
      (1, 10)
    """

    def __init__(
        self,
        target: str,
        *,
        model: str = "nann",
        version: Version = None,
        timeout: float | None = 10.0,
        channel: grpc.aio.Channel | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
        retries: int = 2,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        round_robin: bool = False,
        keepalive_seconds: float | None = None,
        on_call: OnCall | None = None,
    ) -> None:
        super().__init__(version=version, timeout=timeout)
        self._connection, self._own_channel = connect(
            target,
            model=model,
            channel=channel,
            credentials=credentials,
            compression=compression,
            retries=retries,
            max_message_bytes=max_message_bytes,
            round_robin=round_robin,
            keepalive_seconds=keepalive_seconds,
            on_call=on_call,
            api=grpc.aio,
        )

    async def __aenter__(self) -> AsyncNannClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Calls that are under way are cancelled; a `channel` of your own stays open.

        Example:
          >>> async def open_and_close():
          ...     await AsyncNannClient(target).close()
          >>> asyncio.run(open_and_close())
        """
        if self._own_channel is not None:
            await self._own_channel.close()

    async def wait_ready(self, timeout: float | None) -> None:
        """Wait until the server accepts connections, and check that a version of the model is available.

        Raises:
          DeadlineExceededError: the server did not answer in time.
          ModelNotFoundError: the server answered, but no version of the model is available.

        Example:
          >>> asyncio.run(with_client(lambda client: client.wait_ready(timeout=60)))
        """
        try:
            versions = await self._connection.status(None).result_async(
                Deadline(timeout), wait_for_ready=True
            )
        except DeadlineExceededError as error:
            raise self._connection.no_answer() from error
        self._connection.check_available(versions)

    async def top_k(
        self,
        comm_seq: State,
        level_topn: ArrayLike,
        *,
        exclude_ids: Ids | None = None,
        where: Where | None = None,
        min_segment: int | None = None,
        timeout: float | None = None,
        version: Version = None,
        signature: str | None = None,
    ) -> TopK:
        """Return the best items of each user, given the user's state, as `NannClient.top_k` does.

        Example:
          >>> def search(client):
          ...     return client.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10], exclude_ids=[24])
          >>> asyncio.run(with_client(search)).ids.shape
          (1, 10)
        """

        def build(spec_of: SpecOf) -> Query:
            return _query.search_by_state(
                comm_seq,
                level_topn,
                exclude_ids=exclude_ids,
                where=where,
                signature=signature_for(signature, min_segment, where),
                spec_of=spec_of,
            )

        query, answer = await self._asked(build, version, timeout, min_segment)
        return checked_rows(query, [answer], answer.top_k(query))

    async def top_k_by_ids(
        self,
        /,
        item_ids: Ids | Mapping[str, Features] | None = None,
        cate_ids: Ids | None = None,
        *,
        level_topn: ArrayLike,
        exclude_ids: Ids | None = None,
        where: Where | None = None,
        min_segment: int | None = None,
        timeout: float | None = None,
        version: Version = None,
        signature: str | None = None,
        **features: Features,
    ) -> TopK:
        """Return the best items of each user, given the user's features, as `NannClient.top_k_by_ids` does.

        Example:
          >>> def search(client):
          ...     return client.top_k_by_ids([3, 1], [100, 101], level_topn=[20, 30, 30, 30, 30, 10])
          >>> asyncio.run(with_client(search)).ids.shape
          (1, 10)
        """

        def build(spec_of: SpecOf) -> Query:
            return _query.search_by_ids(
                _query.named_features(item_ids, cate_ids, features),
                level_topn,
                exclude_ids=exclude_ids,
                where=where,
                signature=signature,
                spec_of=spec_of,
            )

        query, answer = await self._asked(build, version, timeout, min_segment)
        return checked_rows(query, [answer], answer.top_k(query))

    async def score(
        self,
        comm_seq: State,
        item_ids: ArrayLike,
        *,
        min_segment: int | None = None,
        timeout: float | None = None,
        version: Version = None,
        signature: str = "score",
    ) -> NDArray[np.float32]:
        """Return the model's scores of given items, float32 [B, n], as `NannClient.score` does.

        Example:
          >>> asyncio.run(with_client(lambda client: client.score(comm_seq, [3, 10, 999_999]))).shape
          (1, 3)
        """

        def build(spec_of: SpecOf) -> Query:
            return _query.score_of_items(comm_seq, item_ids, signature=signature, spec_of=spec_of)

        query, answer = await self._asked(build, version, timeout, min_segment)
        return answer.scores(query)

    async def predict(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        signature: str = _query.DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
        version: Version = None,
    ) -> dict[str, NDArray[Any]]:
        """Call any signature of any model, as `NannClient.predict` does.

        Example:
          >>> inputs = {"comm_seq": comm_seq.reshape(1, -1), "level_topn": np.int32([20, 30, 30, 30, 30, 10])}
          >>> sorted(asyncio.run(with_client(lambda client: client.predict(inputs))))
          ['scores', 'top_k']
        """
        version, deadline = self._options(version, timeout)
        arrays = {name: as_array(value, name=name) for name, value in inputs.items()}
        with self._forgetting_when_rejected:
            call = self._connection.predict(signature, encode_inputs(arrays, outputs), version)
            return (await call.result_async(deadline)).outputs

    async def metadata(self, *, version: Version = None, timeout: float | None = None) -> ModelMetadata:
        """Return the signatures of the model, with the types and shapes of their inputs and outputs.

        Example:
          >>> asyncio.run(with_client(lambda client: client.metadata())).name
          'nann'
        """
        return await self._fetch_metadata(*self._options(version, timeout))

    async def status(
        self, *, version: int | None = None, timeout: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """Return the versions of the model that the server knows, newest first; or only `version`.

        Example:
          >>> [status.state for status in asyncio.run(with_client(lambda client: client.status()))]
          ['AVAILABLE']
        """
        _, deadline = self._options(version, timeout)
        return await self._connection.status(version).result_async(deadline)

    async def _asked(
        self,
        build: Callable[[SpecOf], Query],
        version: Version,
        timeout: float | None,
        min_segment: int | None,
    ) -> tuple[Query, Answer]:
        """Return the query that `build` makes, and the server's answer, which has `min_segment`."""
        version, deadline = self._options(version, timeout)
        query = await self._built(build, version, deadline)
        freshness = Freshness(query, min_segment, deadline)
        while True:
            with freshness, self._forgetting_when_rejected:
                call = self._connection.predict(query.signature, encode_inputs(query.inputs), version)
                answer = await call.result_async(deadline)
            if not freshness.must_ask_again([answer]):
                return query, answer
            await asyncio.sleep(RETRY_SECONDS)

    async def _built(self, build: Callable[[SpecOf], Query], version: Version, deadline: Deadline) -> Query:
        """Return the query; fetch the signatures only if building it asks for them."""
        query = self._built_as_known(build, version)
        if query is None:
            query = fitting(build, await self._fetch_metadata(version, deadline))
        return query

    async def _fetch_metadata(self, version: Version, deadline: Deadline) -> ModelMetadata:
        metadata = await self._connection.metadata(version).result_async(deadline)
        self._known_metadata[version] = metadata
        return metadata
