"""The embedded server: connects the models, their manager and the two transports."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

import nann.ops
from nann.serving.server._config import ModelConfig
from nann.serving.server._grpc import start_grpc
from nann.serving.server._manager import ManagerOptions, ModelManager
from nann.serving.server._rest import RestApi, RestServer
from nann.serving.server._servable import Servable, SessionOptions
from nann.serving.server._warmup import warm_up


def default_threads() -> int:
    """Return how many requests a transport runs at once: 4 per CPU, as in TensorFlow Serving.

    >>> from nann.serving.server import default_threads
    >>> default_threads() % 4
    0
    """
    return 4 * (os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How to serve. A port of 0 takes any free port.

    >>> from nann.serving.server import ManagerOptions, ServerOptions
    >>> options = ServerOptions(host="localhost", port=0, manager=ManagerOptions(poll_seconds=10))
    >>> options.rest_api_port
    8501
    """

    host: str = "0.0.0.0"
    port: int = 8500
    rest_api_port: int = 8501
    grpc_max_threads: int = field(default_factory=default_threads)
    rest_api_num_threads: int = field(default_factory=default_threads)
    rest_api_timeout_in_ms: int = 30_000
    enable_model_warmup: bool = True
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
        self._options = options
        self._manager = ModelManager(models, self._load, options.manager)
        self._stopping = threading.Event()
        self._grpc: grpc.Server | None = None
        self._rest: RestServer | None = None

    def start(self) -> Ports | None:
        """Load the models, then open the ports and return them; None if interrupted before.

        Raises:
          StatusError: a model cannot be served.
          InvalidInputError: an address cannot be used.
        """
        nann.ops.load_library()
        self._manager.start()
        try:
            if self._manager.wait_until_available(self._stopping.is_set):
                return self._open_ports()
        except BaseException:
            self.stop(0)
            raise
        self.stop(0)
        return None

    def _open_ports(self) -> Ports:
        options = self._options
        self._grpc, grpc_port = start_grpc(
            self._manager, address=f"{options.host}:{options.port}", threads=options.grpc_max_threads
        )
        self._rest = RestServer(
            RestApi(self._manager, timeout_ms=options.rest_api_timeout_in_ms),
            host=options.host,
            port=options.rest_api_port,
            threads=options.rest_api_num_threads,
        )
        return Ports(grpc=grpc_port, rest=self._rest.start())

    def interrupt(self) -> None:
        """Make a `start` that still waits for models stop the server and return."""
        self._stopping.set()
        self._manager.wake()

    def stop(self, drain_seconds: float) -> None:
        """Accept no more requests, wait up to `drain_seconds` for running ones, unload the models."""
        grpc_stopped = self._grpc.stop(drain_seconds) if self._grpc is not None else None
        if self._rest is not None:
            self._rest.stop(drain_seconds)
        if grpc_stopped is not None:
            grpc_stopped.wait()
        self._manager.stop()

    def _load(self, name: str, version: int, path: Path) -> Servable:
        servable = Servable(path, self._options.session)
        if self._options.enable_model_warmup:
            try:
                warm_up(servable, path, version=version)
            except BaseException:
                servable.close()
                raise
        return servable
