"""docs/migrate.md: the class for the original's frozen graph, run as the document has it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import nann.export
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


def _block_with(word: str) -> str:
    """The Python block of the document that has `word`."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    return next(str(block) for block in blocks if word in block)


def test_a_frozen_graph_of_the_original_is_a_scorer(tmp_path: Path) -> None:
    run, ids = tmp_path / "RUN", np.arange(1, N + 1)
    (run / "embeddings").mkdir(parents=True)
    vectors = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    np.save(run / "embeddings/item_ids.npy", ids)
    np.save(run / "embeddings/item_embs.npy", vectors)
    _write_frozen_graph(run / "frozen_graph.pb")
    code = _block_with("OriginalModel")
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


def test_two_towers_of_tfrs_are_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequential towers that begin with StringLookup and that training has called, as in its tutorials."""
    titles, users = [f"Movie {i}" for i in range(N)], [f"u{i}" for i in range(20)]
    towers = {
        name: keras.Sequential(
            [
                keras.layers.StringLookup(vocabulary=words, mask_token=None),
                keras.layers.Embedding(len(words) + 1, D),
            ]
        )
        for name, words in (("query_tower", users), ("candidate_tower", titles))
    }
    user = towers["query_tower"](tf.constant(["u17"])).numpy()
    monkeypatch.chdir(tmp_path)
    exec(_block_with("query_tower"), {**towers, "titles": titles, "np": np, "tf": tf, "os": os, "nann": nann})
    with loaded(Path("MODELS/nann/1")) as exported:
        found = exported.run("score", {"user": user, "item_ids": np.arange(N)[np.newaxis]})["scores"][0]
        search = {
            "level_topn": np.array([[50] * 5 + [10]], np.int32),
            "exclude_ids": np.zeros((1, 0), np.int64),
        }
        by_id = exported.run("retrieve_by_ids", {"user_id": np.array([b"u17"], object), **search})
    expected = towers["candidate_tower"](tf.constant(titles)).numpy() @ user[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(by_id["scores"][0], expected[by_id["top_k"][0]], atol=1e-5)
