"""Bazel builds the op library that CMake builds, and the server's target where Dockerfile.devel lays it.

They need Bazel: `make bazel-test` installs it and runs them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nann.ops
from support.processes import ROOT, output_of
from support.tiny_run import write_run

pytestmark = [pytest.mark.bazel, pytest.mark.timeout(900)]

# What of TensorFlow Serving's tree our targets meet: the visibility of its main library. TensorFlow is the
# wheel's, by the rules of our own workspace.
SERVING_TREE = {
    "WORKSPACE": """
workspace(name = "tf_serving")
local_repository(name = "nann", path = "{root}")
load("@nann//tools:repositories.bzl", "alias_repository", "tensorflow_wheel")
{repositories}
""",
    "tensorflow_serving/BUILD": 'package_group(name = "internal", packages = ["//tensorflow_serving/..."])',
    "tensorflow_serving/model_servers/BUILD": """
cc_library(
    name = "tensorflow_model_server_main_lib",
    srcs = ["main.cc"],
    visibility = ["//tensorflow_serving:internal"],
)
""",
    "tensorflow_serving/model_servers/main.cc": "int main() {{ return 0; }}",
}
SERVER = "//tensorflow_serving/custom_ops/nann/serving/tf_serving:tensorflow_model_server"


def bazel(*arguments: str, workspace: Path = ROOT) -> str:
    """Standard output of Bazel, which must succeed."""
    done = subprocess.run(["bazel", *arguments], cwd=workspace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def library() -> Path:
    bazel("build", "//ops:libnann_ops.so")
    return Path(bazel("info", "bazel-bin")) / "ops" / "libnann_ops.so"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nann.export import export_model

    folder = tmp_path_factory.mktemp("bazel")
    export_model(write_run(folder / "run"), folder / "models" / "1")
    return folder / "models" / "1"


def describe(library: Path, model: Path) -> dict[str, Any]:
    """Ops, kernels and answers of a library, in a process of its own: ops can be registered once."""
    script = Path(__file__).with_name("describe_library.py")
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    described: dict[str, Any] = json.loads(
        output_of("env", f"PYTHONPATH={path}", sys.executable, script, library, model)
    )
    return described


def test_bazel_and_cmake_build_the_same_ops_with_the_same_answers(library: Path, model: Path) -> None:
    by_bazel, by_cmake = describe(library, model), describe(nann.ops.library_path(), model)
    assert "Nann>BeamSearch" in by_cmake["ops"]
    assert min(map(len, by_cmake["answers"]["top_k"])) == 10
    assert by_bazel == by_cmake


def test_bazel_exports_no_symbol_of_ours(library: Path) -> None:
    assert "nann::" not in output_of("nm", "-D", "--defined-only", "--demangle", library)


@pytest.fixture
def serving_tree(tmp_path: Path) -> Iterator[Path]:
    """To our targets TensorFlow Serving's tree, with our sources where Dockerfile.devel copies them."""
    repositories = "".join((ROOT / "WORKSPACE").read_text().partition("\ntensorflow_wheel(")[1:])
    for name, content in SERVING_TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content.format(root=ROOT, repositories=repositories))
    copies = re.findall(r"^COPY (\S+) (\S+)$", (ROOT / "Dockerfile.devel").read_text(), re.MULTILINE)
    assert len(copies) == 2
    # Not part of the tree: how Bazel starts here.
    for source, target in [*copies, (".bazelversion", ".bazelversion"), ("tools/bazel", "tools/bazel")]:
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / target)
    yield tmp_path
    bazel("shutdown", workspace=tmp_path)


def test_the_server_is_a_target_of_tensorflow_servings_tree(serving_tree: Path) -> None:
    # Up to the first compiler call: labels resolve, visibility admits, every listed source is there.
    bazel("build", "--nobuild", SERVER, workspace=serving_tree)
    libraries = bazel("query", f"filter(nann, kind(cc_library, deps({SERVER})))", workspace=serving_tree)
    package = SERVER.partition("/serving/tf_serving")[0]
    assert set(libraries.split()) == {f"{package}/ops:nann_core", f"{package}/ops:nann_ops"}
