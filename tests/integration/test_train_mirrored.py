"""Several devices of one process train one model: real replicas on two logical CPU devices."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.training import TrainOptions, TwoTower, prepare_data, train
from support.mirrored import with_two_devices

# On a busy machine the processes that train take minutes.
pytestmark = pytest.mark.timeout(900)

_SMALL = {"width": 16, "blocks": 1}
MODELS = {
    "attention": {**_SMALL, "mlp": [16]},  # with batch norms
    "two-tower": _SMALL,
    "mixture": {**_SMALL, "parts": 2, "gate": 8},
    "my_networks:din_like": {"width": 16},  # with Keras' dropout, whose seed is a variable
}
# Two epochs of five steps of two batches; checkpoints inside and at the end of epochs; noise by the seeds.
OPTIONS = TrainOptions(epochs=2, batch_size=64, negatives=16, checkpoint_steps=4, seed=3, item_noise=0.1)
SIZES = {"width": 16, "blocks": 0}  # traced in little time
# Trains to the end, or kills itself after a step; prints each step that is done.
PROGRAM = f"""
import os, signal, sys
from pathlib import Path
from nann.training import TrainOptions, train

def on_progress(stage, done, total):
    print(done, flush=True)
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

model = dict(model="two-tower", sizes={SIZES!r})
data, run = map(Path, sys.argv[1:3])
train(data, run, {OPTIONS!r}, **model, strategy="mirrored", on_progress=on_progress)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mirrored") / "data"
    prepare_data("synthetic:items=300,users=40,events=24,seed=1", folder)
    return folder


def _of_each_model() -> list[Any]:
    """The first model and the last, which is not ours; in the long job also what differs less from them."""
    first, *others, last = MODELS
    return [first, *(pytest.param(other, marks=pytest.mark.slow) for other in others), last]


@pytest.fixture(scope="module", params=_of_each_model())
def steps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a model has after some steps, on two devices and in one process (`support.mirrored_steps`)."""
    folder = tmp_path_factory.mktemp("steps")
    program = "from support.mirrored_steps import main; main()"
    done = with_two_devices(program, folder, request.param, json.dumps(MODELS[request.param]))
    assert done.returncode == 0, done.stderr
    return folder / f"{request.param}.npz"


def _apart(one: Any, other: Any, scale: Any) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(scale))


def test_two_replicas_take_the_mean_of_the_gradients_of_two_batches(steps: Path) -> None:
    with np.load(steps) as found:
        np.testing.assert_array_equal(found["weights of 0"], found["weights of 1"])
        np.testing.assert_array_equal(found["moments of 0"], found["moments of 1"])
        np.testing.assert_allclose(found["losses"], found["losses alone"], rtol=1e-4)
        np.testing.assert_allclose(found["state"], found["state alone"], rtol=1e-3, atol=1e-5)
        # Not each weight: Adam makes whole steps of gradients that are nothing but rounding.
        moved = found["weights alone"] - found["start"]
        assert _apart(found["weights of 0"], found["weights alone"], moved) < 1e-2
        # The first number counts the steps, and is much larger than all moments.
        moments, alone = found["moments of 0"], found["moments alone"]
        assert moments[0] == alone[0]
        assert _apart(moments[1:], alone[1:], alone[1:]) < 1e-3


def test_a_table_is_updated_by_row(steps: Path) -> None:
    """Rows that no batch has are not even decayed."""
    with np.load(steps) as found:
        # Row 0, a missing event, is in the batches: its gradient is zero.
        changed = (found["table"] != found["start table"]).any(axis=1)[1:]
        moved = found["table moments"].any(axis=1)[1:]
        assert 0 < moved.sum() < len(moved) / 2
        np.testing.assert_array_equal(changed, moved)


@pytest.mark.slow
def test_a_killed_training_resumes_exactly(data: Path) -> None:
    """Killed one step after the checkpoint at the end of the first epoch."""
    # Runs as far from the data as each other: run.json keeps a relative path.
    whole, run = data.parent / "whole", data.parent / "killed"
    unstopped = with_two_devices(PROGRAM, data, whole, -1)
    assert unstopped.returncode == 0, unstopped.stderr
    killed = with_two_devices(PROGRAM, data, run, 6)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = with_two_devices(PROGRAM, data, run, -1)
    assert resumed.returncode == 0, resumed.stderr
    assert list(map(int, resumed.stdout.split())) == list(range(5, 11))
    assert (run / "run.json").read_text() == (whole / "run.json").read_text()
    for mine, other in zip(TwoTower.from_run(run).variables, TwoTower.from_run(whole).variables, strict=True):
        assert np.array_equal(mine.numpy(), other.numpy()), mine.path
    with pytest.raises(InvalidInputError, match="replicas = 2, asked was 1"):
        train(data, run, OPTIONS, model="two-tower", sizes=SIZES)


def test_a_machine_without_gpus_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = tf.config.LogicalDevice("/device:CPU:0", "CPU")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [cpu] if kind == "CPU" else [])
    with pytest.raises(InvalidInputError, match="strategy mirrored: expected GPUs that TensorFlow can use"):
        train(data, tmp_path / "run", TrainOptions(), strategy="mirrored")
    assert not (tmp_path / "run").exists()
