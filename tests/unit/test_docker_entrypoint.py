"""The entry point of the images, with programs on PATH that tell what they were started with."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import nann.ops

ROOT = Path(__file__).resolve().parents[2]
PORTS = ["--port=8500", "--rest_api_port=8501", "--grpc_max_threads=64"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The entry point, as it lies in an image."""
    shutil.copy(ROOT / "serving" / "tf_serving" / "entrypoint", tmp_path)
    return tmp_path


def add_program(folder: Path, name: str) -> Path:
    """A program that prints its name, what is preloaded into it, and its arguments."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/bash\nprintf "%s\\n" {name} "${{LD_PRELOAD:-}}" "$@"\n')
    path.chmod(0o755)
    return path


def start(folder: Path, *flags: str, **environment: str) -> list[str]:
    path = f"{folder / 'bin'}:/usr/bin:/bin"
    done = subprocess.run(
        [folder / "entrypoint", *flags],
        env={"PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_names_and_paths_are_those_of_tensorflow_serving(folder: Path) -> None:
    add_program(folder, "tensorflow_model_server")
    model = ["--model_name=model", "--model_base_path=/models/model"]
    assert start(folder) == ["tensorflow_model_server", "", *PORTS, *model]
    nann = ["--model_name=nann", "--model_base_path=/mnt/all of them/nann"]
    found = start(folder, MODEL_NAME="nann", MODEL_BASE_PATH="/mnt/all of them")
    assert found == ["tensorflow_model_server", "", *PORTS, *nann]


def test_arguments_reach_the_server(folder: Path) -> None:
    add_program(folder, "tensorflow_model_server")
    assert start(folder, "--flag=a b", "--port=1")[-2:] == ["--flag=a b", "--port=1"]


@pytest.mark.parametrize(
    "flags", [["--model_config_file=/etc/models"], ["--model_config_file", "/etc/models"]]
)
def test_a_configuration_file_takes_the_place_of_name_and_path(folder: Path, flags: list[str]) -> None:
    add_program(folder, "tensorflow_model_server")
    assert start(folder, *flags, MODEL_NAME="nann") == ["tensorflow_model_server", "", *PORTS, *flags]

    other = "--model_config_file_poll_wait_seconds=9"
    assert "--model_name=model" in start(folder, other)


def test_the_embedded_server_where_there_is_no_other(folder: Path) -> None:
    add_program(folder, "nann")
    assert start(folder)[:3] == ["nann", "", "serve"]


def test_the_server_alone_is_preloaded(folder: Path) -> None:
    shim = folder / "libnann_preload.so"
    shutil.copy(nann.ops.library_path().with_name(shim.name), shim)
    add_program(folder, "tensorflow_model_server")
    # Every program that the entry point runs on its way.
    log = folder / "log"
    for name in ("dirname", "env", "readlink"):
        real = shutil.which(name)
        assert real is not None
        program = add_program(folder, name)
        program.write_text(
            f'#!/bin/bash\necho "{name} ${{LD_PRELOAD:-}}" >>{log}\nexec {os.fspath(real)} "$@"\n'
        )
    assert start(folder)[:2] == ["tensorflow_model_server", str(shim)]
    assert sorted(log.read_text().splitlines()) == ["dirname ", "env ", "readlink "]


def test_what_the_user_preloads_stays(folder: Path) -> None:
    shim = folder / "libnann_preload.so"
    shutil.copy(nann.ops.library_path().with_name(shim.name), shim)
    add_program(folder, "tensorflow_model_server")
    other = shutil.copy(shim, folder / "libother.so")
    assert start(folder, LD_PRELOAD=str(other))[1] == f"{shim}:{other}"
