"""Exports of every version of scorer programs are kept here, and answer for ever.

export_v0 is of nann 0.1.0, which had none: its scorer was a TensorFlow function for the native executor too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nann.export import verify_model
from nann.export.loaded import loaded
from nann.export.scorer._program import VERSION

VERSIONS = sorted((Path(__file__).parents[1] / "data").glob("export_v*"))
_LOAD = "import sys; from nann.export import verify_model; verify_model(sys.argv[1])"


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_an_export_of_this_version_answers_as_recorded(folder: Path) -> None:
    with loaded(folder / "model") as model:
        for request in json.loads((folder / "expected.json").read_text()):
            inputs = {
                name: np.array(each["values"], each["dtype"]) for name, each in request["inputs"].items()
            }
            _check(model.run(request["signature"], inputs), request["outputs"])


def _check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if name == "items_scored":
            np.testing.assert_array_equal(found[name], values)
        elif name == "top_k":
            np.testing.assert_array_equal(np.sort(found[name]), np.sort(values))
        else:
            np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_an_export_of_this_version_verifies(folder: Path) -> None:
    assert verify_model(folder / "model")["verified"]["users"] > 0


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_an_earlier_version_is_warned_of_once(folder: Path) -> None:
    # A test that ran the command line in this process has set TensorFlow's log level to errors only.
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    process = subprocess.run(
        [sys.executable, "-c", _LOAD, str(folder / "model")],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    warnings = [line for line in process.stderr.splitlines() if "nann export" in line]
    assert len(warnings) == (1 if folder.name == "export_v0" else 0)
    assert all("nann 0.1.0" in line for line in warnings)


def test_the_current_version_is_kept() -> None:
    assert f"export_v{VERSION}" in [folder.name for folder in VERSIONS]
