"""An export of a tiny model, and the embedded server that has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.served import BEAMS, Served


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that tests only read."""
    from nann.export import ExportOptions, export_model
    from support.tiny_run import write_run

    folder = tmp_path_factory.mktemp("bench")
    run = write_run(folder / "run")
    export_model(run, folder / "models" / "nann" / "1", ExportOptions(level_topn=BEAMS, table_bytes=0))
    return folder / "models" / "nann" / "1"


@pytest.fixture(scope="session")
def served(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on free ports with the export as version 1; one test publishes the same as version 2."""
    from nann.bench.load._switch import publish

    base_path = tmp_path_factory.mktemp("served") / "nann"
    base_path.mkdir()
    publish(export, base_path / "1")
    flags = [
        "--model_name",
        "nann",
        "--model_base_path",
        str(base_path),
        "--port",
        "0",
        "--rest_api_port",
        "0",
    ]
    command = [sys.executable, "-m", "nann", "serve", "--host", "localhost", *flags]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert "gRPC on " in line, line
            target = line.split("gRPC on ")[1].split(",")[0]
            yield Served(target, base_path, export)
        finally:
            server.terminate()
