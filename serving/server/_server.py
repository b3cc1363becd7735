"""The embedded server: connects the models, their manager and the two transports."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nann.ops
from nann.serving.server._batching import (
    PER_MODEL_FILE,
    BatchedServable,
    BatchingOptions,
    read_batching_parameters_file,
)
from nann.serving.server._config import ModelConfig
from nann.serving.server._console import Console
from nann.serving.server._grpc import GrpcOptions, GrpcServer
from nann.serving.server._http_server import HttpOptions, HttpServer
from nann.serving.server._manager import ManagerOptions, ModelManager
from nann.serving.server._metrics import Metrics
from nann.serving.server._reload import ConfigFilePoller, reload_config
from nann.serving.server._rest import RestApi, RestOptions
from nann.serving.server._servable import Servable, SessionOptions
from nann.serving.server._status import Code, StatusError
from nann.serving.server._tls import TlsConfig
from nann.serving.server._warmup import warm_up

_MAX_INT32 = 2**31 - 1


def default_threads() -> int:
    """Return how many requests a transport runs at once: 4 per CPU, as in TensorFlow Serving.

    >>> from nann.serving.server import default_threads
    >>> default_threads() % 4
    0
    """
    return 4 * (os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How to serve. A port of 0 takes any free port. The fields are named as TensorFlow Serving's flags.

    host: an IPv4 or IPv6 address or a host name; "::" takes both families.
    rest_api_timeout_in_ms: time limit of a REST request's run; 0 sets none.
    max_request_bytes: limit of a request's size.
    enable_front: have the front in C++ run Predict requests of gRPC; where it is not built, and with
        batching, Python runs them.
    prometheus_path: where REST shows the metrics, None if nowhere.
    model_config_file: the file to look at every `model_config_file_poll_wait_seconds`, 0 for never.
    tls: the keys for both ports; None serves without TLS.
    batching: how requests are joined; None runs each alone.
    enable_per_model_batching_parameters: join those of models with `assets.extra/batching_params.pbtxt`, and
        by that file.

    >>> from nann.serving.server import ManagerOptions, ServerOptions
    >>> options = ServerOptions(host="localhost", port=0, manager=ManagerOptions(poll_seconds=10))
    >>> options.rest_api_port
    8501
    """

    host: str = "0.0.0.0"
    port: int = 8500
    rest_api_port: int = 8501
    grpc_socket_path: str = ""
    grpc_max_threads: int = field(default_factory=default_threads)
    grpc_channel_arguments: tuple[tuple[str, int | str], ...] = ()
    rest_api_num_threads: int = field(default_factory=default_threads)
    rest_api_timeout_in_ms: int = 30_000
    rest_api_enable_cors_support: bool = False
    batching: BatchingOptions | None = None
    enable_per_model_batching_parameters: bool = False
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 1
    enable_signature_method_name_check: bool = False
    enable_grpc_healthcheck_service: bool = False
    model_config_file: Path | None = None
    model_config_file_poll_wait_seconds: float = 0
    max_request_bytes: int = 2**30
    enable_front: bool = True
    prometheus_path: str | None = None
    tls: TlsConfig | None = None
    session: SessionOptions = field(default_factory=SessionOptions)
    manager: ManagerOptions = field(default_factory=ManagerOptions)


@dataclass(frozen=True)
class Ports:
    """The ports that the server listens on.

    >>> from nann.serving.server import Ports
    >>> Ports(grpc=8500, rest=8501)
    Ports(grpc=8500, rest=8501)
    """

    grpc: int
    rest: int


