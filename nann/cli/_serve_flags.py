"""The flags of `nann serve`: those of `tensorflow_model_server`, and a few of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nann.errors import InvalidInputError

# gRPC takes a larger number modulo 65,536, and then listens on a port that nobody asked for.
_PORT = click.IntRange(0, 65_535)
_POSITIVE = click.IntRange(1)
_COUNT = click.IntRange(0)
_PATH = click.Path(path_type=Path)
_SERVING_DEFAULT_THREADS = "4 per CPU"

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _flag(name: str, **options: Any) -> _Decorator:
    return click.option(f"--{name}", **options)


def _switch(name: str, text: str, *, default: bool = False) -> _Decorator:
    """Return a flag that may stand alone or have a value: `--x`, `--x=true`, `--x=false`."""
    return click.option(f"--{name}", type=bool, is_flag=False, flag_value=True, default=default, help=text)


_IMPLEMENTED: list[_Decorator] = [
    _flag("model_name", default="default", help="Name that callers use for the model."),
    _flag("model_base_path", type=_PATH, help="Folder that contains the version folders, named by numbers."),
    _flag(
        "model_config_file",
        type=_PATH,
        help="Text-format ModelServerConfig file; with it, --model_name and --model_base_path do nothing.",
    ),
    _flag(
        "model_config_file_poll_wait_seconds",
        type=_COUNT,
        default=0,
        help="Seconds between checks of the config file; 0: read once.",
    ),
    _flag("port", type=_PORT, default=8500, help="gRPC port. 0: any free port."),
    _flag("grpc_socket_path", default="", help="Unix socket to serve gRPC on as well."),
    _flag("rest_api_port", type=_PORT, default=8501, help="REST port. 0: any free port."),
    _flag(
        "grpc_max_threads",
        type=_POSITIVE,
        show_default=_SERVING_DEFAULT_THREADS,
        help="Concurrent gRPC requests.",
    ),
    _flag("grpc_channel_arguments", default="", help="gRPC channel arguments: NAME=VALUE[,...]."),
    _flag(
        "rest_api_num_threads",
        type=_POSITIVE,
        show_default=_SERVING_DEFAULT_THREADS,
        help="Concurrent REST requests.",
    ),
    _flag(
        "rest_api_timeout_in_ms", type=_COUNT, default=30_000, help="Time limit of a REST request. 0: none."
    ),
    _switch("rest_api_enable_cors_support", "Let pages of other sites call the REST API."),
    _flag(
        "file_system_poll_wait_seconds",
        type=_COUNT,
        default=1,
        help="Seconds between checks for new versions; 0: check once.",
    ),
    _flag("num_load_threads", type=_COUNT, default=0, help="Loads at once. 0: no limit."),
    _flag("max_num_load_retries", type=_COUNT, default=5, help="How often a failed load is retried."),
    _flag(
        "load_retry_interval_micros",
        type=_COUNT,
        default=60_000_000,
        help="Time before a failed load is retried.",
    ),
    _switch("enable_batching", "Join requests that come at the same time."),
    _flag("batching_parameters_file", type=_PATH, help="Text BatchingParameters; needs --enable_batching."),
    _switch(
        "enable_per_model_batching_parameters",
        "Join the requests of models with assets.extra/batching_params.pbtxt, and by that file.",
    ),
    _switch("enable_model_warmup", "Run a version's warm-up requests before it serves.", default=True),
    _flag(
        "num_request_iterations_for_warmup",
        type=_COUNT,
        default=0,
        help="How often each warm-up request is run. 0: once.",
    ),
    _switch(
        "allow_version_labels_for_unavailable_models",
        "Accept labels of versions that are not available, unless the label was that of another version.",
    ),
    _flag("saved_model_tags", default="serve", help="Comma-separated tags of the meta graph to load."),
    _flag(
        "tensorflow_session_parallelism",
        type=_COUNT,
        default=0,
        help="Threads per op and concurrent ops. 0: set by the two flags for these.",
    ),
    _flag("tensorflow_intra_op_parallelism", type=_COUNT, default=0, help="Threads per op. 0: automatic."),
    _flag("tensorflow_inter_op_parallelism", type=_COUNT, default=0, help="Concurrent ops. 0: automatic."),
    _flag(
        "tensorflow_session_config_file",
        type=_PATH,
        help="Text ConfigProto for the TensorFlow sessions. Without it, their threads do not spin.",
    ),
    _flag("ssl_config_file", type=_PATH, help="Text SSLConfig: serve both ports with TLS."),
    _flag("monitoring_config_file", type=_PATH, help="Text MonitoringConfig: show metrics for Prometheus."),
    _switch(
        "enable_signature_method_name_check",
        "Classify and regress only by signatures made for it, predict only by those of any API.",
    ),
    _switch("enable_grpc_healthcheck_service", "Answer gRPC health checks."),
    # These change nothing that a caller sees.
    _switch("flush_filesystem_caches", "No effect: nothing is cached.", default=True),
    _switch("remove_unused_fields_from_bundle_metagraph", "No effect: none are kept.", default=True),
]

_OWN: list[_Decorator] = [
    _flag("host", default="0.0.0.0", help='Address to listen on. "::": IPv6 and IPv4.'),
    _flag(
        "drain_seconds",
        type=click.FloatRange(0),
        default=30.0,
        help="Time limit for running requests after SIGTERM.",
    ),
    _flag("nann_max_request_bytes", type=_POSITIVE, default=2**30, help="Limit of the size of a request."),
    _switch(
        "nann_front",
        "Run Predict requests of gRPC in C++. Python runs them where the library is not built, with TLS, and "
        "with batching.",
        default=True,
    ),
]

# Flags of tensorflow_model_server that are refused: the value that is accepted, and why no other is.
_REFUSED: dict[str, tuple[str, str]] = {
    "num_unload_threads": ("0", "a version is unloaded by the thread of its last request"),
    "use_alts_credentials": ("false", "ALTS works on Google Cloud only; use --ssl_config_file"),
    "platform_config_file": ("", "SavedModels are the only platform"),
    "per_process_gpu_memory_fraction": ("0", "the ops of NANN run on processors only"),
    "prefer_tflite_model": ("false", "TensorFlow Lite cannot run the ops of NANN"),
    "num_tflite_pools": ("", "TensorFlow Lite cannot run the ops of NANN"),
    "num_tflite_interpreters_per_pool": ("1", "TensorFlow Lite cannot run the ops of NANN"),
    "xla_cpu_compilation_enabled": ("false", "XLA compiles a search again for each number of rows"),
    "xla_gpu_compilation_enabled": ("false", "the ops of NANN run on processors only"),
    "enable_profiler": ("false", "there is no profiler service; `nann bench run` shows where time goes"),
    "thread_pool_factory_config_file": ("", "the sessions of TensorFlow's Python API have their own threads"),
    "mixed_precision": ("", "an export has its precision; see `nann export --precision`"),
    "skip_initialize_tpu": ("false", "TPUs are not supported"),
    "enable_serialization_as_tensor_content": ("false", "it makes TensorFlow Serving's REST answers wrong"),
}
_FALSE = {"false", "0", "f", "no"}


def server_flags(command: Callable[..., Any]) -> Any:
    """Add all flags to a command. Those that are refused arrive in `refused` if they were given."""
    refused = [
        click.option(f"--{name}", hidden=True, is_flag=False, flag_value="true", default=None)
        for name in _REFUSED
    ]
    decorated: Any = command
    for decorate in reversed([*_IMPLEMENTED, *_OWN, *refused]):
        decorated = decorate(decorated)
    return decorated


def check_refused(flags: dict[str, Any]) -> None:
    """Take the refused flags out of `flags`.

    Raises:
      InvalidInputError: one has a value that this server cannot follow.
    """
    for name, (accepted, reason) in _REFUSED.items():
        value = flags.pop(name)
        if value is None or value == accepted or (accepted == "false" and value.lower() in _FALSE):
            continue
        raise InvalidInputError(
            f"--{name}={value} is not supported by nann serve: {reason}. Leave the flag out, or use "
            "tensorflow_model_server"
        )


def channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """Return gRPC channel arguments as gRPC takes them; a value that is a number becomes one.

    >>> channel_arguments("grpc.max_connection_age_ms=2000,grpc.lb_policy_name=pick_first")
    (('grpc.max_connection_age_ms', 2000), ('grpc.lb_policy_name', 'pick_first'))
    """
    found: list[tuple[str, int | str]] = []
    for argument in filter(None, text.split(",")):
        name, equals, value = argument.partition("=")
        if not name or not equals:
            raise InvalidInputError(
                f"--grpc_channel_arguments: expected NAME=VALUE[,...], got {argument!r} in {text!r}"
            )
        found.append((name, int(value) if value.lstrip("-").isdigit() else value))
    return tuple(found)
