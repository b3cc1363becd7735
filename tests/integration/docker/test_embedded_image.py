"""The image of `nann serve`: built from PyPI and Debian alone, run without rights, asked by clients."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import numpy as np
import pytest
from docker.models.containers import Container

from nann.serving.client import NannClient
from nann.version import __version__
from support.tiny_model import E, L

LEVEL_TOPN = [20, 30, 30, 30, 30, 10]
HARDENED: dict[str, Any] = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}


@pytest.fixture(scope="module")
def container(
    client: docker.DockerClient, embedded: str, models: Path, figure: Callable[[str], None]
) -> Iterator[Container]:
    """`docker run -p 8500 -p 8501 -v MODELS:/models/nann:ro -e MODEL_NAME=nann IMAGE`, on free ports."""
    container = client.containers.create(
        embedded,
        ports={"8500/tcp": None, "8501/tcp": None},
        volumes={str(models): {"bind": "/models/nann", "mode": "ro"}},
        environment={"MODEL_NAME": "nann"},
        **HARDENED,
    )
    try:
        begin = time.monotonic()
        container.start()
        lines = container.logs(stream=True, follow=True)
        assert any(b"Serving nann" in line for line in lines), container.logs().decode()
        figure(f"from `docker run` to the first answer: {time.monotonic() - begin:.1f} s")
        container.reload()
        yield container
    finally:
        container.remove(force=True)


def address(container: Container, port: int) -> str:
    published = container.ports[f"{port}/tcp"]
    assert published is not None
    return f"localhost:{published[0]['HostPort']}"


def output_of(container: Container, *command: str) -> str:
    status, output = container.exec_run(list(command))
    assert status == 0, output
    text: str = output.decode()
    return text


def test_the_front_is_in_the_image(container: Container) -> None:
    code = "from nann.serving.server import _front; print(_front.is_built())"
    assert output_of(container, "python", "-c", code).splitlines()[-1] == "True"


@pytest.fixture(scope="module")
def comm_seq() -> Any:
    return np.random.default_rng(5).normal(size=(3, L, E)).astype(np.float16)


@pytest.fixture(scope="module")
def expected(models: Path, comm_seq: Any) -> Any:
    """What the same export answers in this process."""
    import tensorflow as tf

    import nann.ops

    nann.ops.load_library()
    loaded = tf.saved_model.load(str(models / "1"))
    return loaded.signatures["serving_default"](
        comm_seq=tf.constant(comm_seq.reshape(3, -1)), level_topn=tf.constant(LEVEL_TOPN)
    )


def test_the_client_gets_the_answers_of_the_same_export_run_here(
    container: Container, comm_seq: Any, expected: Any
) -> None:
    with NannClient(address(container, 8500), model="nann") as asked:
        found = asked.top_k(comm_seq, level_topn=LEVEL_TOPN, timeout=30)
    np.testing.assert_array_equal(found.ids, expected["top_k"])
    np.testing.assert_allclose(found.scores, expected["scores"], rtol=1e-5)


def test_rest_gives_them_too(container: Container, comm_seq: Any, expected: Any) -> None:
    inputs = {
        "comm_seq": comm_seq.reshape(3, -1).astype(float).tolist(),
        "level_topn": [LEVEL_TOPN] * 3,
        "exclude_ids": [[-1]] * 3,
    }
    body = {"signature_name": "retrieve", "inputs": inputs}
    url = f"http://{address(container, 8501)}/v1/models/nann:predict"
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=30) as answer:
        outputs = json.load(answer)["outputs"]
    np.testing.assert_array_equal(outputs["top_k"], expected["top_k"])


def test_it_becomes_healthy(client: docker.DockerClient, container: Container) -> None:
    since = container.attrs["State"]["StartedAt"].split(".")[0] + "Z"
    for event in client.events(decode=True, since=since, filters={"container": container.id}):
        assert event["Action"] != "die", container.logs().decode()
        if event["Action"] == "health_status: healthy":
            break
    status, _ = container.exec_run(["/usr/local/lib/nann/healthcheck"], environment={"MODEL_NAME": "other"})
    assert status != 0


def test_nobody_in_it_has_rights(container: Container) -> None:
    assert container.image is not None
    assert container.image.attrs["Config"]["User"] == "10001:10001"
    processes = container.top(ps_args="-eo pid,uid,args")["Processes"]
    assert {uid for _, uid, _ in processes} == {"10001"}
    assert any("nann serve" in arguments for _, _, arguments in processes)


def test_its_files_cannot_be_written(container: Container) -> None:
    for folder in ("/", "/tmp", "/opt/nann", "/models", "/models/nann"):
        status, output = container.exec_run(["touch", f"{folder}/file"])
        assert status != 0
        assert b"Read-only file system" in output


def test_no_build_tools_inside(container: Container) -> None:
    for program in ("cc", "g++", "gcc", "cmake", "pip", "/opt/nann/bin/pip"):
        status, _ = container.exec_run(["sh", "-c", f"command -v {program}"])
        assert status != 0, program
    assert output_of(container, "find", "/opt/nann", "-path", "*/tensorflow/include") == ""


def test_labels(client: docker.DockerClient, embedded: str) -> None:
    labels = client.images.get(embedded).labels
    assert labels["org.opencontainers.image.title"] == "nann-serving"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.created"].startswith("20")


def test_the_bill_of_materials_names_what_is_installed(container: Container) -> None:
    bom = json.loads(output_of(container, "cat", "/usr/share/nann/sbom.cdx.json"))
    assert bom["bomFormat"] == "CycloneDX"
    assert bom["metadata"]["component"]["version"] == __version__
    purls = {component.get("purl", "") for component in bom["components"]}
    debian = output_of(container, "dpkg-query", "-W", "-f", "${Package}@${Version}\n").split()
    named = {purl.removeprefix("pkg:deb/debian/").split("?")[0] for purl in purls if "pkg:deb" in purl}
    assert {urllib.parse.unquote(name) for name in named} == set(debian)
    code = "from importlib.metadata import distributions as d; print(*{f'{x.name}@{x.version}' for x in d()})"
    python = output_of(container, "/opt/nann/bin/python", "-c", code).lower().replace("_", "-").split()
    named = {purl.removeprefix("pkg:pypi/").split("?")[0] for purl in purls if "pkg:pypi" in purl}
    assert {f"nann@{__version__}", "tensorflow-cpu@2.21.0"} <= named
    assert named == set(python)


def test_sigterm_ends_it(container: Container) -> None:
    """Last in this file, as it ends the container. Had the signal been ignored, nothing would end it."""
    container.kill("SIGTERM")
    assert container.wait(timeout=120)["StatusCode"] == 0
    assert b"unloaded" in container.logs()
