"""Clients that know nothing of nann, and the client that does, against a running server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from nann.errors import InvalidInputError
from nann.serving.client import (
    ModelNotFoundError,
    NannClient,
    RequestRejectedError,
    UnavailableError,
)

_BEAMS = [100, 200, 200, 200, 200, 10]


def _users(count: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(-3, 4, (count, 6)).astype(np.float16)


def test_unmodified_tensorflow_serving_client(running: Any, best: Any) -> None:
    """The calls of the original's smoke test."""
    comm_seq = _users(1)
    grpc_request = predict_pb2.PredictRequest()
    grpc_request.model_spec.name = "nann"
    grpc_request.model_spec.signature_name = "serving_default"
    grpc_request.inputs["comm_seq"].CopyFrom(tf.make_tensor_proto(comm_seq, dtype=tf.float16))
    grpc_request.inputs["level_topn"].CopyFrom(tf.make_tensor_proto(_BEAMS, dtype=tf.int32))
    with grpc.insecure_channel(running.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        result = stub.Predict(grpc_request, 10)
        assert stub.Predict(grpc_request) == result  # without a deadline
    ids, scores = best(comm_seq, 10)
    np.testing.assert_array_equal(tf.make_ndarray(result.outputs["top_k"]), ids)
    np.testing.assert_array_equal(tf.make_ndarray(result.outputs["scores"]), scores)
    assert result.model_spec.version.value == 1


@pytest.mark.parametrize("shape", [(2, 6), (2, 2, 3)], ids=["[B, L*E]", "[B, L, E]"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_top_k(running: Any, best: Any, shape: tuple[int, ...], dtype: type[Any]) -> None:
    users = _users(2)
    with NannClient(running.grpc, model="nann") as client:
        result = client.top_k(users.reshape(shape).astype(dtype), level_topn=_BEAMS, timeout=10)
    ids, scores = result
    np.testing.assert_array_equal(ids, best(users, 10)[0])
    np.testing.assert_array_equal(scores, best(users, 10)[1])
    assert (ids.dtype, scores.dtype) == (np.int64, np.float32)
    assert result.model_version == 1
    assert (result.items_scored is None) == (dtype is np.float16)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 6)], ids=["[L*E]", "[L, E]", "[1, L*E]"])
def test_top_k_of_one_user(running: Any, best: Any, shape: tuple[int, ...]) -> None:
    user = _users(1)
    with NannClient(running.grpc) as client:
        ids, _ = client.top_k(user.reshape(shape), level_topn=_BEAMS)
    np.testing.assert_array_equal(ids, best(user, 10)[0])


def test_exclusions_and_beams_by_user(running: Any, best: Any) -> None:
    users = _users(2).astype(np.float32)
    expected = best(users, 40)[0]
    excluded = [expected[0, :3].tolist(), expected[1, :1].tolist()]
    with NannClient(running.grpc) as client:
        result = client.top_k(
            users, level_topn=[[1, 1, 1, 1, 1, 5], [1, 1, 1, 1, 1, 8]], exclude_ids=excluded
        )
        everything = client.top_k(users, level_topn=[1, 40], exclude_ids=expected[0, :3].tolist())
    np.testing.assert_array_equal(result.ids[0], expected[0, 3:11])
    np.testing.assert_array_equal(result.ids[1], expected[1, 1:9])
    assert result.items_scored is not None
    assert result.items_scored.tolist() == [40, 40]
    assert (everything.ids[0, -3:] == -1).all()
    assert np.isneginf(everything.scores[0, -3:]).all()


def test_top_k_by_ids_fills_short_rows(running: Any, best: Any) -> None:
    with NannClient(running.grpc) as client:
        result = client.top_k_by_ids([[3, 1], [2, 2, 2]], [[0, 1], [0, 0, 1]], level_topn=_BEAMS)
        one = client.top_k_by_ids(item_ids=[0, 3, 1], cate_ids=np.array([0, 0, 1]), level_topn=_BEAMS)
    users = np.array([[0, 3, 1, 0, 0, 1], [2, 2, 2, 0, 0, 1]], np.float32)
    np.testing.assert_array_equal(result.ids, best(users, 10)[0])
    np.testing.assert_array_equal(one.ids, best(users[:1], 10)[0])


def test_score(running: Any, item_table: Any) -> None:
    users = _users(2).astype(np.float32)
    with NannClient(running.grpc) as client:
        scores = client.score(users, [1000, 1007, 5])
    expected = users @ item_table[[0, 7]].T
    np.testing.assert_array_equal(scores[:, :2], expected)
    assert np.isneginf(scores[:, 2]).all()


def test_metadata_and_status(running: Any) -> None:
    with NannClient(running.grpc) as client:
        client.wait_ready(timeout=10)
        metadata, versions = client.metadata(), client.status()
    retrieve = metadata.signatures["retrieve"]
    assert (metadata.name, metadata.version) == ("nann", 1)
    assert (retrieve.inputs["comm_seq"].dtype, retrieve.inputs["comm_seq"].shape) == ("float", (-1, 6))
    assert set(retrieve.outputs) == {"top_k", "scores", "items_scored"}
    assert [(version.version, version.state) for version in versions] == [(1, "AVAILABLE")]


