"""`nann serve`: serve models with TensorFlow Serving's protocol."""

from __future__ import annotations

import gc
import json
import logging
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nann.cli._console import import_tensorflow, json_option
from nann.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    from nann.serving.server import ModelConfig, ServerOptions

_log = logging.getLogger("nann.serving")
# gRPC takes a larger number modulo 65,536, and then listens on a port that nobody asked for.
_PORT = click.IntRange(0, 65_535)
_POSITIVE = click.IntRange(1)
_COUNT = click.IntRange(0)
_PATH = click.Path(path_type=Path)
# Addresses to listen on that callers cannot connect to by that name.
_WILDCARDS = ("0.0.0.0", "[::]", "::")


@click.command(context_settings={"show_default": True})
@click.option("--model_name", default="default", help="Name that callers use for the model.")
@click.option(
    "--model_base_path", type=_PATH, help="Folder that contains the version folders, named by numbers."
)
@click.option(
    "--model_config_file", type=_PATH, help="Text-format ModelServerConfig file with one or more models."
)
@click.option("--host", default="0.0.0.0", help="Address to listen on.")
@click.option("--port", type=_PORT, default=8500, help="gRPC port. 0: any free port.")
@click.option("--rest_api_port", type=_PORT, default=8501, help="REST port. 0: any free port.")
@click.option(
    "--grpc_max_threads", type=_POSITIVE, show_default="4 per CPU", help="Concurrent gRPC requests."
)
@click.option(
    "--rest_api_num_threads", type=_POSITIVE, show_default="4 per CPU", help="Concurrent REST requests."
)
@click.option(
    "--rest_api_timeout_in_ms", type=_POSITIVE, default=30_000, help="Time limit of a REST request."
)
@click.option(
    "--file_system_poll_wait_seconds",
    type=_COUNT,
    default=1,
    help="Seconds between checks for new versions; 0: check once.",
)
@click.option("--max_num_load_retries", type=_COUNT, default=5, help="How often a failed load is retried.")
@click.option(
    "--load_retry_interval_micros",
    type=_COUNT,
    default=60_000_000,
    help="Time before a failed load is retried.",
)
@click.option(
    "--enable_model_warmup",
    type=bool,
    default=True,
    help="Run a version's warm-up requests before it serves.",
)
@click.option(
    "--allow_version_labels_for_unavailable_models",
    type=bool,
    default=False,
    help="Start even if a label names a version that is not available.",
)
@click.option("--saved_model_tags", default="serve", help="Comma-separated tags of the meta graph to load.")
@click.option(
    "--tensorflow_intra_op_parallelism", type=_COUNT, default=0, help="Threads per op. 0: automatic."
)
@click.option(
    "--tensorflow_inter_op_parallelism", type=_COUNT, default=0, help="Concurrent ops. 0: automatic."
)
@click.option(
    "--drain_seconds",
    type=click.FloatRange(0),
    default=30.0,
    help="Time limit for running requests after SIGTERM.",
)
@json_option
def command(
    *,
    model_name: str,
    model_base_path: Path | None,
    model_config_file: Path | None,
    drain_seconds: float,
    as_json: bool,
    **flags: Any,
) -> None:
    """Serve models over gRPC and REST until SIGTERM or Ctrl-C.

    The protocol, the ports and the names of the flags are those of tensorflow_model_server. When a new
    version appears in the base path, the server loads it and switches to it.
    """
    if (model_base_path is None) == (model_config_file is None):
        raise InvalidInputError(
            "expected either --model_base_path DIR, the folder that contains the version folders, "
            f"or --model_config_file FILE; got {'neither' if model_base_path is None else 'both'}"
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)

    try:
        import_tensorflow()
        from nann.serving.server import Server
    except ImportError as error:
        raise MissingDependencyError(
            f"nann serve: {error}. Install the packages that it needs: `pip install nann[tensorflow]`."
        ) from error

    # When a version is unloaded, the garbage collector frees its graph, and no request is answered meanwhile.
    # TensorFlow's own objects never become garbage. Excluding them here shortens that pause from half a
    # second to milliseconds.
    gc.freeze()
    models = _models(model_name, model_base_path, model_config_file)
    server = Server(models, _options(flags))
    stop = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        # A second signal ends the process at once.
        signal.signal(number, signal.SIG_DFL)
        stop.set()
        server.interrupt()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    ports = server.start()
    if ports is None:
        return
    host = "localhost" if flags["host"] in _WILDCARDS else flags["host"]
    grpc_address, rest_address = f"{host}:{ports.grpc}", f"{host}:{ports.rest}"
    if as_json:
        ready = {"grpc": grpc_address, "rest": rest_address, "models": [model.name for model in models]}
        click.echo(json.dumps(ready))
    else:
        for model in models:
            click.echo(
                f"Serving {model.name} (versions from {model.base_path}): "
                f"gRPC on {grpc_address}, REST on {rest_address}"
            )
    stop.wait()
    _log.info("stopping: waiting up to %g s for running requests", drain_seconds)
    server.stop(drain_seconds)


def _models(name: str, base_path: Path | None, config_file: Path | None) -> list[ModelConfig]:
    from nann.serving.server import ModelConfig, read_model_config_file

    if config_file is not None:
        return read_model_config_file(config_file)
    assert base_path is not None
    return [ModelConfig(name=name, base_path=base_path)]


def _options(flags: dict[str, Any]) -> ServerOptions:
    from nann.serving.server import ManagerOptions, ServerOptions, SessionOptions, default_threads

    return ServerOptions(
        host=flags["host"],
        port=flags["port"],
        rest_api_port=flags["rest_api_port"],
        grpc_max_threads=flags["grpc_max_threads"] or default_threads(),
        rest_api_num_threads=flags["rest_api_num_threads"] or default_threads(),
        rest_api_timeout_in_ms=flags["rest_api_timeout_in_ms"],
        enable_model_warmup=flags["enable_model_warmup"],
        session=SessionOptions(
            tags=tuple(flags["saved_model_tags"].split(",")),
            intra_op_threads=flags["tensorflow_intra_op_parallelism"],
            inter_op_threads=flags["tensorflow_inter_op_parallelism"],
        ),
        manager=ManagerOptions(
            poll_seconds=flags["file_system_poll_wait_seconds"],
            max_load_retries=flags["max_num_load_retries"],
            load_retry_seconds=flags["load_retry_interval_micros"] / 1e6,
            allow_labels_for_unavailable=flags["allow_version_labels_for_unavailable_models"],
        ),
    )
