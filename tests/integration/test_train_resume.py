"""A training that is killed goes on exactly as if it had not been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nann.errors import InvalidFileError, InvalidInputError
from nann.training import ReferenceModel, TrainOptions, prepare_data, train
from support.small_network import ARGUMENTS as SMALL
from support.small_network import SIZES

# Two epochs of 12 steps; the checkpoints fall inside and at the end of epochs.
OPTIONS = TrainOptions(epochs=2, batch_size=64, negatives=16, checkpoint_steps=5, seed=3)
ARGUMENTS = [
    *("--epochs", "2", "--batch-size", "64", "--negatives", "16", "--checkpoint-steps", "5", "--seed", "3"),
    *SMALL,
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "data"
    prepare_data("synthetic:items=300,users=40,events=24,seed=1", folder)
    return folder


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    """A run that was never stopped."""
    run = data.parent / "whole"
    train(data, run, OPTIONS, sizes=SIZES)
    return run


class _StoppedError(Exception):
    pass


def _stop_at(step: int) -> Callable[[str, int, int], None]:
    def on_progress(stage: str, done: int, total: int) -> None:
        if stage == "train" and done == step:
            raise _StoppedError

    return on_progress


def _assert_same(run: Path, whole: Path) -> None:
    assert (run / "run.json").read_text() == (whole / "run.json").read_text()
    for mine, other in zip(
        ReferenceModel.from_run(run).variables, ReferenceModel.from_run(whole).variables, strict=True
    ):
        assert np.array_equal(mine.numpy(), other.numpy()), mine.path


def test_interrupted_and_resumed_equals_uninterrupted(data: Path, whole: Path) -> None:
    """Stopped before the first checkpoint, then in the second epoch, two steps after a checkpoint."""
    # The run's folder must be as far from the data as `whole` is: run.json keeps a relative path.
    run = data.parent / "stopped"
    for step in (3, 17):
        with pytest.raises(_StoppedError):
            train(data, run, OPTIONS, sizes=SIZES, on_progress=_stop_at(step))
    train(data, run, OPTIONS, sizes=SIZES)
    _assert_same(run, whole)


def test_a_killed_process_resumes(data: Path, whole: Path) -> None:
    """Killed one step after the checkpoint at the end of the first epoch."""
    run = data.parent / "killed"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from nann.training import TrainOptions, train\n"
        "def kill(stage, done, total):\n"
        "    if done == 13: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"train(Path(sys.argv[1]), Path(sys.argv[2]), {OPTIONS!r}, sizes={SIZES!r}, on_progress=kill)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(data), str(run)], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL

    finished = subprocess.run(
        [
            *(sys.executable, "-c", "from nann.cli import main; main()"),
            *("train", "--data", str(data), "--out", str(run), "--json", *ARGUMENTS),
        ],
        env=os.environ,
        check=True,
        capture_output=True,
        text=True,
    )
    assert '"history"' in finished.stdout
    _assert_same(run, whole)


def test_a_finished_run_is_left_as_it_is(data: Path, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (whole / "checkpoints").iterdir()}
    seen: list[tuple[str, int, int]] = []
    train(data, whole, OPTIONS, sizes=SIZES, on_progress=lambda *what: seen.append(what))
    assert [what[1] for what in seen] == [seen[0][2]], "no step was taken"
    assert {path: path.stat().st_mtime_ns for path in (whole / "checkpoints").iterdir()} == before


def test_other_options_or_data_do_not_continue_a_run(data: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="seed = 3, asked was 4"):
        train(data, whole, replace(OPTIONS, seed=4), sizes=SIZES)
    prepare_data("synthetic:items=310,users=40,events=24,seed=1", tmp_path / "other")
    with pytest.raises(InvalidInputError, match="data = "):
        train(tmp_path / "other", whole, OPTIONS, sizes=SIZES)


def test_a_truncated_checkpoint_is_named(data: Path, whole: Path, tmp_path: Path) -> None:
    run = data.parent / "truncated"
    with pytest.raises(_StoppedError):
        train(data, run, OPTIONS, sizes=SIZES, on_progress=_stop_at(7))
    (part,) = (run / "checkpoints").glob("ckpt-5.data*")
    part.write_bytes(part.read_bytes()[:1000])
    with pytest.raises(InvalidFileError, match=r"checkpoints/ckpt-5: expected a checkpoint of this training"):
        train(data, run, OPTIONS, sizes=SIZES)
    with pytest.raises(InvalidFileError, match="ckpt-5: expected the variables"):
        ReferenceModel.from_run(run)


def test_a_run_without_a_checkpoint_is_named(data: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text((whole / "run.json").read_text())
    with pytest.raises(InvalidFileError, match="expected a checkpoint, found none"):
        ReferenceModel.from_run(tmp_path)
    with pytest.raises(
        InvalidFileError, match=r"run\.json: expected the description of a run, found no such file"
    ):
        ReferenceModel.from_run(tmp_path / "nowhere")
