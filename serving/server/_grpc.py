"""The gRPC transport: TensorFlow Serving's PredictionService and ModelService.

gRPC calls the services from the threads of its pool, one thread per request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from nann.errors import InvalidInputError
from nann.serving.server import _describe
from nann.serving.server._manager import ModelManager
from nann.serving.server._predict import predict_proto
from nann.serving.server._status import Code, StatusError, invalid_argument

_log = logging.getLogger("nann.serving")

# As TensorFlow Serving: a status travels in HTTP headers, whose size gRPC limits.
_MAX_MESSAGE = 1024
_TRUNCATED = "...TRUNCATED"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def start_grpc(manager: ModelManager, *, address: str, threads: int) -> tuple[grpc.Server, int]:
    """Start to serve on `address` and return the server and its port.

    `address` is "host:port"; port 0 takes any free port. At most `threads` requests run at once.

    Raises:
      InvalidInputError: the address cannot be used.
    """
    server = grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="nann-grpc"),
        options=[
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            # With this option on, a second server on the same port would take half of the requests unnoticed.
            ("grpc.so_reuseport", 0),
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(manager), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(manager), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise InvalidInputError(
            f"gRPC cannot listen on {address}: {error}; choose another --port, or 0 for any free one"
        ) from error
    server.start()
    return server, port


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _answer(context, lambda: self._predict(request, context))

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _answer(context, lambda: self._metadata(request))

    def _predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        name, version, label = _model_spec(request)
        with self._manager.lease(name, version=version, label=label) as lease:
            return predict_proto(
                lease.servable, request, version=lease.version, timeout_ms=_timeout_ms(context)
            )

    def _metadata(self, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        _describe.check_metadata_fields(request.metadata_field)
        name, version, label = _model_spec(request)
        with self._manager.lease(name, version=version, label=label) as lease:
            return _describe.metadata(name, lease)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _answer(context, lambda: self._status(request))

    def _status(self, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        return _describe.status(self._manager.statuses(spec.name, version=version))


def _model_spec(request: Any) -> tuple[str, int | None, str | None]:
    """Return the name, version and label that a request asks for; at most one of the last two is set."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    spec = request.model_spec
    if not spec.name:
        raise invalid_argument("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    version = spec.version.value if choice == "version" else None
    return spec.name, version, spec.version_label if choice == "version_label" else None


def _timeout_ms(context: grpc.ServicerContext) -> int | None:
    """Return the milliseconds until the caller's deadline, None if the caller set no deadline.

    Raises:
      StatusError: the caller cancelled the request, or the deadline passed, before a thread was free.
    """
    if not context.is_active():
        raise StatusError(Code.CANCELLED, "The caller cancelled the request before it was run")
    remaining = context.time_remaining()
    if remaining is None:
        return None
    if remaining <= 0:
        raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded before the request was run")
    # TensorFlow takes 0 for "no limit".
    return max(int(remaining * 1000), 1)


def _answer(context: grpc.ServicerContext, work: Callable[[], Any]) -> Any:
    """Return the result of `work`, or end the request with the status of its error."""
    try:
        return work()
    except StatusError as error:
        status = error
    except Exception as error:
        _log.exception("gRPC request failed")
        status = StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}")
    message = status.message
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + _TRUNCATED
    return context.abort(_CODES[int(status.code)], message)
