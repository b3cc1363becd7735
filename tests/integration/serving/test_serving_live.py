"""Segments in every kind of server: `nann serve`, a SavedModel in a Python process, and a C++ process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nann.ops
from nann.errors import InvalidInputError
from nann.export.loaded import LoadedModel
from nann.live import Publisher
from nann.serving.client import NannClient, ResponseError, StaleReplicaError
from nann.serving.server._metrics import Metrics
from support.cpp_server import answer_of, ask, build_server
from support.live import upsert
from support.live_export import publish_copies
from support.tiny_model import E, L
from support.tiny_run import N, write_run

BEAMS = [20, 60, 60, 60, 60, 12]
USER = np.random.default_rng(1).normal(size=(1, L * E)).astype(np.float32)
INPUTS = {
    "comm_seq": USER,
    "level_topn": np.array([BEAMS], np.int32),
    "exclude_ids": np.full((1, 1), -1, np.int64),
}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MODELS/nann/1 with room for 50 new items; its default beams are for the adaptive walk."""
    from nann.export import ExportOptions, Tuning, export_model

    folder = tmp_path_factory.mktemp("live")
    options = ExportOptions(level_topn=BEAMS, overlay_share=0.1, tuning=Tuning(walk="adaptive"))
    export_model(write_run(folder / "run"), folder / "models" / "nann" / "1", options)
    return folder / "models" / "nann" / "1"


def test_every_server_answers_the_same_after_the_same_segments(
    export: Path, serve: Callable[..., Any]
) -> None:
    import tensorflow as tf

    nann.ops.load_library()
    manifest = json.loads((export / "assets.extra" / "nann_manifest.json").read_text())
    assert manifest["overlay"]["capacity"] == N // 10
    loaded = tf.saved_model.load(str(export))
    server = serve("--model_name", "nann", "--model_base_path", str(export.parent)).wait_ready()
    with NannClient(server.grpc, model="nann", timeout=60) as client:
        base = client.top_k(USER, BEAMS, min_segment=0)
        assert base.applied_segment == 0
        ids = np.load(export / "assets" / "item_ids.npy")
        best = [int(np.flatnonzero(ids == each)[0]) for each in base.ids[0, :3]]
        # Copies of the best three; then two of the originals are deleted, and one copy.
        publish_copies(export, 1, best, [10**6, 10**6 + 1, 10**6 + 2], before=N)
        first = client.top_k(USER, BEAMS, min_segment=1)
        assert {*base.ids[0, :3].tolist(), 10**6, 10**6 + 1, 10**6 + 2} == set(first.ids[0, :6].tolist())
        publish_copies(export, 2, [], [], before=N + 3, deleted=[*best[:2], N + 2])
        second = client.top_k(USER, BEAMS, min_segment=2)
        assert second.applied_segment == 2
        assert second.ids[0, :3].tolist() == [10**6, 10**6 + 1, int(base.ids[0, 2])]
        scores = client.score(USER, [int(base.ids[0, 0]), 10**6, 10**6 + 2], min_segment=2)
        assert scores[0].tolist() == [-np.inf, base.scores[0, 0], -np.inf]
        without = client.top_k(USER, BEAMS, exclude_ids=[10**6], min_segment=2)
        assert without.ids[0].tolist()[0] == 10**6 + 1
        # What the publisher writes, a server applies.
        item = np.load(export / "assets" / "item_embs.npy")[best[2]]
        with Publisher(export) as publisher:
            assert publisher.publish([upsert(10**7, item)], {}).segment == 3
        third = client.top_k(USER, BEAMS, min_segment=3)
        assert third.ids[0, :4].tolist() == [10**6, 10**6 + 1, int(base.ids[0, 2]), 10**7]
        np.testing.assert_allclose(third.scores[0, 3], third.scores[0, 2], rtol=1e-5)
        with pytest.raises(StaleReplicaError, match="expected an answer that has segment 99, found 3"):
            client.top_k(USER, BEAMS, min_segment=99, timeout=1)

    def in_process() -> dict[str, Any]:
        found = loaded.signatures["retrieve"](**{k: tf.constant(v) for k, v in INPUTS.items()})
        return {name: value.numpy() for name, value in found.items()}

    found = in_process()
    while found["applied_segment"][0] < 3:
        found = in_process()
    library = nann.ops.library_path().with_name("libnann_preload.so")
    cpp = answer_of(ask(build_server(), export, "retrieve", INPUTS, preload=library))
    for name, value in {"top_k": third.ids, "scores": third.scores, "applied_segment": [3]}.items():
        np.testing.assert_array_equal(found[name].ravel(), np.ravel(value))
        np.testing.assert_array_equal(cpp[name].astype(np.asarray(value).dtype), np.ravel(value))

    # What is verified and measured is the export itself.
    with LoadedModel(export) as base_alone:
        np.testing.assert_array_equal(base_alone.run("retrieve", INPUTS)["top_k"], base.ids)


def test_a_client_says_when_the_export_takes_no_segments(tmp_path: Path, serve: Callable[..., Any]) -> None:
    from nann.export import ExportOptions, Tuning, export_model

    options = ExportOptions(level_topn=BEAMS, tuning=Tuning(walk="fixed"))
    export_model(write_run(tmp_path / "run"), tmp_path / "nann" / "1", options)
    server = serve("--model_name", "nann", "--model_base_path", str(tmp_path / "nann")).wait_ready()
    with (
        NannClient(server.grpc, model="nann", timeout=60) as client,
        pytest.raises(ResponseError, match="no output 'applied_segment'"),
    ):
        client.top_k(USER, BEAMS, min_segment=1)


def test_the_page_of_metrics_tells_gauges_from_counters() -> None:
    page = Metrics().text()
    assert "# TYPE :nann:overlay_items gauge\n:nann:overlay_items{} " in page
    assert "# TYPE :nann:segments_applied counter\n:nann:segments_applied{} " in page


def test_a_share_that_is_none_is_refused() -> None:
    from nann.export import ExportOptions

    with pytest.raises(InvalidInputError, match=r"overlay_share: expected 0 to 1, found 1\.5"):
        ExportOptions(overlay_share=1.5)
