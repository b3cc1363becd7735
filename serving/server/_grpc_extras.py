"""gRPC's health checking and server reflection, which tools such as grpcurl and Kubernetes ask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool

# Imported for their descriptors, which reflection looks up.
from tensorflow_serving.apis import model_service_pb2 as _model_service  # noqa: F401
from tensorflow_serving.apis import prediction_service_pb2 as _prediction_service  # noqa: F401

from nann.serving.server._messages import message, pool

_HEALTH = "grpc.health.v1"
_REFLECTION = "grpc.reflection.v1"
# The version that older clients ask for; the messages are the same.
_REFLECTION_ALPHA = "grpc.reflection.v1alpha"
HEALTH_SERVICE, _REFLECTION_SERVICE = f"{_HEALTH}.Health", f"{_REFLECTION}.ServerReflection"

_HealthRequest = message(f"{_HEALTH}.HealthCheckRequest")
_HealthResponse = message(f"{_HEALTH}.HealthCheckResponse")
_ReflectionRequest = message(f"{_REFLECTION}.ServerReflectionRequest")
_ReflectionResponse = message(f"{_REFLECTION}.ServerReflectionResponse")
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = 1, 2, 3


class _Watcher:
    """A caller that is told the status. gRPC's `send` waits until the message is on its way."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        self._send = send
        # Held while a message is sent, so that an older status is never the last one.
        self._sending = threading.Lock()

    def tell(self, status: Callable[[], int]) -> None:
        with self._sending:
            self._send(_HealthResponse(status=status()))


class Health:
    """Says that the server serves, until `stop`.

    Threads: safe from any. Nothing is sent while the lock is held: gRPC ends a `send` in the thread that also
    tells of callers who left, and that one takes the lock.
    """

    def __init__(self, services: Sequence[str]) -> None:
        """`services` are the names that callers may ask about, besides "" for the server as a whole."""
        self._services = {"", *services}
        self._lock = threading.Lock()
        self._status = _SERVING
        self._watchers: list[_Watcher] = []

    def stop(self) -> None:
        """Say from now on that the server does not serve."""
        with self._lock:
            self._status = _NOT_SERVING
            watchers = list(self._watchers)

        def tell() -> None:
            for watcher in watchers:
                watcher.tell(lambda: self._status)

        # A caller that does not read holds up the others, but not the server's end.
        threading.Thread(target=tell, name="nann-health", daemon=True).start()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what answers the calls of the service."""
        codec = {
            "request_deserializer": _HealthRequest.FromString,
            "response_serializer": _HealthResponse.SerializeToString,
        }
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, **codec),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, **codec),
        }
        return grpc.method_handlers_generic_handler(HEALTH_SERVICE, methods)

    def _check(self, request: Any, context: grpc.ServicerContext) -> Any:
        if request.service not in self._services:
            context.abort(grpc.StatusCode.NOT_FOUND, "service name unknown")
        return _HealthResponse(status=self._status)

    def _watch(self, request: Any, context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
        """Send the status now and when it changes, until the caller leaves."""
        if request.service not in self._services:
            send(_HealthResponse(status=_SERVICE_UNKNOWN))
            return
        watcher = _Watcher(send)
        with self._lock:
            self._watchers.append(watcher)
        if not context.add_callback(lambda: self._leave(watcher)):
            self._leave(watcher)
        watcher.tell(lambda: self._status)

    def _leave(self, watcher: _Watcher) -> None:
        with self._lock:
            self._watchers.remove(watcher)

    # gRPC's own health service does this, too: a watch holds no thread, and `send` sends from any.
    setattr(_watch, "experimental_non_blocking", True)  # noqa: B010


def reflection_handlers(services: Sequence[str]) -> list[grpc.GenericRpcHandler]:
    """Return the handlers that tell which services there are, and describe their messages."""
    names = sorted([*services, _REFLECTION_SERVICE, f"{_REFLECTION_ALPHA}.ServerReflection"])

    def info(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            yield _reflect(request, names)

    method = grpc.stream_stream_rpc_method_handler(
        info,
        request_deserializer=_ReflectionRequest.FromString,
        response_serializer=_ReflectionResponse.SerializeToString,
    )
    return [
        grpc.method_handlers_generic_handler(f"{package}.ServerReflection", {"ServerReflectionInfo": method})
        for package in (_REFLECTION, _REFLECTION_ALPHA)
    ]


def _reflect(request: Any, services: Sequence[str]) -> Any:
    response = _ReflectionResponse(valid_host=request.host, original_request=request)
    asked = request.WhichOneof("message_request")
    try:
        if asked == "list_services":
            for name in services:
                response.list_services_response.service.add(name=name)
        elif asked == "file_by_filename":
            _describe(response, lambda pool: pool.FindFileByName(request.file_by_filename))
        elif asked == "file_containing_symbol":
            _describe(response, lambda pool: pool.FindFileContainingSymbol(request.file_containing_symbol))
        else:
            # TensorFlow Serving's protocol is proto3, which has no extensions.
            raise KeyError(asked)
    except KeyError as error:
        response.error_response.error_code = grpc.StatusCode.NOT_FOUND.value[0]
        response.error_response.error_message = f"not found: {error.args[0]}"
    return response


def _describe(response: Any, find: Any) -> None:
    """Add the file that `find` finds in a pool, and the files that it imports.

    Raises:
      KeyError: no pool has it.
    """
    try:
        file = find(pool)
    except KeyError:
        file = find(descriptor_pool.Default())
    seen: set[str] = set()
    waiting = [file]
    while waiting:
        file = waiting.pop()
        if file.name not in seen:
            seen.add(file.name)
            response.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)
            waiting += file.dependencies
