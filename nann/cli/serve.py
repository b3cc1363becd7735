"""`nann serve`: serve models with TensorFlow Serving's protocol."""

from __future__ import annotations

import gc
import json
import logging
import resource
import threading
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nann.cli._console import import_tensorflow, json_option
from nann.cli._serve_flags import channel_arguments, check_refused, server_flags
from nann.cli._signals import on_termination
from nann.errors import InvalidInputError, MissingDependencyError
from nann.version import __version__

if TYPE_CHECKING:
    from nann.serving.server import (
        BatchingOptions,
        ManagerOptions,
        ModelConfig,
        ServerOptions,
        SessionOptions,
    )

_SAME_NAMES = (
    "host",
    "port",
    "rest_api_port",
    "grpc_socket_path",
    "rest_api_timeout_in_ms",
    "rest_api_enable_cors_support",
    "enable_per_model_batching_parameters",
    "enable_model_warmup",
    "enable_signature_method_name_check",
    "enable_grpc_healthcheck_service",
    "model_config_file_poll_wait_seconds",
)
_log = logging.getLogger("nann.serving")
# Addresses to listen on that callers cannot connect to by that name.
_WILDCARDS = ("0.0.0.0", "[::]", "::")
# Limit of open files where the system has none: as many as Linux lets a process have by default.
_MOST_FILES = 2**20


@click.command(context_settings={"show_default": True})
@server_flags
@click.option("--version", is_flag=True, help="Print the versions and exit.")
@json_option
def command(
    *,
    model_name: str,
    model_base_path: Path | None,
    model_config_file: Path | None,
    drain_seconds: float,
    version: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Serve models over gRPC and REST until SIGTERM or Ctrl-C.

    The protocol, the ports and the names of the flags are those of tensorflow_model_server. When a new
    version appears in the base path, the server loads it and switches to it.
    """
    if version:
        click.echo(f"NANN ModelServer: {__version__}\nTensorFlow Library: {metadata.version('tensorflow')}")
        return
    check_refused(flags)
    if model_base_path is None and model_config_file is None:
        raise InvalidInputError(
            "expected either --model_base_path DIR, the folder that contains the version folders, "
            "or --model_config_file FILE; got neither"
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    _allow_connections()

    try:
        import_tensorflow(without_keras=True)
        from nann.serving.server import Server, bracketed
    except ImportError as error:
        raise MissingDependencyError(
            f"nann serve: {error}. Install the packages that it needs: `pip install nann[tensorflow]`."
        ) from error

    # When a version is unloaded, the garbage collector frees its graph, and no request is answered meanwhile.
    # TensorFlow's own objects never become garbage. Excluding them here shortens that pause from half a
    # second to milliseconds.
    gc.freeze()
    models = _models(model_name, model_base_path, model_config_file)
    server = Server(models, _options(flags, model_config_file))
    stop = threading.Event()

    def end() -> None:
        stop.set()
        server.interrupt()

    on_termination(end)
    ports = server.start()
    if ports is None:
        return
    host = "localhost" if flags["host"] in _WILDCARDS else bracketed(flags["host"])
    grpc_address, rest_address = f"{host}:{ports.grpc}", f"{host}:{ports.rest}"
    if as_json:
        ready = {"grpc": grpc_address, "rest": rest_address, "models": [model.name for model in models]}
        click.echo(json.dumps(ready))
    else:
        served = [f"{model.name} (versions from {model.base_path})" for model in models]
        for model in served or ["no model yet"]:
            click.echo(f"Serving {model}: gRPC on {grpc_address}, REST on {rest_address}")
    stop.wait()
    _log.info("stopping: waiting up to %g s for running requests", drain_seconds)
    server.stop(drain_seconds)


def _allow_connections() -> None:
    """Raise the limit of open files as far as it goes: each connection is one, and shells set it to 1,024.

    gRPC's C++ library up to 1.51 accepts no connection any more once one failed at this limit.
    """
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if most == resource.RLIM_INFINITY else min(most, _MOST_FILES)
    if limit != resource.RLIM_INFINITY and limit < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _models(name: str, base_path: Path | None, config_file: Path | None) -> list[ModelConfig]:
    from nann.serving.server import ModelConfig, read_model_config_file

    if config_file is not None:
        return read_model_config_file(config_file)
    assert base_path is not None
    return [ModelConfig(name=name, base_path=base_path)]


def _options(flags: dict[str, Any], model_config_file: Path | None) -> ServerOptions:
    from nann.serving.server import (
        ServerOptions,
        default_threads,
        read_monitoring_config_file,
        read_ssl_config_file,
    )

    monitoring, ssl = flags["monitoring_config_file"], flags["ssl_config_file"]
    return ServerOptions(
        **{name: flags[name] for name in _SAME_NAMES},
        grpc_max_threads=flags["grpc_max_threads"] or default_threads(),
        rest_api_num_threads=flags["rest_api_num_threads"] or default_threads(),
        grpc_channel_arguments=channel_arguments(flags["grpc_channel_arguments"]),
        num_request_iterations_for_warmup=flags["num_request_iterations_for_warmup"] or 1,
        model_config_file=model_config_file,
        max_request_bytes=flags["nann_max_request_bytes"],
        enable_front=flags["nann_front"],
        prometheus_path=read_monitoring_config_file(monitoring) if monitoring is not None else None,
        tls=read_ssl_config_file(ssl) if ssl is not None else None,
        batching=_batching(flags),
        session=_session(flags),
        manager=_manager(flags),
    )


def _batching(flags: dict[str, Any]) -> BatchingOptions | None:
    from nann.serving.server import BatchingOptions, read_batching_parameters_file

    file = flags["batching_parameters_file"]
    if not flags["enable_batching"]:
        if file is not None:
            raise InvalidInputError("--batching_parameters_file needs --enable_batching")
        return None
    return BatchingOptions() if file is None else read_batching_parameters_file(file)


def _session(flags: dict[str, Any]) -> SessionOptions:
    from nann.serving.server import SessionOptions

    both = flags["tensorflow_session_parallelism"]
    return SessionOptions(
        tags=tuple(flags["saved_model_tags"].split(",")),
        intra_op_threads=both or flags["tensorflow_intra_op_parallelism"],
        inter_op_threads=both or flags["tensorflow_inter_op_parallelism"],
        config_file=flags["tensorflow_session_config_file"],
    )


def _manager(flags: dict[str, Any]) -> ManagerOptions:
    from nann.serving.server import ManagerOptions

    return ManagerOptions(
        poll_seconds=flags["file_system_poll_wait_seconds"],
        load_threads=flags["num_load_threads"],
        max_load_retries=flags["max_num_load_retries"],
        load_retry_seconds=flags["load_retry_interval_micros"] / 1e6,
        allow_labels_for_unavailable=flags["allow_version_labels_for_unavailable_models"],
    )
