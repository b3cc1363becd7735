"""`nann serve-docker` with an engine."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import numpy as np
import pytest

from nann.serving.client import NannClient
from support.tiny_model import E, L

COMMAND = [sys.executable, "-m", "nann", "serve-docker"]


@pytest.fixture(scope="module")
def flags(embedded: str, models: Path) -> list[str]:
    ports = ["--port", "0", "--rest_api_port", "0"]
    limits = ["--memory", "2g", "--cpus", "1.5"]
    return ["--model_name", "nann", "--model_base_path", str(models), "--image", embedded, *ports, *limits]


@pytest.fixture
def serving(flags: list[str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command, and what it says when the container has started."""
    command = [*COMMAND, *flags, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.terminate()


def settings(client: docker.DockerClient, container: str) -> dict[str, Any]:
    """What a container was created with."""
    attributes = client.containers.get(container).attrs
    host = ["Binds", "CapDrop", "Init", "Memory", "NanoCpus", "PortBindings", "ReadonlyRootfs", "SecurityOpt"]
    config = ["Cmd", "Entrypoint", "Env", "Image", "User"]
    chosen = {name: attributes["HostConfig"].get(name) for name in host}
    chosen |= {name: attributes["Config"][name] for name in config}
    # "", "0" and none all mean any free port.
    chosen["PortBindings"] = sorted(chosen["PortBindings"])
    # The engine's own variables follow in no certain order.
    chosen["Env"] = sorted(chosen["Env"])
    return chosen


def test_it_serves_until_interrupted(
    client: docker.DockerClient, flags: list[str], serving: tuple[subprocess.Popen[str], dict[str, Any]]
) -> None:
    process, ready = serving
    assert process.stderr is not None
    assert any("Serving nann" in line for line in process.stderr)
    comm_seq = np.zeros((1, L, E), np.float16)
    with NannClient(ready["grpc"], model="nann") as asked:
        found = asked.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10], timeout=30)
    assert (found.ids > 0).all()

    line = subprocess.run([*COMMAND, *flags, "--print"], capture_output=True, text=True, check=True).stdout
    words = shlex.split(line)
    assert words[:3] == ["docker", "run", "--rm"]
    created = subprocess.run(["docker", "create", *words[3:]], capture_output=True, text=True, check=True)
    by_line = client.containers.get(created.stdout.strip())
    try:
        assert settings(client, by_line.id) == settings(client, ready["container"])
    finally:
        by_line.remove()

    process.send_signal(signal.SIGINT)
    log = process.stderr.read()
    assert process.wait() == 0, log
    assert "unloaded" in log
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(ready["container"])


def test_a_server_that_ends_by_itself(flags: list[str]) -> None:
    done = subprocess.run([*COMMAND, *flags, "--no_such_flag=1"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "No such option '--no_such_flag'" in done.stderr
    assert "ended with exit code 2" in done.stderr


def test_an_image_that_is_nowhere(flags: list[str]) -> None:
    done = subprocess.run(
        [*COMMAND, *flags, "--image", "localhost:1/nowhere"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Error: localhost:1/nowhere: " in done.stderr
    assert "Traceback" not in done.stderr
