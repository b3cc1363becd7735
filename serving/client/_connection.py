"""Requests to one model on one server."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from nann.errors import InvalidInputError
from nann.serving.client import _errors
from nann.serving.client._answer import Answer
from nann.serving.client._channel import check_credentials, open_channel
from nann.serving.client._metadata import parse_metadata, parse_status
from nann.serving.client._results import ModelMetadata, VersionStatus
from nann.serving.protocol import messages, tensors

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

# A number, a label, or None for the newest.
Version = int | str | None
T = TypeVar("T")
_log = logging.getLogger("nann.serving.client")
# Nobody waits a year for an answer.
_NO_LIMIT_SECONDS = 365.0 * 24 * 3600
# gRPC raises ValueError, and grpc.aio UsageError, when the channel was closed.
_GRPC_ERRORS = (grpc.RpcError, ValueError, grpc.FutureCancelledError, grpc.aio.UsageError)
_NUMBERS = (int, float, np.number)


class Deadline:
    """A time limit that several requests share."""

    def __init__(self, seconds: float | None) -> None:
        """None sets no limit.

        Raises:
          InvalidInputError: `seconds` is no number.
        """
        if seconds is None:
            seconds = math.inf
        if not isinstance(seconds, _NUMBERS) or math.isnan(seconds):
            raise InvalidInputError(f"timeout: expected seconds or None for no limit, got {seconds!r}")
        # gRPC takes what does not fit into its clock for "at once".
        self._end = time.monotonic() + min(float(seconds), _NO_LIMIT_SECONDS)

    def within(self, seconds: float | None) -> Deadline:
        """Return the deadline `seconds` from now, or this one if it is sooner."""
        return Deadline(self.remaining() if seconds is None else min(seconds, self.remaining()))

    def remaining(self) -> float:
        # A millisecond is always left, so that the call itself reports that the deadline has passed.
        return max(self._end - time.monotonic(), 0.001)


@dataclass(frozen=True)
class CallRecord:
    """A request that ended, for a hook: `NannClient(..., on_call=hook)`.

    Attributes:
      method: "Predict", "GetModelMetadata" or "GetModelStatus".
      target: address of the server.
      model: name of the model.
      code: name of the gRPC status code, "OK" for an answer.
      seconds: from sending to the answer, with all retries.

    Example:
      >>> calls = []
      >>> with NannClient(target, model="nann", on_call=calls.append) as client:
      ...     ids, scores = client.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10])
      >>> calls[-1].method, calls[-1].code, calls[-1].seconds < 10
      ('Predict', 'OK', True)
    """

    method: str
    target: str
    model: str
    code: str
    seconds: float


# Called in the thread that waits for the answer.
OnCall = Callable[[CallRecord], None]


class PendingCall(Generic[T]):
    """A request that was sent. `result` waits for the answer."""

    def __init__(self, future: Any, result: Callable[[], T]) -> None:
        self.future = future
        self.result = result

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the call ends: in a thread of gRPC, or at once if it has ended."""
        self.future.add_done_callback(lambda _: callback())

    def cancel(self) -> None:
        self.future.cancel()


