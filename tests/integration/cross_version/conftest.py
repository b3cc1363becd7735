"""Programs of this and the other TensorFlow, and a reference model trained in this one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support import tensorflow_versions
from support.processes import output_of


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder takes minutes: it installs and compiles."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def programs() -> Path:
    """Folder of the programs of the environment that runs the tests."""
    return Path(sys.executable).parent


@pytest.fixture(scope="session", params=tensorflow_versions.others())
def other_version(request: pytest.FixtureRequest) -> str:
    """A supported TensorFlow version that is not the installed one."""
    version: str = request.param
    return version


@pytest.fixture(scope="session")
def other_programs(other_version: str) -> Path:
    """Folder of the programs of an environment with the other TensorFlow."""
    return tensorflow_versions.environment_with_nann(other_version)


@pytest.fixture(scope="session")
def trained_run(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of the reference model."""
    folder = tmp_path_factory.mktemp("cross_version")
    data, run = folder / "data", folder / "run"
    nann = programs / "nann"
    output_of(nann, "data", "prepare", "--source", "synthetic:items=300,users=200,events=12", "--out", data)
    output_of(nann, "train", "--data", data, "--out", run, "--epochs", 1)
    output_of(nann, "embed", "--run", run)
    output_of(nann, "index", "--run", run, "--m", 4)
    return run
