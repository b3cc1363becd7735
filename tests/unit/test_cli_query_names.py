"""`nann query` with inputs that the model does not have, or without one that it has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner

from nann.cli import main
from nann.serving.protocol import messages
from support.scripted_server import metadata_answer, predict_answer, scripted_server

_TYPES = messages.DataType
_OF_ALL = {"level_topn": (_TYPES.INT32, [-1, -1]), "exclude_ids": (_TYPES.INT64, [-1, -1])}
_FEATURES = {
    "country": (_TYPES.STRING, [-1]),
    "clicked_ids": (_TYPES.INT64, [-1, -1]),
    "clicked_ids_length": (_TYPES.INT32, [-1]),
    "hour": (_TYPES.INT64, [-1, 1]),
}
_SIGNATURES = {
    "retrieve_by_ids": {**_FEATURES, **_OF_ALL},
    "retrieve": {"profile": (_TYPES.FLOAT, [-1, 6]), **_OF_ALL},
}


@pytest.fixture
def target() -> Iterator[str]:
    """A server that refuses inputs of other names, as TensorFlow Serving does."""

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        if method == "GetModelMetadata":
            return metadata_answer(_SIGNATURES)
        sent = messages.PredictRequest.FromString(request)
        known = _SIGNATURES.get(sent.model_spec.signature_name, {})
        if set(sent.inputs) != {*known, *_OF_ALL}:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "input size does not match signature")
        return predict_answer(top_k=np.array([[9, 4]]), scores=np.array([[1.5, 0.5]], np.float32))

    with scripted_server(handler) as address:
        yield address


def _query(target: str, *arguments: str) -> Any:
    return CliRunner().invoke(main, ["query", "--target", target, "--level-topn", "4,2", *arguments])


_TAKEN = "country string, hour int64 [1], clicked_ids int64 [any length]"


@pytest.mark.parametrize(
    ("features", "found"),
    [
        (
            ["clickd_ids=1,2", "country=fr", "hour=7"],
            "found clickd_ids. It takes clicked_ids int64 [any length]",
        ),
        (["clickd_ids=a,b"], "found clickd_ids. It takes clicked_ids int64 [any length]"),
        (["Country=fr", "clicked_ids=1", "hour=7"], f"found Country. It takes {_TAKEN}"),
        (["clicked_ids=1", "hour=7"], f"found no country. It takes {_TAKEN}"),
    ],
)
def test_features_of_the_model_are_listed_nearest_first(target: str, features: list[str], found: str) -> None:
    done = _query(target, *(part for each in features for part in ("--feature", each)))
    assert done.exit_code == 1
    text = " ".join(done.stderr.split())
    assert "--feature: expected the inputs of the model's retrieve_by_ids" in text
    assert found in text
    for name in ("clicked_ids", "country", "hour"):
        assert name in text
    assert "clicked_ids_length" not in text
    assert "level_topn" not in text


def test_a_state_of_another_name_is_answered_alike(target: str, tmp_path: Path) -> None:
    np.save(tmp_path / "user.npy", np.zeros((1, 6), np.float32))
    done = _query(target, "--state", f"user={tmp_path / 'user.npy'}")
    assert (
        "--state: expected the inputs of the model's retrieve, found user. It takes profile float [6]."
        in (" ".join(done.stderr.split()))
    )


def test_right_names_are_answered(target: str) -> None:
    """The form of `--json` is that of docs/serving.md."""
    features = ["clicked_ids=1,2", "country=fr", "hour=7"]
    done = _query(target, *(part for each in features for part in ("--feature", each)), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found.keys() == {"model_version", "milliseconds", "users", "missing_shards"}
    assert found["users"] == [{"ids": [9, 4], "scores": [1.5, 0.5]}]


def test_features_are_read_by_what_another_replica_says(target: str) -> None:
    """Port 1 has no server: the other replica says what the model takes, and answers."""
    features = ["clicked_ids=1,2", "country=17", "hour=7"]
    done = _query(f"localhost:1,{target}", *(part for each in features for part in ("--feature", each)))
    assert done.exit_code == 0, done.output
    assert " 9 " in done.output