class Call(Generic[T]):
    """A request that is ready to be sent.

    Answers arrive as bytes and are parsed here, so that a malformed answer becomes an error of this package.
    """

    def __init__(
        self, connection: Connection, path: str, request: bytes, response_type: Any, parse: Callable[[Any], T]
    ) -> None:
        self._connection = connection
        self._action = path.rpartition("/")[2]
        self._method = connection.methods[path]
        self._request = request
        self._response_type = response_type
        self._parse = parse

    def result(self, deadline: Deadline) -> T:
        """Send the request and wait for the answer."""
        # Not `start().result()`: gRPC then works in this thread instead of one of its own.
        began = time.monotonic()
        try:
            answer = self._method(self._request, **self._options(deadline))
        except _GRPC_ERRORS as error:
            raise self._failed(error, began) from error
        return self._answered(answer, began)

    def start(self, deadline: Deadline, *, wait_for_ready: bool = False) -> PendingCall[T]:
        """Send the request; with `wait_for_ready` as soon as the server accepts connections."""
        began = time.monotonic()
        try:
            future = self._method.future(
                self._request, wait_for_ready=wait_for_ready, **self._options(deadline)
            )
        except ValueError as error:
            raise self._error("CANCELLED", str(error)) from error
        return PendingCall(future, partial(self._receive, future, began))

    async def result_async(self, deadline: Deadline, *, wait_for_ready: bool = False) -> T:
        """Send the request over a channel of `grpc.aio` and wait for the answer, as `result` does."""
        began = time.monotonic()
        try:
            answer = await self._method(
                self._request, wait_for_ready=wait_for_ready, **self._options(deadline)
            )
        except asyncio.CancelledError:
            self._connection.record(self._action, began, "CANCELLED")
            raise
        except _GRPC_ERRORS as error:
            raise self._failed(error, began) from error
        return self._answered(answer, began)

    def _options(self, deadline: Deadline) -> dict[str, Any]:
        return {"timeout": deadline.remaining(), "compression": self._connection.compression}

    def _receive(self, future: Any, began: float) -> T:
        try:
            answer = future.result()
        except _GRPC_ERRORS as error:
            raise self._failed(error, began) from error
        return self._answered(answer, began)

    def _failed(self, error: Exception, began: float) -> _errors.NannClientError:
        """Record the call, and return the error of this package for one of gRPC."""
        code, details = "CANCELLED", str(error)
        if isinstance(error, grpc.RpcError):
            code, details = error.code().name, error.details() or ""
        self._connection.record(self._action, began, code)
        return self._error(code, details)

    def _answered(self, answer: bytes, began: float) -> T:
        """Record the call, and return what the answer says."""
        self._connection.record(self._action, began, "OK")
        try:
            return self._parse(self._response_type.FromString(answer))
        except (DecodeError, InvalidInputError) as error:
            raise self._connection.bad_answer(self._action, str(error)) from error

    def _error(self, code: str, details: str) -> _errors.NannClientError:
        return self._connection.error(code, details, action=self._action)