def test_errors_name_code_server_model_and_next_step(running: Any) -> None:
    user = _users(1)
    with NannClient(running.grpc, model="nope") as client:
        with pytest.raises(ModelNotFoundError, match="status") as not_found:
            client.top_k(user.ravel(), level_topn=_BEAMS)
        with pytest.raises(ModelNotFoundError):
            client.wait_ready(timeout=10)
    assert not_found.value.code == "NOT_FOUND"
    assert (not_found.value.target, not_found.value.model) == (running.grpc, "nope")
    with NannClient(running.grpc) as client:
        with pytest.raises(ModelNotFoundError, match=r"Specific\(nann, 99\)"):
            client.top_k(user.ravel(), level_topn=_BEAMS, version=99)
        with pytest.raises(RequestRejectedError, match="metadata"):
            client.top_k(user.ravel(), level_topn=_BEAMS, signature="no_such")
        with pytest.raises(InvalidInputError, match="L\\*E = 6"):
            client.top_k(_users(1)[:, :5], level_topn=_BEAMS)


def test_nobody_there_is_unavailable(running: Any) -> None:
    with NannClient("localhost:1", retries=0) as client, pytest.raises(UnavailableError, match="wait_ready"):
        client.top_k(_users(1).ravel(), level_topn=_BEAMS, timeout=10)


def test_concurrent_requests_answer_as_sequential_ones(running: Any) -> None:
    users = [_users(1 + seed % 3, seed) for seed in range(64)]
    with NannClient(running.grpc) as client:
        alone = [client.top_k(user.astype(np.float32), level_topn=_BEAMS) for user in users]
        with ThreadPoolExecutor(16) as pool:
            together = list(
                pool.map(lambda user: client.top_k(user.astype(np.float32), level_topn=_BEAMS), users)
            )
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_rest_predict_in_both_formats(running: Any, best: Any) -> None:
    users = _users(2)
    rows = [{"comm_seq": user.tolist(), "level_topn": [9, 3], "exclude_ids": [-1]} for user in users]
    row_answer = _post(running.rest, {"signature_name": "retrieve", "instances": rows})
    columns = {"comm_seq": users.tolist(), "level_topn": [[9, 3]] * 2, "exclude_ids": [[], []]}
    column_answer = _post(running.rest, {"signature_name": "retrieve", "inputs": columns})
    expected = best(users, 3)[0].tolist()
    assert [row["top_k"] for row in row_answer["predictions"]] == expected
    assert column_answer["outputs"]["top_k"] == expected


def test_rest_bad_input_is_an_error_with_a_message(running: Any) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        _post(running.rest, {"signature_name": "retrieve", "inputs": {"comm_seq": [[1]]}})
    assert error.value.code == 400
    assert "Missing named input: exclude_ids" in json.loads(error.value.read())["error"]


def test_rest_body_that_is_not_compressed_as_announced(running: Any) -> None:
    url = f"http://{running.rest}/v1/models/nann:predict"
    request = urllib.request.Request(url, b"not gzip", {"Content-Encoding": "gzip"})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=30)
    assert error.value.code == 400
    assert "The document is empty" in json.loads(error.value.read())["error"]


def _post(address: str, body: Any) -> Any:
    request = urllib.request.Request(f"http://{address}/v1/models/nann:predict", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def test_query_command(running: Any, best: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "user.npy", _users(1))
    by_state = _query(running.grpc, "--comm-seq", str(tmp_path / "user.npy"), "--level-topn", "9,4")
    by_ids = _query(running.grpc, "--item-ids", "3,1", "--cate-ids", "1,1", "--level-topn", "9,4")
    assert by_state["users"][0]["ids"] == best(_users(1), 4)[0][0].tolist()
    assert by_ids["users"][0]["ids"] == best(np.array([[0, 3, 1, 0, 1, 1]]), 4)[0][0].tolist()
    assert by_ids["model_version"] == 1


def _query(target: str, *arguments: str) -> Any:
    command = [
        sys.executable,
        "-c",
        "from nann.cli import main; main()",
        "query",
        "--target",
        target,
        "--json",
    ]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_a_caller_who_leaves_is_no_fault(running: Any) -> None:
    """A connection cut in the middle of a request leaves no traceback in the log."""
    host, _, port = running.rest.rpartition(":")
    before = len(running.log)
    for _ in range(5):
        with socket.create_connection((host, int(port))) as connection:
            head = b"POST /v1/models/nann:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
            connection.sendall(head + b'{"inputs": ')
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):  # the server waits for the rest
                connection.recv(1)
    with urllib.request.urlopen(f"http://{running.rest}/v1/models/nann") as response:
        assert response.status == 200
    assert not [line for line in running.log[before:] if "Error" in line or "Traceback" in line]