class Server:
    """Serves models until it is stopped. Call `start`, then `stop`, each once.

    The page of the package has an example. `interrupt` may be called from any thread and from a signal
    handler.
    """

    def __init__(self, models: Sequence[ModelConfig], options: ServerOptions) -> None:
        self._models = models
        self._options = options
        self._metrics = Metrics()
        self._manager = ModelManager(models, self._load, options.manager)
        self._stopping = threading.Event()
        self._poller: ConfigFilePoller | None = None
        self._grpc: GrpcServer | None = None
        self._rest: HttpServer | None = None

    def start(self) -> Ports | None:
        """Load the models, then open the ports and return them; None if interrupted before.

        Raises:
          StatusError: a model cannot be served.
          InvalidInputError: an address cannot be used.
        """
        nann.ops.load_library()
        self._check_labels()
        self._manager.start()
        try:
            if self._manager.wait_until_available(self._stopping.is_set):
                return self._open_ports()
        except BaseException:
            self.stop(0)
            raise
        self.stop(0)
        return None

    def _check_labels(self) -> None:
        """Refuse labels at the start, when no version is available, as TensorFlow Serving does."""
        if self._options.manager.allow_labels_for_unavailable:
            return
        for model in self._models:
            for number in model.labels.values():
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {model.name}, which is not "
                    "currently available for inference; labels that are there from the start need "
                    "--allow_version_labels_for_unavailable_models",
                )

    def _open_ports(self) -> Ports:
        options = self._options
        poll_seconds = options.model_config_file_poll_wait_seconds
        if options.model_config_file is not None and poll_seconds:
            self._poller = ConfigFilePoller(
                self._manager, options.model_config_file, poll_seconds=poll_seconds
            )
            self._poller.start()
        self._grpc = GrpcServer(self._manager, self._reload, self._metrics, self._grpc_options())
        grpc_port = self._grpc.start()
        rest_options = RestOptions(
            timeout_ms=options.rest_api_timeout_in_ms or None,
            enable_cors=options.rest_api_enable_cors_support,
            check_method_names=options.enable_signature_method_name_check,
            metrics_path=options.prometheus_path,
        )
        api = RestApi(self._manager, rest_options, self._metrics)
        console = Console(self._manager, self._metrics)
        self._rest = HttpServer(
            lambda request: console.handle(request) or api.handle(request), self._http_options()
        )
        return Ports(grpc=grpc_port, rest=self._rest.start())

    def _grpc_options(self) -> GrpcOptions:
        options = self._options
        return GrpcOptions(
            address=f"{bracketed(options.host)}:{options.port}",
            threads=options.grpc_max_threads,
            max_message_bytes=min(options.max_request_bytes, _MAX_INT32),
            arguments=options.grpc_channel_arguments,
            tls=options.tls,
            socket_path=options.grpc_socket_path,
            use_front=options.enable_front and options.batching is None,
            enable_health=options.enable_grpc_healthcheck_service,
            check_method_names=options.enable_signature_method_name_check,
        )

    def _http_options(self) -> HttpOptions:
        options = self._options
        return HttpOptions(
            host=options.host.strip("[]"),
            port=options.rest_api_port,
            threads=options.rest_api_num_threads,
            max_body_bytes=options.max_request_bytes,
            ssl_context=options.tls.ssl_context() if options.tls is not None else None,
        )

    def _reload(self, config: Any) -> None:
        reload_config(self._manager, config, self._stopping.is_set)

    def interrupt(self) -> None:
        """Make a `start` that still waits for models stop the server and return."""
        self._stopping.set()
        self._manager.wake()

    def stop(self, drain_seconds: float) -> None:
        """Accept no more requests, wait up to `drain_seconds` for running ones, unload the models."""
        self.interrupt()
        if self._poller is not None:
            self._poller.stop()
        grpc_stopped = self._grpc.stop(drain_seconds) if self._grpc is not None else None
        if self._rest is not None:
            self._rest.stop(drain_seconds)
        if grpc_stopped is not None:
            grpc_stopped.wait()
        self._manager.stop()
        if self._grpc is not None:
            self._grpc.close()

    def _open(self, path: Path) -> Servable:
        batching = self._options.batching
        if batching is not None and self._options.enable_per_model_batching_parameters:
            own = path / PER_MODEL_FILE
            batching = read_batching_parameters_file(own) if own.is_file() else None
        if batching is None:
            return Servable(path, self._options.session)
        return BatchedServable(path, self._options.session, batching)

    def _load(self, name: str, version: int, path: Path) -> Servable:
        started = time.monotonic()
        try:
            servable = self._open(path)
        except BaseException:
            self._metrics.loaded(str(path), succeeded=False, seconds=time.monotonic() - started)
            raise
        self._metrics.loaded(str(path), succeeded=True, seconds=time.monotonic() - started)
        self._metrics.expect(name, servable.signatures)
        if self._options.enable_model_warmup:
            try:
                iterations = self._options.num_request_iterations_for_warmup
                warm_up(servable, path, version=version, iterations=iterations)
            except BaseException:
                servable.close()
                raise
        return servable


def bracketed(host: str) -> str:
    """Return a host as it stands before ":port": an IPv6 address gets brackets.

    >>> bracketed("::1"), bracketed("[::]"), bracketed("0.0.0.0")
    ('[::1]', '[::]', '0.0.0.0')
    """
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