class Connection:
    """Makes the requests to one model on one server. Thread-safe."""

    def __init__(
        self,
        channel: grpc.Channel | grpc.aio.Channel,
        *,
        target: str,
        model: str,
        compression: grpc.Compression | None,
        on_call: OnCall | None = None,
    ) -> None:
        self.methods = {path: channel.unary_unary(path) for path in (_PREDICT, _METADATA, _STATUS)}
        self.compression = compression
        self._target = target
        self._model = model
        self._on_call = on_call

    def record(self, action: str, began: float, code: str) -> None:
        """Tell the caller's hook of a call that ended. What the hook raises is logged."""
        if self._on_call is None:
            return
        seconds = time.monotonic() - began
        try:
            self._on_call(CallRecord(action, self._target, self._model, code, seconds))
        except Exception:
            _log.exception("on_call failed")

    def predict(self, signature: str, inputs: bytes, version: Version) -> Call[Answer]:
        """Return the call of a signature with inputs from `_encoding.encode_inputs`."""
        request = messages.PredictRequest()
        self._fill_spec(request.model_spec, version)
        request.model_spec.signature_name = signature
        # Two serialized messages, one after the other, are one message with the fields of both.
        data = bytes(request.SerializeToString() + inputs)
        return Call(self, _PREDICT, data, messages.PredictResponse, self._parse_outputs)

    def metadata(self, version: Version) -> Call[ModelMetadata]:
        """Return the call for the signatures of the model."""
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill_spec(request.model_spec, version)
        data = bytes(request.SerializeToString())
        return Call(self, _METADATA, data, messages.GetModelMetadataResponse, parse_metadata)

    def status(self, version: int | None) -> Call[tuple[VersionStatus, ...]]:
        """Return the call for the versions that the server knows, newest first; or for one of them."""
        request = messages.GetModelStatusRequest()
        self._fill_spec(request.model_spec, version)
        data = bytes(request.SerializeToString())
        return Call(self, _STATUS, data, messages.GetModelStatusResponse, parse_status)

    def start_wait_available(self, deadline: Deadline) -> PendingCall[tuple[VersionStatus, ...]]:
        """Ask for the versions as soon as the server accepts connections. Fails when none is available."""
        pending = self.status(None).start(deadline, wait_for_ready=True)

        def available() -> tuple[VersionStatus, ...]:
            try:
                versions = pending.result()
            except _errors.DeadlineExceededError as error:
                raise self.no_answer() from error
            return self.check_available(versions)

        return PendingCall(pending.future, available)

    def no_answer(self) -> _errors.NannClientError:
        """Return the error of `wait_ready` for a server that did not answer in time."""
        return self.error("DEADLINE_EXCEEDED", _errors.NO_ANSWER, action="wait_ready")

    def check_available(self, versions: tuple[VersionStatus, ...]) -> tuple[VersionStatus, ...]:
        """Return the versions if one of them is available.

        Raises:
          ModelNotFoundError: none is.
        """
        if not any(status.state == "AVAILABLE" for status in versions):
            states = ", ".join(f"{status.version} is {status.state}" for status in versions)
            raise self.error("NOT_FOUND", f"no version is available: {states}", action="wait_ready")
        return versions

    def error(self, code: str, details: str, *, action: str) -> _errors.NannClientError:
        """Return the error for a status code."""
        return _errors.from_status(code, details, action=action, target=self._target, model=self._model)

    def bad_answer(self, action: str, why: str) -> _errors.ResponseError:
        """Return the error for an answer that cannot be used."""
        return _errors.ResponseError(
            f"{action} of model {self._model!r} at {self._target}: unusable answer: {why} "
            "(check that this is the gRPC port of a TensorFlow Serving, and that the model is a NANN export)",
            target=self._target,
            model=self._model,
        )

    def _fill_spec(self, spec: Any, version: Version) -> None:
        spec.name = self._model
        if isinstance(version, str):
            spec.version_label = version
        elif version is not None:
            spec.version.value = version

    def _parse_outputs(self, response: Any) -> Answer:
        spec = response.model_spec
        return Answer(
            outputs={name: _output(name, proto) for name, proto in response.outputs.items()},
            version=spec.version.value if spec.HasField("version") else None,
            bad_answer=partial(self.bad_answer, "Predict"),
            failed=partial(self.error, action="Predict"),
        )


def connect(
    target: str,
    *,
    model: str,
    channel: grpc.Channel | grpc.aio.Channel | None,
    credentials: grpc.ChannelCredentials | None,
    compression: grpc.Compression | None,
    retries: int,
    max_message_bytes: int,
    round_robin: bool,
    keepalive_seconds: float | None,
    on_call: OnCall | None,
    api: Any = grpc,
) -> tuple[Connection, Any]:
    """Return a connection over the caller's `channel`, or over a new one, and the new channel or None.

    `open_channel` explains the other arguments.
    """
    check_credentials(channel, credentials)
    opened = None
    if channel is None:
        channel = opened = open_channel(
            target,
            credentials=credentials,
            retries=retries,
            max_message_bytes=max_message_bytes,
            round_robin=round_robin,
            keepalive_seconds=keepalive_seconds,
            api=api,
        )
    connection = Connection(channel, target=target, model=model, compression=compression, on_call=on_call)
    return connection, opened


def _output(name: str, proto: Any) -> NDArray[Any]:
    try:
        array = tensors.decode(proto)
    except InvalidInputError as error:
        raise InvalidInputError(f"output {name!r}: {error}") from error
    # The caller owns the result and may write to it.
    return array if array.flags.writeable else array.copy()
