"""A C++ process answers for a model of strings, raw integers, an open length, a FeatureSpace and a GRU."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nann.export import ExportOptions, export_model
from support.cpp_server import answer_of, ask
from support.modern_model import BEAMS, USERS, Modern, expected_scores, request, write_run


def test_a_cpp_process_answers_features_of_any_kind(server: Path, shim: Path, tmp_path: Path) -> None:
    run, model = write_run(tmp_path / "run"), tmp_path / "models/1"
    export_model(run, model, ExportOptions(level_topn=BEAMS, table_bytes=0), model=Modern())
    found = answer_of(ask(server, model, "retrieve_by_ids", request(), preload=shim))
    ids = found["top_k"].astype(np.int64).reshape(len(USERS), BEAMS[-1])
    scores = found["scores"].reshape(ids.shape)
    for user, items, of_items in zip(USERS, ids, scores, strict=True):
        assert np.unique(items).size == items.size
        np.testing.assert_allclose(of_items, expected_scores(run, user, items), rtol=1e-4, atol=1e-5)
