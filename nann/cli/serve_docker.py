"""`nann serve-docker`: serve a model in a container."""

from __future__ import annotations

import contextlib
import json
import queue
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nann.cli._console import json_option
from nann.errors import InvalidFileError, InvalidInputError, MissingDependencyError, NannError

if TYPE_CHECKING:
    from docker.models.containers import Container

# Ports inside the container: the entry point's.
_GRPC, _REST = 8500, 8501
_PRELOAD_FOLDER = "/usr/local/lib/nann"
_PRELOAD_FILES = ("entrypoint", "libnann_ops.so", "libnann_preload.so")
# Nobody on Debian and Ubuntu: a stock image would run as root.
_NOBODY = "65534:65534"
# What a container ends with that was stopped by SIGTERM.
_STOPPED = (0, 128 + signal.SIGTERM)
_PORT = click.IntRange(0, 65_535)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One container, for the engine and as the `docker run` line of the same meaning."""

    image: str
    model_name: str
    model_base_path: Path
    port: int
    rest_api_port: int
    preload: Path | None
    memory: str | None
    cpus: float | None
    server_flags: tuple[str, ...]

    def _mounts(self) -> dict[str, str]:
        mounts = {str(self.model_base_path): f"/models/{self.model_name}"}
        return mounts | ({str(self.preload): _PRELOAD_FOLDER} if self.preload else {})

    def line(self) -> str:
        words = ["docker", "run", "--rm", "--read-only", "--cap-drop", "ALL"]
        words += ["--security-opt", "no-new-privileges"]
        for inside, outside in ((_GRPC, self.port), (_REST, self.rest_api_port)):
            words += ["-p", f"{outside}:{inside}" if outside else str(inside)]
        for source, target in self._mounts().items():
            words += ["-v", f"{source}:{target}:ro"]
        words += ["-e", f"MODEL_NAME={self.model_name}"]
        if self.preload:
            words += ["--init", "--user", _NOBODY, "--entrypoint", f"{_PRELOAD_FOLDER}/entrypoint"]
        if self.memory:
            words += ["--memory", self.memory]
        if self.cpus:
            words += ["--cpus", f"{self.cpus:g}"]
        return shlex.join([*words, self.image, *self.server_flags])

    def options(self) -> dict[str, Any]:
        """As docker.models.containers.ContainerCollection.run takes them."""
        options: dict[str, Any] = {
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "ports": {f"{_GRPC}/tcp": self.port or None, f"{_REST}/tcp": self.rest_api_port or None},
            "volumes": {source: {"bind": target, "mode": "ro"} for source, target in self._mounts().items()},
            "environment": {"MODEL_NAME": self.model_name},
        }
        if self.preload:
            options |= {"init": True, "user": _NOBODY, "entrypoint": [f"{_PRELOAD_FOLDER}/entrypoint"]}
        if self.memory:
            options["mem_limit"] = self.memory
        if self.cpus:
            options["nano_cpus"] = round(self.cpus * 1e9)
        return options


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--model_name", default="default", show_default=True, help="Name that callers use for the model."
)
@click.option(
    "--model_base_path",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder whose sub-folders named by numbers are the model's versions.",
)
@click.option(
    "--image",
    default="nann-serving",
    show_default=True,
    help="Image built from Dockerfile.serving, or tensorflow/serving.",
)
@click.option(
    "--preload",
    type=click.Path(path_type=Path),
    help="For a stock tensorflow/serving image: the folder that `make preload` wrote for its version.",
)
@click.option("--port", type=_PORT, default=8500, show_default=True, help="gRPC port; 0: any free one.")
@click.option(
    "--rest_api_port", type=_PORT, default=8501, show_default=True, help="REST port; 0: any free one."
)
@click.option("--memory", help="Limit of memory, e.g. 8g.")
@click.option("--cpus", type=click.FloatRange(0, min_open=True), help="Limit of processors, e.g. 2.")
@click.option("--print", "print_only", is_flag=True, help="Print the `docker run` line and run nothing.")
@json_option
@click.argument("server_flags", nargs=-1, type=click.UNPROCESSED, metavar="[SERVER_FLAGS]...")
def command(*, print_only: bool, as_json: bool, **settings: Any) -> None:
    """Serve a model in a container until SIGTERM or Ctrl-C, with its log on standard error.

    The container's root file system and the model are read-only, and it has no privileges. Flags that are
    not listed here go to the server inside.
    """
    run = _Run(**_checked(settings))
    if print_only:
        click.echo(json.dumps({"command": run.line()}) if as_json else run.line())
        return
    with _started(run) as container:
        _tell(container, run.model_name, as_json)
        status = _follow(container)
    if status not in _STOPPED:
        raise NannError(
            f"the container of {run.image} ended with exit code {status}: its last lines above say why"
        )


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    base_path, preload = settings["model_base_path"], settings["preload"]
    # The engine would make a missing folder, empty and owned by root.
    if not base_path.is_dir():
        raise InvalidInputError(
            f"{base_path}: expected the folder above the model's version folders, found none. "
            "`nann export --out MODELS/nann/1` writes one; --model_base_path is then MODELS/nann."
        )
    if preload is not None:
        for name in _PRELOAD_FILES:
            if not (preload / name).is_file():
                raise InvalidFileError(
                    f"{preload / name}: not found. `make preload TENSORFLOW=2.20` writes such a folder, "
                    "for the version of the stock image."
                )
        settings["preload"] = preload.resolve()
    return settings | {"model_base_path": base_path.resolve()}


@contextlib.contextmanager
def _started(run: _Run) -> Iterator[Container]:
    try:
        import docker
        from docker.errors import APIError, DockerException, ImageNotFound
        from requests.exceptions import RequestException
    except ImportError as error:
        raise MissingDependencyError(
            f"nann serve-docker: {error}. Install what it needs with `pip install nann[docker]`, "
            "or run the line that --print gives."
        ) from error

    try:
        client = docker.from_env()
    except DockerException as error:
        raise NannError(
            f"no Docker engine answers: {error}. Start it, or set DOCKER_HOST to where it listens."
        ) from error
    with contextlib.closing(client):
        try:
            try:
                client.images.get(run.image)
            except ImageNotFound:  # Pulled, as `docker run` does.
                client.images.pull(run.image)
            container = client.containers.create(run.image, list(run.server_flags), **run.options())
        except APIError as error:
            raise NannError(
                f"{run.image}: {error.explanation}. Images of this project are built, not pulled "
                "(docs/docker.md); --image takes any name."
            ) from error
        try:
            container.start()
            yield container
        except (APIError, RequestException) as error:
            raise NannError(f"{run.image}: the engine refuses or has gone: {error}") from error
        finally:
            with contextlib.suppress(APIError, RequestException):
                container.remove(force=True)


def _tell(container: Container, model_name: str, as_json: bool) -> None:
    container.reload()
    published = [container.ports.get(f"{port}/tcp") for port in (_GRPC, _REST)]
    if not all(published):
        return  # It has ended already: its log says why.
    grpc, rest = (f"localhost:{addresses[0]['HostPort']}" for addresses in published if addresses)
    if as_json:
        click.echo(json.dumps({"container": container.short_id, "grpc": grpc, "rest": rest}))
    else:
        click.echo(f"Serving {model_name} in container {container.short_id}: gRPC on {grpc}, REST on {rest}")


def _follow(container: Container) -> int:
    """Show the container's log until it has ended; return its exit code.

    A first SIGTERM or Ctrl-C lets requests under way end, a second does not.
    """
    from docker.errors import APIError

    signals: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    names = iter(["SIGTERM"])

    def on_signal(number: int, frame: object) -> None:
        signals.put(next(names, "SIGKILL"))

    def show_log() -> None:
        try:
            for chunk in container.logs(stream=True, follow=True):
                sys.stderr.buffer.write(chunk)
                sys.stderr.flush()
        finally:
            signals.put(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    reader = threading.Thread(target=show_log, daemon=True)
    reader.start()
    while (name := signals.get()) is not None:
        # It may have ended by itself in this moment.
        with contextlib.suppress(APIError):
            container.kill(name)
    status: int = container.wait()["StatusCode"]
    return status
