"""A real export behind the embedded server, asked in every way that users ask."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from nann.errors import InvalidInputError
from nann.serving.client import NannClient, RowsRejectedError
from support.tiny_model import D, E, L
from support.tiny_run import N, write_run

LEVEL_TOPN = [20, 30, 30, 30, 30, 10]


@pytest.fixture(scope="module")
def server(export_base_path: Path, serve: Callable[..., Any]) -> Any:
    process = serve("--model_name", "nann", "--model_base_path", str(export_base_path))
    yield process.wait_ready()
    process.close()


@pytest.fixture(scope="module")
def comm_seq() -> Any:
    return np.random.default_rng(5).normal(size=(3, L, E)).astype(np.float16)


@pytest.fixture(scope="module")
def expected(server: Any, comm_seq: Any) -> Any:
    """The answer through the client; the other ways must give the same."""
    with NannClient(server.grpc, model="nann") as client:
        found = client.top_k(comm_seq, level_topn=LEVEL_TOPN, timeout=30)
    assert found.ids.shape == (3, 10)
    assert (found.ids > 0).all()
    assert (np.diff(found.scores, axis=1) <= 0).all()
    return found


def test_the_unmodified_client_of_tensorflow_serving(server: Any, comm_seq: Any, expected: Any) -> None:
    """As in the smoke test of the original NANN."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    grpc_request = predict_pb2.PredictRequest()
    grpc_request.model_spec.name = "nann"
    grpc_request.model_spec.signature_name = "serving_default"
    grpc_request.inputs["comm_seq"].CopyFrom(tf.make_tensor_proto(comm_seq.reshape(3, -1)))
    grpc_request.inputs["level_topn"].CopyFrom(tf.make_tensor_proto(LEVEL_TOPN, dtype=tf.int32))
    with grpc.insecure_channel(server.grpc) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        result = stub.Predict(grpc_request, 30.0)
    np.testing.assert_array_equal(tf.make_ndarray(result.outputs["top_k"]), expected.ids)


def test_rest(server: Any, comm_seq: Any, expected: Any) -> None:
    body = {
        "signature_name": "retrieve",
        "inputs": {
            "comm_seq": comm_seq.reshape(3, -1).astype(float).tolist(),
            "level_topn": [LEVEL_TOPN] * 3,
            "exclude_ids": [[-1]] * 3,
        },
    }
    url = f"http://{server.rest}/v1/models/nann:predict"
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=30) as answer:
        outputs = json.load(answer)["outputs"]
    np.testing.assert_array_equal(outputs["top_k"], expected.ids)
    assert all(0 < scored <= 3 * N for scored in outputs["items_scored"])


def test_score_agrees_with_the_walk(server: Any, comm_seq: Any, expected: Any) -> None:
    with NannClient(server.grpc, model="nann") as client:
        scores = client.score(comm_seq, expected.ids, timeout=30)
        unknown = client.score(comm_seq, [-1, 10**12], timeout=30)
    np.testing.assert_allclose(scores, expected.scores, rtol=1e-6)
    assert np.isneginf(unknown).all()


def test_excluded_items_are_left_out(server: Any, comm_seq: Any, expected: Any) -> None:
    with NannClient(server.grpc, model="nann") as client:
        rest = client.top_k(comm_seq, LEVEL_TOPN, exclude_ids=expected.ids[:, :4], timeout=30)
    np.testing.assert_array_equal(rest.ids[:, :6], expected.ids[:, 4:])


def test_a_request_that_is_not_valid_fails_none_that_it_is_joined_with(
    serve: Callable[..., Any], export_base_path: Path, comm_seq: Any, expected: Any, tmp_path: Path
) -> None:
    batching = tmp_path / "batching.config"
    # No batch runs before it is full, so that the three requests share one.
    batching.write_text(
        "max_batch_size { value: 3 } batch_timeout_micros { value: 60000000 } "
        "pad_variable_length_inputs: true"
    )
    process = serve(
        *("--model_name", "nann", "--model_base_path", str(export_base_path), "--enable_model_warmup=false"),
        *("--enable_batching", f"--batching_parameters_file={batching}"),
    ).wait_ready()
    users = comm_seq.astype(np.float32)
    beams = [LEVEL_TOPN, [20, 0, 30, 30, 30, 40], LEVEL_TOPN]
    with NannClient(process.grpc, model="nann", timeout=60) as client, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.top_k, users[row], beams[row]) for row in range(3)]
        with pytest.raises(RowsRejectedError, match=r"row 0: level_topn\[1\]: expected 1 to 65536, found 0"):
            asked[1].result()
        for row in (0, 2):
            np.testing.assert_array_equal(asked[row].result().ids, expected.ids[row : row + 1])
    process.close()


def test_files_of_a_version_go_with_it(serve: Callable[..., Any], comm_seq: Any, tmp_path: Path) -> None:
    from nann.export import ExportOptions, Tuning, export_model

    first, second = (tmp_path / "models" / "nann" / version for version in "12")
    export_model(
        write_run(tmp_path / "run"), first, ExportOptions(table_bytes=0, tuning=Tuning(walk="fixed"))
    )
    server = serve("--model_name", "nann", "--model_base_path", str(first.parent)).wait_ready()

    def mapped(version: Path) -> list[str]:
        maps = Path(f"/proc/{server.pid}/maps").read_text().splitlines()
        return [line for line in maps if f"{version}/" in line]

    with NannClient(server.grpc, model="nann") as client:
        client.top_k(comm_seq, level_topn=LEVEL_TOPN, timeout=30)
        assert mapped(first)
        shutil.copytree(first, tmp_path / "copy")
        (tmp_path / "copy").rename(second)
        server.wait_for_log("version 1: unloaded")
        assert not mapped(first)
        assert client.top_k(comm_seq, level_topn=LEVEL_TOPN, timeout=30).model_version == 2
        assert mapped(second)


def test_nann_query_in_another_process(server: Any, tmp_path: Path, comm_seq: Any, expected: Any) -> None:
    np.save(tmp_path / "user.npy", comm_seq[0])
    command = [sys.executable, "-m", "nann", "query", "--json", "--target", server.grpc, "--model", "nann"]
    command += ["--level-topn", ",".join(map(str, LEVEL_TOPN)), "--comm-seq", str(tmp_path / "user.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["users"][0]["ids"] == expected.ids[0].tolist()


def test_nann_query_says_how_many_beams_the_index_takes(server: Any, tmp_path: Path, comm_seq: Any) -> None:
    np.save(tmp_path / "user.npy", comm_seq[0])
    command = [sys.executable, "-m", "nann", "query", "--target", server.grpc, "--level-topn", "10,20,5"]
    done = subprocess.run(
        [*command, "--comm-seq", str(tmp_path / "user.npy")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "--level-topn: expected 6 values for this model's index" in done.stderr
    assert "found 3" in done.stderr


def test_ids_and_categories_must_be_as_many(server: Any) -> None:
    with (
        NannClient(server.grpc, model="nann") as client,
        pytest.raises(InvalidInputError, match="cate_ids: expected one id for each id of item_ids"),
    ):
        client.top_k_by_ids([1, 3, 5], [100], level_topn=LEVEL_TOPN, timeout=30)


def test_a_vector_of_another_length_is_refused(server: Any) -> None:
    from nann.serving.client import RequestRejectedError

    with NannClient(server.grpc, model="nann") as client:
        wrong = {"comm_seq": np.zeros((1, D), np.float16), "level_topn": np.array(LEVEL_TOPN, np.int32)}
        with pytest.raises(RequestRejectedError, match=f"comm_seq.*{L * E}"):
            client.predict(wrong, timeout=30)
