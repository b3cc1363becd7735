"""The client: one object for one model on one server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray

from nann.errors import InvalidInputError
from nann.serving.client import _query
from nann.serving.client._channel import open_channel
from nann.serving.client._connection import Connection, Deadline, Version
from nann.serving.client._errors import ResponseError
from nann.serving.client._query import Ids
from nann.serving.client._results import ModelMetadata, TopK, VersionStatus


class NannClient:
    """Asks one model on one server, over gRPC. Thread-safe: share one client between threads.

    The server is `nann serve` or any TensorFlow Serving that serves an export of this project.

    Args:
      target: address of the gRPC port, "host:port".
      model: the model's name on the server.
      version: a version's number, a version's label, or None for the newest; each call may override it.
      timeout: seconds a call may take; each call may override it.
      channel: a channel of the caller's own (TLS, interceptors, load balancing); the caller closes it.
        Without it the client opens one with `credentials`, `retries` and `max_message_bytes`.
      credentials: for TLS, from `grpc.ssl_channel_credentials`; None is plain text.
      compression: such as `grpc.Compression.Gzip`, for requests.
      retries: how often to try again while the server cannot be reached, 0 to 4.
      max_message_bytes: the largest request or answer; -1 is any size.
    """

    def __init__(
        self,
        target: str,
        *,
        model: str = "nann",
        version: Version = None,
        timeout: float = 10.0,
        channel: grpc.Channel | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
        retries: int = 2,
        max_message_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        if channel is not None and credentials is not None:
            raise InvalidInputError("give `credentials` or a `channel` that has them, not both")
        self._timeout = timeout
        self._own_channel = None
        if channel is None:
            channel = self._own_channel = open_channel(
                target, credentials=credentials, retries=retries, max_message_bytes=max_message_bytes
            )
        self._connection = Connection(
            channel, target=target, model=model, version=version, compression=compression
        )

    def __enter__(self) -> NannClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way are cancelled. A channel of the caller's stays open."""
        if self._own_channel is not None:
            self._own_channel.close()

    def wait_ready(self, timeout: float) -> None:
        """Wait until the server accepts connections, and check that it has the model available.

        Raises:
          DeadlineExceededError: no connection within `timeout` seconds.
          ModelNotFoundError: the server is there, but no version of the model is available.
        """
        deadline = Deadline(timeout)
        self._connection.wait_connected(deadline)
        self._connection.check_available(self._connection.status(None, deadline))

    def top_k(
        self,
        comm_seq: ArrayLike | Mapping[str, ArrayLike],
        level_topn: ArrayLike,
        *,
        exclude_ids: Ids | None = None,
        timeout: float | None = None,
        version: Version = None,
        signature: str | None = None,
    ) -> TopK:
        """Return the best items of each user, given the user's state.

        Args:
          comm_seq: the embedded behaviour sequence, float16 or float32 [B, L, E] or [B, L*E], or of one
            user [L, E] or [L*E]. A model whose user state has other names takes a mapping of name to
            array, each with a leading batch dimension.
          level_topn: beams, integers [n] for all users or [B, n]; see the export's manifest for n.
          exclude_ids: item ids not to return: one row for all users, or a row (of any length) a user.
          timeout: seconds, in place of the client's.
          version: in place of the client's.
          signature: default "serving_default" for float16 with neither exclusions nor beams by user,
            "retrieve" otherwise.

        Raises:
          InvalidInputError: an argument has the wrong type or shape.
          NannClientError: the call failed; see its subclasses.
        """
        deadline = self._deadline(timeout)
        width = self._width(version, deadline)
        query = _query.search_by_state(
            comm_seq, level_topn, exclude_ids=exclude_ids, signature=signature, width=width
        )
        return self._search(query, version, deadline)

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
        **features: Ids,
    ) -> TopK:
        """Return the best items of each user, given the ids of what the user has done.

        Args:
          item_ids, cate_ids: integers [B, L] or [L], oldest first, as the caller knows them; 0 is missing.
            Shorter rows are filled up with 0 at the front, as in training, to the length the model takes.
          features: the inputs of a model that has others, by name, in the same way.

        Other arguments and errors are those of `top_k`.
        """
        deadline = self._deadline(timeout)
        width = self._width(version, deadline)
        given = {"item_ids": item_ids, "cate_ids": cate_ids, **features}
        query = _query.search_by_ids(
            given, level_topn, exclude_ids=exclude_ids, signature=signature, width=width
        )
        return self._search(query, version, deadline)

    def score(
        self,
        comm_seq: ArrayLike,
        item_ids: ArrayLike,
        *,
        timeout: float | None = None,
        version: Version = None,
        signature: str = "score",
    ) -> NDArray[np.float32]:
        """Return the model's scores of given items, float32 [B, n]; -inf for an unknown id.

        Args:
          comm_seq: as for `top_k`.
          item_ids: integers [n] for all users, or [B, n].
        """
        deadline = self._deadline(timeout)
        width = self._width(version, deadline)
        query = _query.score_of_items(comm_seq, item_ids, signature=signature, width=width)
        outputs, _ = self._connection.predict(signature, query.inputs, version=version, deadline=deadline)
        return _query.read_scores(query, outputs, self._bad_answer)

    def predict(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        signature: str = _query.DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
        version: Version = None,
    ) -> dict[str, NDArray[Any]]:
        """Call any signature with arrays as they are; `outputs` picks some of its outputs, default all."""
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        deadline = self._deadline(timeout)
        return self._connection.predict(
            signature, arrays, outputs=outputs, version=version, deadline=deadline
        )[0]

    def metadata(self, *, version: Version = None, timeout: float | None = None) -> ModelMetadata:
        """Return the signatures of the model, with the types and shapes of inputs and outputs."""
        return self._connection.metadata(version, self._deadline(timeout))

    def status(
        self, *, version: int | None = None, timeout: float | None = None
    ) -> tuple[VersionStatus, ...]:
        """Return the versions of the model that the server knows, newest first."""
        return self._connection.status(version, self._deadline(timeout))

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._timeout if timeout is None else timeout)

    def _width(self, version: Version, deadline: Deadline) -> _query.Width:
        return partial(self._connection.row_width, version=version, deadline=deadline)

    def _search(self, query: _query.Query, version: Version, deadline: Deadline) -> TopK:
        outputs, answered_by = self._connection.predict(
            query.signature, query.inputs, version=version, deadline=deadline
        )
        return _query.read_top_k(query, outputs, answered_by, self._bad_answer)

    def _bad_answer(self, why: str) -> ResponseError:
        return self._connection.bad_answer("Predict", why)
