"""A Docker engine for tests: the one that answers, or one of our own that ends with the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
from docker.errors import DockerException

from support.processes import ROOT

# Images and build cache stay here between runs; `make clean` removes them.
_DATA = ROOT / "build" / "docker"


class NoEngine(Exception):  # noqa: N818
    """Why there is none."""


@contextlib.contextmanager
def engine() -> Iterator[str]:
    """Yield the address of an engine, as DOCKER_HOST has it. Raises NoEngine where none can be had."""
    try:
        client = docker.from_env()
    except DockerException as error:
        unreachable = error
    else:
        with contextlib.closing(client):
            client.ping()
        yield os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        return
    if "DOCKER_HOST" in os.environ:
        raise NoEngine(f"no engine answers at DOCKER_HOST {os.environ['DOCKER_HOST']}: {unreachable}")
    if shutil.which("dockerd") is None:
        raise NoEngine("no engine answers, and dockerd is not installed: apt-get install docker.io")
    if os.geteuid() != 0:
        raise NoEngine("no engine answers, and only root can start dockerd")
    with _own_engine() as address:
        yield address


@contextlib.contextmanager
def _own_engine() -> Iterator[str]:
    # A socket's path may have about 100 characters, fewer than that of a deep checkout.
    with tempfile.TemporaryDirectory(prefix="nann-docker-") as folder:
        address = f"unix://{folder}/docker.sock"
        places = ["--data-root", _DATA, "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
        process = subprocess.Popen(
            ["dockerd", "--host", address, *places], stderr=subprocess.PIPE, text=True, errors="replace"
        )
        log: list[str] = []
        is_ready = threading.Event()

        def read_log() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                log.append(line)
                if "API listen on" in line:
                    is_ready.set()
            is_ready.set()

        reader = threading.Thread(target=read_log)
        reader.start()
        try:
            is_ready.wait(120)
            if not Path(folder, "docker.sock").exists() or process.poll() is not None:
                raise NoEngine("dockerd does not start:\n" + "".join(log[-15:]))
            yield address
        finally:
            process.terminate()
            process.wait()
            reader.join()


def debian_mirror(codename: str) -> str:
    """Where this machine's apt takes packages of a Debian release from."""
    listed = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI)",
            f"Codename: {codename}",
            "Created-By: Packages",
        ],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    if not listed:
        raise NoEngine(f"apt is not set up for Debian {codename}, of which the base image is to be made")
    return listed[0]
