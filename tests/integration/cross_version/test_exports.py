"""An export written by one supported TensorFlow answers the same in the other; a library is refused there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import nann.ops
from support.cpp_server import BEAMS, answer_of, ask_zeros, build_server
from support.processes import output_of


@pytest.fixture(scope="module")
def export_of_this(programs: Path, trained_run: Path) -> Path:
    model = trained_run.parent / "this" / "1"
    output_of(programs / "nann", "export", "--run", trained_run, "--out", model)
    return model


@pytest.fixture(scope="module")
def export_of_other(other_programs: Path, trained_run: Path) -> Path:
    model = trained_run.parent / "other" / "1"
    output_of(other_programs / "nann", "export", "--run", trained_run, "--out", model)
    return model


@pytest.fixture(scope="module")
def server() -> Path:
    return build_server()


def manifest(model: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((model / "assets.extra" / "nann_manifest.json").read_text())
    return content


def verify(programs: Path, model: Path, trained_run: Path) -> None:
    """Load `model` as a server does, and compare it with the reference search by the run's own model."""
    done = json.loads(
        output_of(programs / "nann", "verify", "--model", model, "--run", trained_run, "--json")
    )
    assert "retrieve_by_ids" in done["verified"]["signatures"]


def test_an_export_of_the_other_version_runs_in_this_one(
    programs: Path, export_of_other: Path, trained_run: Path, other_version: str
) -> None:
    assert manifest(export_of_other)["tensorflow_version"].startswith(other_version)
    verify(programs, export_of_other, trained_run)


def test_an_export_of_this_version_runs_in_the_other_one(
    other_programs: Path, export_of_this: Path, trained_run: Path, other_version: str
) -> None:
    assert not manifest(export_of_this)["tensorflow_version"].startswith(other_version)
    verify(other_programs, export_of_this, trained_run)


def test_a_process_without_python_answers_the_same_from_both_exports(
    server: Path, export_of_this: Path, export_of_other: Path
) -> None:
    shim = nann.ops.library_path().with_name("libnann_preload.so")
    events, width = manifest(export_of_this)["model"]["user_state"]["comm_seq"]["shape"]
    answers = [
        ask_zeros(server, model, events * width, preload=shim) for model in (export_of_this, export_of_other)
    ]
    found = [answer_of(answer) for answer in answers]
    assert found[0]["top_k"].size == found[1]["top_k"].size == BEAMS[-1]
    assert answers[0].stdout == answers[1].stdout


def test_a_library_compiled_for_the_other_version_is_refused(
    server: Path, other_programs: Path, export_of_this: Path, other_version: str
) -> None:
    (library,) = other_programs.parent.glob("lib/python*/site-packages/nann/ops/libnann_ops.so")
    done = ask_zeros(server, export_of_this, 1, preload=library.with_name("libnann_preload.so"))
    assert done.returncode == 1
    assert done.stdout == ""
    # The lines before it are TensorFlow's own.
    assert re.fullmatch(
        rf"nann: the ops are built for TensorFlow {re.escape(other_version)}\.\d+, "
        r"but this process is TensorFlow 2\.\d+\.\d+",
        done.stderr.splitlines()[-1],
    ), done.stderr
