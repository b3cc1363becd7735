"""The client of one model on one server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from numpy.typing import ArrayLike, NDArray

from nann.serving.client import _query
from nann.serving.client._answer import Answer
from nann.serving.client._channel import MAX_MESSAGE_BYTES
from nann.serving.client._connection import Deadline, OnCall, Version, connect
from nann.serving.client._encoding import encode_inputs
from nann.serving.client._inputs import as_array
from nann.serving.client._query import Query
from nann.serving.client._results import MissingShard, ModelMetadata, TopK, VersionStatus
from nann.serving.client._rows import checked_rows
from nann.serving.client._search_client import SearchClient


class NannClient(SearchClient[TopK]):
    """Asks one model on one server, over gRPC. Thread-safe: threads may share a client.

    The server is `nann serve`, or any TensorFlow Serving that serves an export of this project.

    Args:
      target: address of the gRPC port, "host:port".
      model: name of the model on the server.
      version: number of a version, label of a version, or None for the newest. Each call may override it.
      timeout: seconds that a call may take, None for no limit. Each call may override it.
      channel: a channel of your own, for TLS, interceptors or load balancing; `close` leaves it open. Without
        it the client opens a channel with `credentials`, `retries`, `max_message_bytes` and `round_robin`.
      credentials: for TLS, from `grpc.ssl_channel_credentials`; None means plain text.
      compression: of requests, such as `grpc.Compression.Gzip`.
      retries: how often a call is sent again while the server cannot be reached, 0 to 4. When many calls in a
        row fail, none is sent again.
      max_message_bytes: size limit of a request and of an answer; -1 means no limit.
      round_robin: send requests to all addresses of a name in turn, such as of "dns:///nann:8500".
      keepalive_seconds: send a ping after so long a silence, and connect again when no answer comes; None
        sends none. A gRPC server closes connections with pings more often than every 300 s unless it is told
        otherwise (docs/serving.md).
      on_call: called with a `CallRecord` after each request, for metrics.

    Raises:
      InvalidInputError: an argument is out of range, or `channel` and `credentials` are both given.

    Example:
      >>> with NannClient(target, model="nann", timeout=10) as client:
      ...     client.wait_ready(timeout=60)
      ...     ids, scores = client.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10])
      >>> ids.shape
      (1, 10)
    """

    def __init__(
        self,
        target: str,
        *,
        model: str = "nann",
        version: Version = None,
        timeout: float | None = 10.0,
        channel: grpc.Channel | None = None,
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
        )

    def close(self) -> None:
        """Close the connection. Calls that are under way are cancelled; a `channel` of your own stays open.

        Example:
          >>> client = NannClient(target)
          >>> client.close()
        """
        if self._own_channel is not None:
            self._own_channel.close()

    def wait_ready(self, timeout: float | None) -> None:
        """Wait until the server accepts connections, and check that a version of the model is available.

        Args:
          timeout: seconds.

        Raises:
          DeadlineExceededError: the server did not answer in time.
          ModelNotFoundError: the server answered, but no version of the model is available.

        Example:
          >>> client.wait_ready(timeout=60)
        """
        self._connection.start_wait_available(Deadline(timeout)).result()

    def predict(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        signature: str = _query.DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
        version: Version = None,
    ) -> dict[str, NDArray[Any]]:
        """Call any signature of any model.

        Args:
          inputs: arrays by name. They are sent as they are.
          outputs: names of the outputs to return; empty means all.

        The other arguments and the errors are those of `top_k`.

        Example:
          >>> inputs = {"comm_seq": comm_seq.reshape(1, -1), "level_topn": np.int32([20, 30, 30, 30, 30, 10])}
          >>> found = client.predict(inputs, signature="serving_default", outputs=["top_k"])
          >>> found["top_k"].shape
          (1, 10)
        """
        version, deadline = self._options(version, timeout)
        arrays = {name: as_array(value, name=name) for name, value in inputs.items()}
        with self._forgetting_when_rejected:
            call = self._connection.predict(signature, encode_inputs(arrays, outputs), version)
            return call.result(deadline).outputs

    def metadata(self, *, version: Version = None, timeout: float | None = None) -> ModelMetadata:
        """Return the signatures of the model, with the types and shapes of their inputs and outputs.

        Example:
          >>> client.metadata().signatures["retrieve"].inputs["level_topn"]
          TensorSpec(dtype='int32', shape=(-1, -1))
        """
        return self._metadata(*self._options(version, timeout))

    def status(
        self, *, version: int | None = None, timeout: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """Return the versions of the model that the server knows, newest first; or only `version`.

        Example:
          >>> [(status.version, status.state) for status in client.status()]
          [(1, 'AVAILABLE')]
        """
        _, deadline = self._options(version, timeout)
        return self._connection.status(version).result(deadline)

    def _ask(
        self, query: Query, version: Version, deadline: Deadline, *, allow_partial: bool | None
    ) -> tuple[list[Answer], tuple[MissingShard, ...]]:
        call = self._connection.predict(query.signature, encode_inputs(query.inputs), version)
        return [call.result(deadline)], ()

    def _combine(self, query: Query, answers: list[Answer], missing: tuple[MissingShard, ...]) -> TopK:
        return checked_rows(query, answers, answers[0].top_k(query))

    def _fetch_metadata(self, version: Version, deadline: Deadline) -> ModelMetadata:
        return self._connection.metadata(version).result(deadline)
