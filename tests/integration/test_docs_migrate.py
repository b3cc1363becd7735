"""docs/migrate.md: the class for the original's frozen graph, run as the document has it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import tensorflow as tf

from nann.export import ExportOptions, build_index, check_run, export_model
from nann.export.loaded import loaded

DOCUMENT = Path(__file__).parents[2] / "docs" / "migrate.md"
N, L, E, D = 200, 4, 8, 8


def _write_frozen_graph(path: Path) -> None:
    """As TensorFlow 1 wrote it: placeholders, constants, and a batch of one user."""
    with tf.Graph().as_default() as graph:
        comm_seq = tf.compat.v1.placeholder(tf.float32, [1, L * E], name="comm_seq")
        item_emb = tf.compat.v1.placeholder(tf.float32, [None, D], name="item_emb")
        user = tf.reduce_mean(tf.reshape(comm_seq, [L, E]), axis=0)
        tf.reduce_sum(tf.tanh(item_emb) * user, axis=1, keepdims=True, name="scores")
    path.write_bytes(graph.as_graph_def().SerializeToString())


def test_a_frozen_graph_of_the_original_is_a_scorer(tmp_path: Path) -> None:
    run, ids = tmp_path / "RUN", np.arange(1, N + 1)
    (run / "embeddings").mkdir(parents=True)
    vectors = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    np.save(run / "embeddings/item_ids.npy", ids)
    np.save(run / "embeddings/item_embs.npy", vectors)
    _write_frozen_graph(run / "frozen_graph.pb")
    code = next(
        block
        for block in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
        if "OriginalModel" in block
    )
    (run / "original_model.py").write_text(code)
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "original_model:OriginalModel"}))
    assert check_run(run)["accepted"]
    build_index(run, m=8, threads=1)
    export_model(run, tmp_path / "models/1", ExportOptions(level_topn=(20, 40, 40, 40, 40, 10)))
    comm_seq = np.random.default_rng(1).normal(size=(1, L * E)).astype(np.float32)
    with loaded(tmp_path / "models/1") as exported:
        found = exported.run("score", {"comm_seq": comm_seq, "item_ids": ids[np.newaxis]})["scores"][0]
    expected = np.tanh(vectors) @ comm_seq.reshape(L, E).mean(axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
