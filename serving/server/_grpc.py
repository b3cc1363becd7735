"""The gRPC transport: TensorFlow Serving's PredictionService and ModelService.

gRPC calls the services from the threads of its pool, one thread per request. Where the front in C++ is built,
it stands before them and runs most Predict requests.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from tensorflow_serving.apis import (
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from nann.errors import InvalidInputError
from nann.serving.server import _describe
from nann.serving.server._front import Front, is_built
from nann.serving.server._grpc_extras import HEALTH_SERVICE, Health, reflection_handlers
from nann.serving.server._inference import Run, classify, multi_inference, regress
from nann.serving.server._manager import Lease, ModelManager
from nann.serving.server._metrics import Metrics
from nann.serving.server._predict import DEFAULT_SIGNATURE, predict_proto
from nann.serving.server._status import Code, StatusError, as_status, invalid_argument
from nann.serving.server._tls import TlsConfig

_log = logging.getLogger("nann.serving")

# As TensorFlow Serving: a status travels in HTTP headers, whose size gRPC limits.
_MAX_MESSAGE = 1024
_TRUNCATED = "...TRUNCATED"
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# Runs a request on a leased model, given the milliseconds that are left.
_RunLeased = Callable[[Lease, int | None], Any]


# Requests that may wait for each thread. More are refused, so that the memory of waiting requests is bounded;
# a request that waits behind so many would miss its deadline.
_WAITING_PER_THREAD = 32
# gRPC takes a request without a deadline for one that ends after the end of its clock.
_NO_LIMIT_SECONDS = 10 * 365 * 24 * 3600
# What the answer to a request that ran out of time takes to reach the caller.
_ANSWER_MILLISECONDS = 5
# The name of a Unix socket has at most 107 characters; this leaves room for the last part of it.
_LONG_FOLDER = 70
_HEALTH_NAMES = ("ModelService", "PredictionService")
_SERVICES = tuple(f"tensorflow.serving.{name}" for name in _HEALTH_NAMES)


@dataclass(frozen=True, kw_only=True)
class GrpcOptions:
    """How to serve.

    address: "host:port"; port 0 takes any free port. threads: how many requests run at once.
    max_message_bytes: limit of a request. arguments: gRPC channel arguments, which win over those set here.
    tls: None serves without TLS. socket_path: a Unix socket to serve on as well, without TLS.
    use_front: have the front in C++ run Predict requests where it is built.
    """

    address: str
    threads: int
    max_message_bytes: int
    arguments: Sequence[tuple[str, Any]] = ()
    tls: TlsConfig | None = None
    socket_path: str = ""
    use_front: bool = False
    enable_health: bool = False
    check_method_names: bool = False


class GrpcServer:
    """Serves the models of a manager. Call `start`, then `stop`, each once."""

    def __init__(
        self, manager: ModelManager, reload: Callable[[Any], None], metrics: Metrics, options: GrpcOptions
    ) -> None:
        """`reload` takes over a new `ModelServerConfig`; it may raise StatusError."""
        self._options = options
        self._manager = manager
        self._metrics = metrics
        self._arguments = {
            "grpc.max_receive_message_length": options.max_message_bytes,
            "grpc.max_send_message_length": -1,
            # With this option on, a second server on the same port would take half of the requests unnoticed.
            "grpc.so_reuseport": 0,
            **dict(options.arguments),
        }
        self._server = grpc.server(
            ThreadPoolExecutor(options.threads, thread_name_prefix="nann-grpc"),
            options=list(self._arguments.items()),
            maximum_concurrent_rpcs=options.threads * (1 + _WAITING_PER_THREAD),
        )
        self._front: Front | None = None
        self._backend_folder: tempfile.TemporaryDirectory[str] | None = None
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _PredictionService(manager, metrics, options), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            _ModelService(manager, reload, metrics), self._server
        )
        self._health = Health(_HEALTH_NAMES)
        services = list(_SERVICES)
        if options.enable_health:
            self._server.add_generic_rpc_handlers((self._health.handler(),))
            services.append(HEALTH_SERVICE)
        self._server.add_generic_rpc_handlers(tuple(reflection_handlers(services)))

    def start(self) -> int:
        """Begin to accept requests and return the port.

        Raises:
          InvalidInputError: the address cannot be used.
        """
        try:
            return self._listen_with_front() if self._has_front() else self._listen()
        except RuntimeError as error:
            raise InvalidInputError(
                f"gRPC cannot listen on {self._options.address}: {error}; choose another --port, or 0 for "
                "any free one"
            ) from error

    def _has_front(self) -> bool:
        return self._options.use_front and is_built()

    def _listen(self) -> int:
        options = self._options
        if options.tls is None:
            port = self._server.add_insecure_port(options.address)
        else:
            port = self._server.add_secure_port(options.address, options.tls.grpc_credentials())
        if options.socket_path:
            self._server.add_insecure_port(f"unix:{options.socket_path}")
        self._server.start()
        return int(port)

    def _listen_with_front(self) -> int:
        """Listen with the front. This server answers what it passes on, on a socket that only we can open."""
        options = self._options
        folder = tempfile.gettempdir()
        self._backend_folder = tempfile.TemporaryDirectory(
            prefix="nann-serve-", dir=folder if len(folder) < _LONG_FOLDER else "/tmp"
        )
        backend = f"unix:{self._backend_folder.name}/grpc"
        self._server.add_insecure_port(backend)
        self._server.start()
        front = Front(self._manager.give_back, check_method_names=options.check_method_names)
        port = front.start(
            address=options.address,
            tls=options.tls,
            socket_path=options.socket_path,
            backend=backend,
            threads=options.threads,
            waiting=options.threads * _WAITING_PER_THREAD,
            arguments=self._arguments,
        )
        if port is None:
            raise RuntimeError("the address is in use, or is none of this machine")
        _log.info("gRPC: Predict requests run in C++")
        self._front = front
        self._metrics.count_with(front.take_counts)
        self._manager.share(front.update)
        return port

    def stop(self, drain_seconds: float) -> threading.Event:
        """Accept no more requests; the event is set when the running ones ended or the time is over."""
        self._health.stop()
        if self._front is None:
            return self._server.stop(drain_seconds)  # type: ignore[no-any-return]
        stopped = threading.Event()
        threading.Thread(
            target=self._stop_front, args=(drain_seconds, stopped), name="nann-grpc-stop"
        ).start()
        return stopped

    def _stop_front(self, drain_seconds: float, stopped: threading.Event) -> None:
        assert self._front is not None
        # First the front, since what it passed on needs this server.
        self._front.stop(drain_seconds)
        self._server.stop(0).wait()
        stopped.set()

    def close(self) -> None:
        """Release the front, after `stop` and after all models were unloaded."""
        if self._front is not None:
            self._metrics.count_with(lambda: ())
            self._front.close()
        if self._backend_folder is not None:
            self._backend_folder.cleanup()


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, manager: ModelManager, metrics: Metrics, options: GrpcOptions) -> None:
        self._manager = manager
        self._metrics = metrics
        self._check_method_names = options.check_method_names

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def run(lease: Lease, timeout_ms: int | None) -> Any:
            return predict_proto(
                lease.servable,
                request,
                version=lease.version,
                timeout_ms=timeout_ms,
                check_method_names=self._check_method_names,
            )

        return self._run("Predict", request, context, run)

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._run("Classify", request, context, self._inference(classify, request))

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._run("Regress", request, context, self._inference(regress, request))

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        # The first task chooses the model. One that chooses none has an empty name.
        first = inference_pb2.InferenceTask(model_spec=request.tasks[0].model_spec if request.tasks else {})
        return self._run("MultiInference", first, context, self._inference(multi_inference, request))

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _answer(context, lambda: self._metadata(request))

    def _inference(self, infer: Callable[..., Any], request: Any) -> _RunLeased:
        def run(lease: Lease, timeout_ms: int | None) -> Any:
            return infer(lease.servable, request, Run(lease.version, timeout_ms, self._check_method_names))

        return run

    def _run(self, api: str, request: Any, context: grpc.ServicerContext, run: _RunLeased) -> Any:
        """Answer a request whose `model_spec` chooses the model."""

        def work() -> Any:
            spec = request.model_spec
            with self._metrics.request(spec.name, api, "GRPC") as observation:
                observation.signature = spec.signature_name or DEFAULT_SIGNATURE
                name, version, label = _model_spec(request)
                lease = self._manager.lease(name, version=version, label=label)
                with lease as held, observation.running():
                    return run(held, _timeout_ms(context))

        return _answer(context, work)

    def _metadata(self, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        _describe.check_metadata_fields(request.metadata_field)
        name, version, label = _model_spec(request)
        with self._manager.lease(name, version=version, label=label) as lease:
            return _describe.metadata(name, lease)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, manager: ModelManager, reload: Callable[[Any], None], metrics: Metrics) -> None:
        self._manager = manager
        self._reload = reload
        self._metrics = metrics

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _answer(context, lambda: self._status(request))

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _answer(context, lambda: self._reload_config(request))

    def _status(self, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        return _describe.status(self._manager.statuses(spec.name, version=version))

    def _reload_config(self, request: Any) -> Any:
        before = {name: self._metrics.value(name) for name in request.metric_names}
        self._reload(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name, value in before.items():
            response.metric.add(name=name, int64_value_increase=self._metrics.value(name) - value)
        return response


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
    if remaining is None or remaining > _NO_LIMIT_SECONDS:
        return None
    if remaining <= 0:
        raise StatusError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
    # The run ends a little before the caller gives up, so that the caller gets the server's own words.
    # TensorFlow takes 0 for "no limit".
    milliseconds = int(remaining * 1000)
    return max(milliseconds - min(_ANSWER_MILLISECONDS, milliseconds // 10), 1)


def _answer(context: grpc.ServicerContext, work: Callable[[], Any]) -> Any:
    """Return the result of `work`, or end the request with the status of its error."""
    try:
        return work()
    except (StatusError, MemoryError) as error:
        status = as_status(error)
    except Exception as error:
        _log.exception("gRPC request failed")
        status = StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}")
    return context.abort(_CODES[int(status.code)], truncated(status.message))


def truncated(message: str) -> str:
    """Return a message, cut to the bytes that a status may have."""
    encoded = message.encode("utf-8", "surrogateescape")
    if len(encoded) <= _MAX_MESSAGE:
        return encoded.decode("utf-8", "replace")
    return encoded[:_MAX_MESSAGE].decode("utf-8", "replace") + _TRUNCATED
