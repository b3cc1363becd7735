"""A caller that gives up: the work for it ends."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from nann.serving.server import _front
from support.graphs import DIM, random_corpus
from support.session_model import save_model

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_USERS = 20
# 121 tiles a user, 5 ms each.
_BEAMS = np.array([3, 500, 2000, 2000, 2000, 100], np.int32)
_TILES_A_USER = 121

pytestmark = pytest.mark.skipif(not _front.is_built(), reason="needs libgrpc++-dev when nann is installed")


def test_a_search_ends_when_its_caller_gives_up(serve: Callable[..., Any], tmp_path: Path) -> None:
    corpus = random_corpus(23, num_items=3000, degree=12, sparsity=0.0)
    save_model(corpus, tmp_path, slow_steps=10)
    (tmp_path / "model").rename(tmp_path / "1")
    base_path = tmp_path.rename(tmp_path.parent / "slow")
    monitoring = base_path / "monitoring"
    monitoring.write_text("prometheus_config { enable: true }")
    server = serve(
        *("--model_name=slow", f"--model_base_path={base_path}", f"--monitoring_config_file={monitoring}")
    ).wait_ready()
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "slow"
    request.inputs["user"].CopyFrom(tf.make_tensor_proto(np.ones((_USERS, DIM), np.float32)))
    request.inputs["level_topn"].CopyFrom(tf.make_tensor_proto(_BEAMS))
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(_PREDICT).future(request.SerializeToString())
        _wait_for(lambda: _value(server, r":nann:tiles{}") > 0)
        call.cancel()
        _wait_for(lambda: _value(server, r":nann:request_count{.*}") == 1)
    assert _value(server, r':nann:request_count{.*status="CANCELLED"}') == 1
    assert _value(server, r":nann:tiles{}") < _USERS * _TILES_A_USER
    assert _value(server, r":nann:searches{}") < _USERS


def _value(server: Any, sample: str) -> int:
    """The sum of such samples on the page of metrics."""
    return sum(int(number) for number in re.findall(rf"^{sample} (\d+)$", server.metrics(), re.MULTILINE))


def _wait_for(happened: Callable[[], bool]) -> None:
    while not happened():  # The page of metrics tells nobody when it changes.
        threading.Event().wait(0.01)
