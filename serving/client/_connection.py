"""The calls themselves: requests and answers of one model on one server, as arrays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from nann.errors import InvalidInputError
from nann.serving.client import _errors
from nann.serving.client._metadata import parse_metadata
from nann.serving.client._results import ModelMetadata, VersionStatus
from nann.serving.protocol import messages, tensors

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

# A number, a label, or None for the newest.
Version = int | str | None
# Outputs by name, and the version that answered.
Outputs = tuple[dict[str, NDArray[Any]], int | None]
# Returns the answer's bytes, or raises what gRPC raises.
Wait = Callable[[], bytes]
T = TypeVar("T")


class Deadline:
    """A time limit that several requests share."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def within(self, seconds: float | None) -> Deadline:
        """The end of the next `seconds`, or this deadline if that is sooner."""
        return Deadline(self.remaining() if seconds is None else min(seconds, self.remaining()))

    def remaining(self) -> float:
        # A little is always left: the call then reports the deadline, as any other.
        return max(self._end - time.monotonic(), 0.001)


class PendingCall(Generic[T]):
    """A call under way."""

    def __init__(self, future: Any, result: Callable[[], T]) -> None:
        self._future = future
        self.result = result

    def when_done(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the call is over: in a thread of gRPC's, or now if it is."""
        self._future.add_done_callback(lambda _: callback())

    def cancel(self) -> None:
        self._future.cancel()


class Connection:
    """Speaks to one model on one server. Thread-safe."""

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        target: str,
        model: str,
        version: Version,
        compression: grpc.Compression | None,
    ) -> None:
        self._channel = channel
        self.target = target
        self._model = model
        self._version = version
        self._compression = compression
        # Messages travel as bytes: a broken answer is then ours to report, with its name.
        self._methods = {path: channel.unary_unary(path) for path in (_PREDICT, _METADATA, _STATUS)}
        self._lock = threading.Lock()
        self._known_metadata: dict[Version, ModelMetadata] = {}

    def wait_connected(self, deadline: Deadline) -> None:
        """Wait until the server accepts connections.

        Raises:
          DeadlineExceededError: it did not in time.
        """
        ready = grpc.channel_ready_future(self._channel)
        try:
            ready.result(timeout=deadline.remaining())
        except grpc.FutureTimeoutError:
            ready.cancel()
            raise self._not_connected() from None

    def predict(
        self,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        *,
        outputs: Sequence[str] = (),
        version: Version,
        deadline: Deadline,
    ) -> Outputs:
        """Return the outputs (all, or those named) and the version that answered."""
        request = self._predict_request(signature, encode_inputs(inputs, outputs), version)
        return self._read_predict(lambda: self._call(_PREDICT, request, deadline))

    def start_predict(
        self, signature: str, inputs: bytes, *, version: Version, deadline: Deadline
    ) -> PendingCall[Outputs]:
        """Start `predict`, with the inputs as `encode_inputs` gives them."""
        request = self._predict_request(signature, inputs, version)
        return self._start(_PREDICT, request, self._read_predict, deadline)

    def metadata(self, version: Version, deadline: Deadline) -> ModelMetadata:
        """Return the model's signatures."""
        request = self._metadata_request(version)
        metadata = self._read_metadata(lambda: self._call(_METADATA, request, deadline))
        with self._lock:
            self._known_metadata[version] = metadata
        return metadata

    def start_metadata(self, version: Version, deadline: Deadline) -> PendingCall[ModelMetadata]:
        """Start `metadata`."""
        return self._start(_METADATA, self._metadata_request(version), self._read_metadata, deadline)

    def row_width(self, signature: str, name: str, *, version: Version, deadline: Deadline) -> int | None:
        """Return how many values a user's row of an input has; None when the model does not say.

        The signatures are asked for once, and again after a request was rejected.
        """
        with self._lock:
            metadata = self._known_metadata.get(version)
        if metadata is None:
            metadata = self.metadata(version, deadline)
        return metadata.row_width(signature, name)

    def status(self, version: int | None, deadline: Deadline) -> tuple[VersionStatus, ...]:
        """Return the versions that the server knows, newest first, or the one asked for."""
        request = self._status_request(version)
        return self._read_status(lambda: self._call(_STATUS, request, deadline))

    def start_wait_available(self, deadline: Deadline) -> PendingCall[tuple[VersionStatus, ...]]:
        """Start `status` as soon as the server accepts connections; fails when no version is available."""
        return self._start(
            _STATUS, self._status_request(None), self._read_available, deadline, wait_for_ready=True
        )

    def check_available(self, versions: tuple[VersionStatus, ...]) -> None:
        """Raise ModelNotFoundError when none of the versions is available."""
        if not any(status.state == "AVAILABLE" for status in versions):
            found = ", ".join(f"{status.version} is {status.state}" for status in versions)
            raise self.error("NOT_FOUND", f"no version is available: {found}", action="Use")

    def error(self, code: str, details: str, *, action: str) -> _errors.NannClientError:
        """Return the error for a status code."""
        return _errors.from_status(code, details, action=action, target=self.target, model=self._model)

    def _not_connected(self) -> _errors.NannClientError:
        why = "no connection was made; is the server running?"
        return self.error("DEADLINE_EXCEEDED", why, action="Connecting for use")

    def bad_answer(self, action: str, why: str, *, target: str | None = None) -> _errors.ResponseError:
        """Return the error for an answer that is none; `target` in place of the connection's."""
        target = self.target if target is None else target
        return _errors.ResponseError(
            f"{action} of model {self._model!r} at {target}: unusable answer: {why} "
            "(check that this is the gRPC port of a TensorFlow Serving, and that the model is a NANN export)",
            target=target,
            model=self._model,
        )

    def _fill_spec(self, spec: Any, version: Version) -> None:
        spec.name = self._model
        chosen = self._version if version is None else version
        if isinstance(chosen, str):
            spec.version_label = chosen
        elif chosen is not None:
            spec.version.value = chosen

    def _predict_request(self, signature: str, inputs: bytes, version: Version) -> bytes:
        request = messages.PredictRequest()
        self._fill_spec(request.model_spec, version)
        request.model_spec.signature_name = signature
        # Two serialized messages one after another are the message with the fields of both.
        return bytes(request.SerializeToString() + inputs)

    def _metadata_request(self, version: Version) -> bytes:
        request = messages.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill_spec(request.model_spec, version)
        return bytes(request.SerializeToString())

    def _status_request(self, version: int | None) -> bytes:
        request = messages.GetModelStatusRequest()
        request.model_spec.name = self._model
        if version is not None:
            request.model_spec.version.value = version
        return bytes(request.SerializeToString())

    def _read_predict(self, wait: Wait) -> Outputs:
        try:
            answer = self._receive(_PREDICT, wait, messages.PredictResponse)
        except _errors.RequestRejectedError:
            # The model may have been replaced by one of another shape; look again next time.
            with self._lock:
                self._known_metadata.clear()
            raise
        answered_by = answer.model_spec.version.value if answer.model_spec.HasField("version") else None
        return {name: self._read_output(name, proto) for name, proto in answer.outputs.items()}, answered_by

    def _read_output(self, name: str, proto: Any) -> NDArray[Any]:
        try:
            array = tensors.decode(proto)
        except InvalidInputError as error:
            raise self.bad_answer("Predict", f"output {name!r}: {error}") from error
        # The caller owns its results and may write to them.
        return array if array.flags.writeable else array.copy()

    def _read_metadata(self, wait: Wait) -> ModelMetadata:
        return parse_metadata(self._receive(_METADATA, wait, messages.GetModelMetadataResponse))

    def _read_status(self, wait: Wait) -> tuple[VersionStatus, ...]:
        answer = self._receive(_STATUS, wait, messages.GetModelStatusResponse)
        versions = [
            VersionStatus(
                version=item.version,
                state=_state_name(item.state),
                error_code=item.status.error_code,
                error_message=item.status.error_message,
            )
            for item in answer.model_version_status
        ]
        return tuple(sorted(versions, key=lambda status: -status.version))

    def _read_available(self, wait: Wait) -> tuple[VersionStatus, ...]:
        try:
            versions = self._read_status(wait)
        except _errors.DeadlineExceededError as error:
            raise self._not_connected() from error
        self.check_available(versions)
        return versions

    def _call(self, path: str, request: bytes, deadline: Deadline) -> bytes:
        # Not `_start` and a wait: gRPC then answers in this thread, without one of its own between.
        answer: bytes = self._methods[path](
            request, timeout=deadline.remaining(), compression=self._compression
        )
        return answer

    def _start(
        self,
        path: str,
        request: bytes,
        read: Callable[[Wait], T],
        deadline: Deadline,
        *,
        wait_for_ready: bool = False,
    ) -> PendingCall[T]:
        try:
            future = self._methods[path].future(
                request,
                timeout=deadline.remaining(),
                compression=self._compression,
                wait_for_ready=wait_for_ready,
            )
        except ValueError as error:
            raise self.error("CANCELLED", str(error), action=_action(path)) from error
        return PendingCall(future, partial(read, future.result))

    def _receive(self, path: str, wait: Wait, response_type: Any) -> Any:
        """The message that `wait` returns, or the error for what it raises."""
        action = _action(path)
        try:
            answer = wait()
        except grpc.RpcError as error:
            raise self.error(error.code().name, error.details() or "", action=action) from error
        except (ValueError, grpc.FutureCancelledError) as error:
            # A ValueError is how gRPC says that the channel was closed.
            raise self.error("CANCELLED", str(error), action=action) from error
        try:
            return response_type.FromString(answer)
        except DecodeError as error:
            raise self.bad_answer(action, str(error)) from error


def encode_inputs(inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> bytes:
    """Return the part of a `PredictRequest` that is the same for every server."""
    request = messages.PredictRequest(output_filter=outputs)
    for name, array in inputs.items():
        tensors.encode(array, request.inputs[name], name=name)
    return bytes(request.SerializeToString())


def _action(path: str) -> str:
    return path.rsplit("/", 1)[1]


def _state_name(number: int) -> str:
    try:
        return str(messages.VersionState(number).name)
    except ValueError:
        return f"state {number}"
