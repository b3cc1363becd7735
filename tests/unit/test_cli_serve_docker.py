"""`nann serve-docker` as far as no engine is needed; the rest is in tests/integration/docker."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nann.cli import main


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "my models" / "1").mkdir(parents=True)
    return tmp_path / "my models"


def serve_docker(*flags: str | Path) -> Result:
    return CliRunner().invoke(main, ["serve-docker", *map(str, flags)])


def test_the_line_of_docker_run(models: Path) -> None:
    flags = ["--model_name", "nann", "--model_base_path", models, "--memory", "8g", "--cpus", "1.5"]
    result = serve_docker(*flags, "--rest_api_port", "0", "--print", "--enable_batching=true")
    assert result.output == (
        "docker run --rm --read-only --cap-drop ALL --security-opt no-new-privileges -p 8500:8500 -p 8501 "
        f"-v '{models}:/models/nann:ro' -e MODEL_NAME=nann --memory 8g --cpus 1.5 nann-serving "
        "--enable_batching=true\n"
    )
    assert json.loads(serve_docker(*flags, "--print", "--json").stdout)["command"].startswith("docker run ")


def test_the_line_for_a_stock_image(models: Path, tmp_path: Path) -> None:
    preload = tmp_path / "preload"
    preload.mkdir()
    flags = ["--model_base_path", models, "--image", "tensorflow/serving:2.20.0", "--preload", preload]
    result = serve_docker(*flags, "--print")
    assert result.exit_code == 1
    assert f"{preload}/entrypoint: not found." in result.output
    for name in ("entrypoint", "libnann_ops.so", "libnann_preload.so"):
        (preload / name).touch()
    printed = serve_docker(*flags, "--print").output
    assert f" -v {preload}:/usr/local/lib/nann:ro " in printed
    assert printed.endswith(
        " --init --user 65534:65534 --entrypoint /usr/local/lib/nann/entrypoint tensorflow/serving:2.20.0\n"
    )
    # Only the server is to be loaded with the shim, and the entry point sees to that.
    assert "LD_PRELOAD" not in printed


def test_a_missing_model_folder(tmp_path: Path) -> None:
    result = serve_docker("--model_base_path", tmp_path / "nowhere", "--print")
    assert result.exit_code == 1
    assert f"{tmp_path}/nowhere: expected the folder above the model's version folders" in result.output


def test_the_sdk_is_optional(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    result = serve_docker("--model_base_path", models)
    assert result.exit_code == 1
    assert "pip install nann[docker]" in result.output


def test_no_engine(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    result = serve_docker("--model_base_path", models)
    assert result.exit_code == 1
    assert "no Docker engine answers" in result.output
