"""The images around a tensorflow_model_server, with a stand-in: no registry with the real one is reached.

What is real: the op library of the serving build and its shim, `tools/check_preload` in the build, the
entry point, users and files. The stand-in has the symbols that the library needs, or lacks them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import docker
import pytest

from support.cpp_server import names_lacking
from support.processes import output_of

STOCK_PROGRAM = "/usr/bin/tensorflow_model_server"
DEVEL_PROGRAM = "/usr/local/bin/tensorflow_model_server"
# The shim's own words: it was loaded into the server, and knew it for one of another version.
SHIM_SPEAKS = "nann: the ops are built for TensorFlow 2.20.0, but this process is TensorFlow 2.19.1"


@pytest.fixture(scope="module")
def preload_files(
    build: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What a stock image needs mounted, as a folder of this machine."""
    folder = tmp_path_factory.mktemp("preload") / "files"
    folder.mkdir()  # Docker would make it for root's eyes only.
    done = build("preload-files", "--output", f"type=local,dest={folder}")
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


def compile_stand_in(folder: Path, symbols: set[str]) -> Path:
    """A server that runs and defines the given names for others, which do nothing."""
    assembly = folder / "symbols.s"
    lines = [f".globl {symbol}\n{symbol}: .byte 0\n" for symbol in sorted(symbols)]
    assembly.write_text('.section .note.GNU-stack,"",@progbits\n.data\n' + "".join(lines))
    binary = folder / "tensorflow_model_server"
    output_of("gcc", "-rdynamic", Path(__file__).with_name("stand_in.c"), assembly, "-o", binary)
    return binary


@pytest.fixture(scope="module")
def stock(
    image_with: Callable[..., str], preload_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """An image of the shape of tensorflow/serving, and of Dockerfile.devel's."""
    names = names_lacking(preload_files / "libnann_ops.so")
    program = compile_stand_in(tmp_path_factory.mktemp("stand_in"), names)
    return image_with("nann-test-stock", {STOCK_PROGRAM: program, DEVEL_PROGRAM: program})


@pytest.fixture(scope="module")
def preload(image: Callable[..., str], stock: str) -> str:
    return image("preload", "--build-arg", f"STOCK_IMAGE={stock}")


def test_the_library_is_built_for_the_official_server(preload_files: Path) -> None:
    library = preload_files / "libnann_ops.so"
    undefined = output_of("nm", "-D", "--undefined-only", library)
    assert "tensorflow" in undefined
    assert "cxx11" not in undefined
    versions = re.findall(r"\bGLIBC_([\d.]+)", output_of("objdump", "-T", library))
    # Ubuntu 22.04's, of which the stock image is made.
    assert max(tuple(map(int, version.split("."))) for version in versions) <= (2, 35)
    # The shim compares it with the server's.
    assert b"2.20.0" in (preload_files / "libnann_preload.so").read_bytes()


def run(
    client: docker.DockerClient, image: str, *flags: str, entrypoint: str | None = None
) -> tuple[int, list[str]]:
    """Exit code and output of a container that ends by itself."""
    environment = {"MODEL_NAME": "nann"}
    container = client.containers.create(
        image, list(flags), environment=environment, entrypoint=entrypoint, read_only=True
    )
    try:
        container.start()
        status = container.wait()["StatusCode"]
        return status, container.logs().decode().splitlines()
    finally:
        container.remove(force=True)


def test_the_server_alone_is_preloaded(client: docker.DockerClient, preload: str) -> None:
    assert run(client, preload) == (1, [SHIM_SPEAKS])
    status, environment = run(client, preload, entrypoint="env")
    assert status == 0
    assert not [line for line in environment if "LD_PRELOAD" in line]
    assert run(client, preload, entrypoint="id") == (
        0,
        ["uid=10001(nann) gid=10001(nann) groups=10001(nann)"],
    )


def test_a_server_that_lacks_symbols_is_refused(
    build: Callable[..., subprocess.CompletedProcess[str]], image_with: Callable[..., str], tmp_path: Path
) -> None:
    lacking = image_with("nann-test-lacking", {STOCK_PROGRAM: compile_stand_in(tmp_path, set())})
    done = build("preload", "--build-arg", f"STOCK_IMAGE={lacking}")
    assert done.returncode != 0
    assert (
        "symbols that /out/libnann_ops.so needs are missing in /usr/bin/tensorflow_model_server"
        in done.stderr
    )
    assert "tensorflow::OpKernel" in done.stderr


def test_the_server_of_dockerfile_devel(
    client: docker.DockerClient, image: Callable[..., str], stock: str, preload: str
) -> None:
    name = image("compiled-in", "--build-arg", f"DEVEL_IMAGE={stock}")
    flags = ["--port=8500", "--rest_api_port=8501", "--grpc_max_threads=64"]
    flags += ["--model_name=nann", "--model_base_path=/models/nann"]
    assert run(client, name, "--flag=1") == (0, [*flags, "--flag=1"])
    assert run(client, name, entrypoint="id") == run(client, preload, entrypoint="id")


def test_the_bill_of_materials_names_the_server(client: docker.DockerClient, preload: str) -> None:
    _, printed = run(client, preload, "/usr/share/nann/sbom.cdx.json", entrypoint="cat")
    purls = {component["purl"] for component in json.loads("".join(printed))["components"]}
    assert "pkg:github/tensorflow/serving@2.20.0" in purls
    assert any(purl.startswith("pkg:deb/debian/tini@") for purl in purls)


def test_the_argument_chooses_the_image(
    client: docker.DockerClient, preload: str, image: Callable[..., str], stock: str
) -> None:
    """`--build-arg SERVER=preload` and no target."""
    name = image("serving", "--build-arg", "SERVER=preload", "--build-arg", f"STOCK_IMAGE={stock}")
    layers = [client.images.get(which).attrs["RootFS"]["Layers"] for which in (name, preload)]
    assert layers[0] == layers[1]


def test_nann_serve_docker_with_a_stock_image(stock: str, preload_files: Path, models: Path) -> None:
    command = [sys.executable, "-m", "nann", "serve-docker", "--model_name", "nann", "--image", stock]
    places = ["--model_base_path", models, "--preload", preload_files, "--port", "0", "--rest_api_port", "0"]
    done = subprocess.run([*command, *places], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == SHIM_SPEAKS
    assert "ended with exit code 1" in done.stderr
