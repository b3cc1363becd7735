"""A Docker engine, a base image made without a registry, and the images of Dockerfile.serving."""

from __future__ import annotations

import contextlib
import io
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from support.docker_engine import NoEngine, debian_mirror, engine
from support.processes import ROOT
from support.tiny_run import write_run

# The release of Dockerfile.serving's own base image.
_CODENAME = "bookworm"
_BASE = "nann-test-base"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.docker)
            # The first test of each image builds it.
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    """An engine's client; programs started by tests find the same engine by DOCKER_HOST."""
    try:
        with pytest.MonkeyPatch.context() as patch, engine() as address:
            patch.setenv("DOCKER_HOST", address)
            with contextlib.closing(docker.from_env(timeout=300)) as client:
                yield client
    except NoEngine as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def base_image(client: docker.DockerClient) -> str:
    """Debian's minimal system; made by mmdebstrap, a debootstrap that takes half the time."""
    if not client.images.list(_BASE):
        if shutil.which("mmdebstrap") is None:
            pytest.skip("mmdebstrap, which makes the base image, is missing: apt-get install mmdebstrap")
        command = ["mmdebstrap", "--quiet", "--variant=minbase", _CODENAME, "-", debian_mirror(_CODENAME)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            client.api.import_image_from_stream(process.stdout, repository=_BASE, tag="latest")
        if process.returncode != 0:
            client.images.remove(_BASE)  # The half of a system; the next run shall not find it.
            pytest.skip(
                f"the base image cannot be made: {shlex.join(command)} ended with {process.returncode}"
            )
    return _BASE


@pytest.fixture(scope="session")
def build(base_image: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run tools/docker/build: target, options."""

    def run(target: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [
            str(ROOT / "tools" / "docker" / "build"),
            target,
            "--build-arg",
            f"BASE_IMAGE={base_image}",
        ]
        return subprocess.run([*command, *options], capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def image(build: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., str]:
    """Build a target and return the name of the image."""

    def run(target: str, *options: str) -> str:
        name = f"nann-test-{target}"
        done = build(target, "--tag", name, *options)
        assert done.returncode == 0, done.stderr[-5000:]
        return name

    return run


@pytest.fixture(scope="session")
def embedded(image: Callable[..., str], client: docker.DockerClient, figure: Callable[[str], None]) -> str:
    name = image("embedded")
    figure(f"image nann-serving (embedded): {client.images.get(name).attrs['Size'] / 1e6:,.0f} MB")
    return name


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base path of a tiny export."""
    from nann.export import ExportOptions, export_model

    folder = tmp_path_factory.mktemp("docker")
    export_model(write_run(folder / "run"), folder / "models" / "nann" / "1", ExportOptions(table_bytes=0))
    return folder / "models" / "nann"


@pytest.fixture(scope="session")
def image_with(client: docker.DockerClient, base_image: str) -> Callable[..., str]:
    """Put programs into the base image: name of the new image, path in it=file."""

    def make(name: str, programs: dict[str, Path]) -> str:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path, program in programs.items():
                archive.add(program, path.lstrip("/"))
        container: Container = client.containers.create(base_image, "true")
        try:
            container.put_archive("/", packed.getvalue())
            container.commit(name)
        finally:
            container.remove()
        return name

    return make
