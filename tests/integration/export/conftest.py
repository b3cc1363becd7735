"""A run of a tiny model, and its export."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]  # run.json names the model as "support.tiny_model:TinyModel"


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tests only read."""
    from support.tiny_run import write_run

    return write_run(tmp_path_factory.mktemp("shared") / "run")


@pytest.fixture(scope="session")
def shared_export(shared_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export, with mapped user tables, that tests only read."""
    from nann.export import ExportOptions, Tuning, export_model

    out = tmp_path_factory.mktemp("models") / "nann" / "1"
    export_model(shared_run, out, ExportOptions(table_bytes=0, tuning=Tuning(walk="fixed")))
    return out


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one's own."""
    from support.tiny_run import write_run

    return write_run(tmp_path / "run")


@pytest.fixture
def subprocess_env() -> dict[str, str]:
    """Environment in which a child finds nann and the tiny model."""
    path = os.pathsep.join([*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(TESTS)])
    return {**os.environ, "PYTHONPATH": path}
