"""What warm-up runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import prediction_log_pb2

from nann.serving.server._warmup import WARMUP_FILE, warm_up


class _Servable:
    def __init__(self, outputs: Sequence[str]) -> None:
        signature = meta_graph_pb2.SignatureDef()
        for name in outputs:
            signature.outputs[name].name = name
        self.signatures = {"retrieve": signature}
        self.runs: list[list[str]] = []

    def run(self, feeds: Any, fetches: Sequence[str], *, timeout_ms: int | None) -> list[Any]:
        self.runs.append(list(fetches))
        return [np.zeros(1)] * len(fetches)


def _runs(folder: Path, outputs: Sequence[str], output_filter: Sequence[str] = ()) -> list[list[str]]:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "retrieve"
    log.predict_log.request.output_filter.extend(output_filter)
    (folder / WARMUP_FILE).parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / WARMUP_FILE)) as writer:
        writer.write(log.SerializeToString())
    servable = _Servable(outputs)
    warm_up(servable, folder, version=1)  # type: ignore[arg-type]
    return servable.runs


def test_a_search_is_run_with_the_output_filters_that_callers_send(tmp_path: Path) -> None:
    every = ["items_scored", "scores", "top_k"]
    assert _runs(tmp_path, every) == [every, ["top_k"], ["top_k", "scores"]]
    assert _runs(tmp_path, ["scores", "top_k"]) == [["scores", "top_k"], ["top_k"]]
    assert _runs(tmp_path, ["scores"]) == [["scores"]]
    assert _runs(tmp_path, every, ["scores"]) == [["scores"]]
