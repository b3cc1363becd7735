"""Two real processes train one model, as two devices of one process do, and one that is killed comes back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.training import ReferenceModel, TrainOptions, prepare_data, train
from support.mirrored import train_mirrored

# Three epochs of five steps of two batches; checkpoints inside and at the end of epochs.
OPTIONS = ("--epochs", "3", "--batch-size", "64", "--negatives", "16", "--checkpoint-steps", "4")
SIZES = ("--width", "16", "--blocks", "1", "--mlp", "16")
# Two interpreters with TensorFlow start and train; much more than that takes even on a busy machine.
TIMEOUT_SECONDS = 540.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers") / "data"
    prepare_data("synthetic:items=300,users=40,events=24,seed=1", folder)
    return folder


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def _start(data: Path, run: Path, addresses: list[str], index: int) -> subprocess.Popen[str]:
    config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
    command = [sys.executable, "-c", "from nann.cli import main; main()", "train", "--data", str(data)]
    return subprocess.Popen(
        [*command, "--out", str(run), "--strategy", "multi_worker", "--json", *OPTIONS, *SIZES],
        env={**os.environ, "TF_CONFIG": json.dumps(config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _finish(workers: list[subprocess.Popen[str]]) -> str:
    """What all of them wrote on standard error."""
    ended = [worker.communicate(timeout=TIMEOUT_SECONDS) for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers), ended
    return "".join(errors for _, errors in ended)


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    """A run of two workers that were never stopped."""
    run, addresses = data.parent / "whole", _free_addresses(2)
    _finish([_start(data, run, addresses, index) for index in range(2)])
    return run


def test_two_workers_train_one_model(data: Path, whole: Path) -> None:
    history = json.loads((whole / "run.json").read_text())["history"]
    # Of the 11 batches of an epoch each takes 5.
    assert [entry["step"] for entry in history] == [5, 10, 15]
    assert history[-1]["loss"] < history[0]["loss"]
    assert len(list((whole / "checkpoints").glob("ckpt-15.index"))) == 1


def test_two_devices_end_with_the_weights_of_two_workers(data: Path, whole: Path) -> None:
    """With the same seeds each device takes the batches of a worker."""
    run = data.parent / "mirrored"
    train_mirrored(data, run, *OPTIONS, *SIZES)
    ours, theirs = (json.loads((each / "run.json").read_text()) for each in (run, whole))
    losses = [[entry["loss"] for entry in each.pop("history")] for each in (ours, theirs)]
    assert ours == theirs
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    mine, expected = (_numbers(each) for each in (run, whole))
    assert mine.keys() == expected.keys()
    start = ReferenceModel.create(**theirs["model_config"], seed=theirs["training"]["seed"])
    moved = [expected[f"model/{n}"] - each.numpy() for n, each in enumerate(start.variables)]
    apart = [expected[f"model/{n}"] - mine[f"model/{n}"] for n in range(len(moved))]
    assert _norm(apart) < 1e-2 * _norm(moved)
    # Moments are as large as the gradients, which Adam's steps do not depend on.
    moments = [name for name in expected if name.startswith("optimizer/first")]
    assert _norm(expected[name] - mine[name] for name in moments) < 1e-2 * _norm(map(expected.get, moments))


def _numbers(run: Path) -> dict[str, Any]:
    """The newest checkpoint's values by name."""
    checkpoint = tf.train.load_checkpoint(str(run / "checkpoints" / "ckpt-15"))
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    names = [name for name in checkpoint.get_variable_to_shape_map() if name.endswith(suffix)]
    return {name.removesuffix(suffix): checkpoint.get_tensor(name) for name in names}


def _norm(arrays: Iterable[Any]) -> float:
    return float(np.sqrt(sum(np.square(each, dtype=np.float64).sum() for each in arrays)))


@pytest.mark.slow
def test_a_worker_that_is_killed_and_comes_back(data: Path, whole: Path) -> None:
    """The other one notices, starts itself again, and both go on from the newest checkpoint."""
    run, addresses = data.parent / "killed", _free_addresses(2)
    chief, other = (_start(data, run, addresses, index) for index in range(2))
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (run / "checkpoints" / "ckpt-4.index").exists():
        assert chief.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    assert "starts again" in _finish([chief, _start(data, run, addresses, 1)])
    assert (run / "run.json").read_text() == (whole / "run.json").read_text()
    pairs = zip(ReferenceModel.from_run(run).variables, ReferenceModel.from_run(whole).variables, strict=True)
    for mine, expected in pairs:
        assert np.array_equal(mine.numpy(), expected.numpy()), mine.path


@pytest.mark.parametrize(
    "text", ["", "{}", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}']
)
def test_a_wrong_description_of_the_cluster_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InvalidInputError, match="TF_CONFIG: expected"):
        train(data, tmp_path / "run", TrainOptions(), strategy="multi_worker")
    assert not (tmp_path / "run").exists()


def test_a_worker_with_several_gpus_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {"cluster": {"worker": ["localhost:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{number}", "GPU") for number in range(2)]
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: gpus if kind == "GPU" else [])
    with pytest.raises(InvalidInputError, match="at most one GPU for each worker, found 2"):
        train(data, tmp_path / "run", TrainOptions(), strategy="multi_worker")
    assert not (tmp_path / "run").exists()
