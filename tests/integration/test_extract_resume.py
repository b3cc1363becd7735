"""An extraction or a build of an index that is killed and run again gives what one that never was gives."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nann.training import read_dataset
from support.command import run_json

# An embedding that depends on every row, and an item state beside it.
MODEL = """
import tensorflow as tf


class Model:
    user_features = {"item_ids": tf.TensorSpec([5], tf.int64), "cate_ids": tf.TensorSpec([5], tf.int64)}
    user_state = {"user": tf.TensorSpec([8], tf.float32)}
    item_state = {"row": tf.TensorSpec([], tf.int32)}
    embedding_dim = 8

    @classmethod
    def from_run(cls, run_dir):
        return cls()

    def embed_user(self, features):
        return {"user": tf.one_hot(features["item_ids"][:, 0] % 8, 8)}

    def embed_item(self, features):
        angles = tf.cast(features["item_ids"], tf.float32)[:, tf.newaxis] * tf.range(1.0, 9.0)
        return tf.sin(angles), {"row": tf.cast(features["item_ids"], tf.int32)}

    def score(self, user_state, item_embs, item_state):
        return tf.linalg.matvec(item_embs, user_state["user"])
"""

# Runs a step with small chunks. The process kills itself at a given report of progress; at 0 it prints all
# reports.
PROGRAM = """
import json, os, signal, sys
from nann.export import build_index
from nann.export.index import build
from nann.training import embed

build._LEAST_ROWS_A_CALL = 50
reports = []

def report(stage, done, total):
    reports.append([stage, done])
    if len(reports) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

from pathlib import Path
run = Path(sys.argv[2])
if sys.argv[1] == "embed":
    embed(run, chunk_rows=64, on_progress=report)
else:
    build_index(run, m=8, threads=1, on_progress=report)
print(json.dumps(reports))
"""


def _run(step: str, run: Path, *, kill_at: int = 0) -> list[tuple[str, int]]:
    """The reports of progress; none of a process that was killed."""
    command = [sys.executable, "-c", PROGRAM, step, str(run), str(kill_at)]
    ended = subprocess.run(command, env=os.environ, check=False, capture_output=True, text=True)
    assert ended.returncode == (-signal.SIGKILL if kill_at else 0), ended.stderr
    return [] if kill_at else [tuple(each) for each in json.loads(ended.stdout)]


def _sums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose steps were never stopped."""
    folder = tmp_path_factory.mktemp("extract")
    data, run = folder / "data", folder / "whole"
    run_json("data", "prepare", "--source", "synthetic:items=400,users=20,events=10,seed=1", "--out", data)
    (run / "vocabulary").mkdir(parents=True)
    (run / "with_state.py").write_text(MODEL)
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "with_state:Model", "data": "../data"}))
    np.save(run / "vocabulary/item_ids.npy", read_dataset(data).item_ids)
    shutil.copytree(run, folder / "trained")
    assert _run("embed", run) == [("embed", done) for done in (64, 128, 192, 256, 320, 384, 400)]
    _run("index", run)
    return run


def test_a_killed_extraction_goes_on(whole: Path) -> None:
    """Killed after the first chunk, then at the last report."""
    run = whole.parent / "embedded"
    shutil.copytree(whole.parent / "trained", run)
    for kill_at in (1, 6):
        _run("embed", run, kill_at=kill_at)
        assert not (run / "embeddings").exists()
    assert _run("embed", run) == [], "all chunks were done"
    assert _sums(run / "embeddings") == _sums(whole / "embeddings")
    assert not list(run.glob(".emb*")), "nothing temporary is left"


def test_an_extraction_of_a_changed_run_begins_again(whole: Path) -> None:
    run = whole.parent / "changed"
    shutil.copytree(whole.parent / "trained", run)
    _run("embed", run, kill_at=3)
    (run / "with_state.py").write_text(MODEL.replace("tf.sin", "tf.cos"))
    assert _run("embed", run)[0] == ("embed", 64)
    first = np.load(run / "embeddings/item_embs.npy")[0]
    assert first == pytest.approx(np.cos(np.arange(1.0, 9.0)), abs=1e-6)


def test_a_killed_build_of_an_index_is_built_again(whole: Path) -> None:
    run = whole.parent / "indexed"
    shutil.copytree(whole.parent / "trained", run)
    shutil.copytree(whole / "embeddings", run / "embeddings")
    stages = [stage for stage, _ in _run("index", whole)]
    for kill_at in (1 + stages.index("build graph (l2)"), len(stages)):
        _run("index", run, kill_at=kill_at)
        assert not (run / "index").exists()
    # One that was killed while it wrote leaves a folder of this name.
    left = run / f".index.writing-{'0' * 32}"
    left.mkdir()
    (left / "index.json").write_text("{")
    _run("index", run)
    assert _sums(run / "index") == _sums(whole / "index")
    assert not list(run.glob(".index*")), "nothing temporary is left"
