"""SavedModels of an older TensorFlow, of Keras 2, are exported as they are, without their Python code."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from nann.export import ExportOptions, build_index, export_model
from nann.export.loaded import loaded
from support import tensorflow_versions
from support.processes import ROOT, output_of

# The first TensorFlow for Python 3.12; none of our libraries is built for it.
OLD = ("tensorflow-2.16-keras-2", "tensorflow==2.16.*", "tf_keras==2.16.*")
# Networks of Keras 2 in the process of the export, and their inner product with an item.
NETWORKS = """
import numpy as np
import tf_keras
from nann.export import from_keras

ids = tf_keras.Input([4], dtype="int64", name="item_ids")
user = tf_keras.Model(ids, {"user": tf_keras.layers.Dense(8)(tf_keras.layers.Embedding(10, 3)(ids)[:, 0])})
state, item = tf_keras.Input([8], name="user"), tf_keras.Input([8], name="item")
scorer = tf_keras.Model({"user": state, "item": item}, tf_keras.layers.Dot(1)([state, item]))
model = from_keras(user=user, scorer=scorer)
found = model.embed_user({"item_ids": np.array([[3, 1, 2, 0]])})
items = np.eye(8, dtype=np.float32)
np.testing.assert_allclose(model.score({"user": found["user"][0]}, items), found["user"][0])
print(sorted(model.user_features), sorted(model.user_state), model.embedding_dim)
"""
BEAMS = [20, 40, 40, 40, 40, 10]


def test_a_saved_model_of_keras_2_and_an_older_tensorflow_scores_as_there(tmp_path: Path) -> None:
    python = tensorflow_versions.environment_of(*OLD) / "python"
    run = tmp_path / "run"
    for name in ("embeddings", "vocabulary"):
        (run / name).mkdir(parents=True)
    output_of(python, Path(__file__).with_name("write_saved_model.py"), run / "saved")
    expected = np.load(run / "saved.npz")
    ids = 1000 + np.arange(len(expected["items"]))
    np.save(run / "embeddings/item_ids.npy", ids)
    np.save(run / "embeddings/item_embs.npy", expected["items"])
    np.save(run / "vocabulary/item_ids.npy", ids)
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "saved_model:saved"}))
    build_index(run, m=8)
    export_model(run, tmp_path / "models/1", ExportOptions(level_topn=BEAMS))
    with loaded(tmp_path / "models/1") as exported:
        found = exported.run("score", {"user": expected["user"], "item_ids": ids[np.newaxis]})["scores"][0]
        features = {"item_ids": ids[np.newaxis, :4], "country": np.array([[b"fr"]], object)}
        search = {"level_topn": np.array([BEAMS], np.int32), "exclude_ids": np.zeros((1, 0), np.int64)}
        by_ids = exported.run("retrieve_by_ids", {**features, **search})
    largest = np.abs(expected["scores"]).max()
    np.testing.assert_allclose(found, expected["scores"], rtol=0, atol=1e-5 * largest)
    positions = by_ids["top_k"][0] - 1000
    np.testing.assert_allclose(
        by_ids["scores"][0], expected["scores"][positions], rtol=0, atol=1e-5 * largest
    )


def test_networks_of_keras_2_are_a_model() -> None:
    version, folder = tensorflow_versions.installed(), ROOT / "build/tf_keras"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    output_of(*pip, "--upgrade", "--target", folder, f"tf_keras=={version}.*")
    found = output_of(sys.executable, "-c", f"import sys; sys.path.append({str(folder)!r})\n{NETWORKS}")
    assert found.splitlines()[-1] == "['item_ids'] ['user'] 8"
