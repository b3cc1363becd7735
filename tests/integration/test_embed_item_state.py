"""`nann embed` of a model with item state, on the way from a data set to an export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nann.cli import main
from nann.training import read_dataset
from support.command import run_json

WITH_STATE = """
import tensorflow as tf


class Model:
    user_features = {"item_ids": tf.TensorSpec([5], tf.int64), "cate_ids": tf.TensorSpec([5], tf.int64)}
    user_state = {"user": tf.TensorSpec([64], tf.float32)}
    item_state = {"category": tf.TensorSpec([], tf.int32), "pair": tf.TensorSpec([2], tf.float32)}
    embedding_dim = 64

    @classmethod
    def from_run(cls, run_dir):
        return cls()

    def embed_user(self, features):
        return {"user": tf.one_hot(features["item_ids"][:, 0] % 64, 64)}

    def embed_item(self, features):
        embs = tf.one_hot(features["item_ids"] % 64, 64)
        rows = tf.cast(features["item_ids"], tf.float32)
        state = {
            "category": tf.cast(features["cate_ids"], tf.int32), "pair": tf.stack([rows, rows / 2], axis=1)
        }
        return embs, state

    def score(self, user_state, item_embs, item_state):
        own = tf.cast(item_state["category"], tf.float32) + item_state["pair"][:, 0] / 100
        return tf.linalg.matvec(item_embs, user_state["user"]) + own
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("item_state") / "data"
    run_json("data", "prepare", "--source", "synthetic:items=400,users=20,events=10,seed=1", "--out", folder)
    return folder


def _written(folder: Path, data: Path, source: str) -> Path:
    """A run of the model `with_state:Model` with this source, trained elsewhere."""
    run = folder / "run"
    (run / "vocabulary").mkdir(parents=True)
    (run / "with_state.py").write_text(source)
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "with_state:Model", "data": str(data)}))
    np.save(run / "vocabulary/item_ids.npy", read_dataset(data).item_ids)
    return run


def test_item_state_is_written_beside_the_embeddings(data: Path, tmp_path: Path) -> None:
    run = _written(tmp_path, data, WITH_STATE)
    assert run_json("embed", "--run", run)["items"] == 400
    files = sorted(path.name for path in (run / "embeddings").iterdir())
    assert files == ["item_embs.npy", "item_ids.npy", "item_state_category.npy", "item_state_pair.npy"]
    category, pair = (np.load(run / "embeddings" / f"item_state_{name}.npy") for name in ("category", "pair"))
    assert (category.dtype, category.shape, pair.dtype, pair.shape) == (
        np.int32,
        (400,),
        np.float32,
        (400, 2),
    )
    cates = read_dataset(data).item_cates[1:]
    np.testing.assert_array_equal(category, cates)
    np.testing.assert_array_equal(pair[:, 1], np.arange(1, 401) / 2)
    assert run_json("index", "--run", run, "--m", "4")["num_items"] == 400
    assert run_json("export", "--run", run, "--out", tmp_path / "models/1")["num_items"] == 400


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (
            "embs",
            "expected (item_embs, a dict of category, pair) as item_state declares, found no item state",
        ),
        ('(embs, {"category": rows})', "found a dict of category"),
        ('(embs[0], {"category": rows, "pair": embs[:, :2]})', "item_embs as a tensor [n, 64]"),
        ('(embs, {"category": embs, "pair": embs[:, :2]})', "category as a tensor [n], a row for each item"),
    ],
)
def test_item_state_that_is_not_as_declared_is_named(
    data: Path, tmp_path: Path, returned: str, message: str
) -> None:
    run = _written(tmp_path, data, WITH_STATE.replace("return embs, state", f"return {returned}"))
    done = CliRunner().invoke(main, ["embed", "--run", str(run)])
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())
    assert not (run / "embeddings").exists()
