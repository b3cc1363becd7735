"""Versions that come, fail and go while requests run, and the end of the server."""

from __future__ import annotations

import ctypes
import json
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from nann.serving.client import DeadlineExceededError, NannClient, UnavailableError

_USER = np.array([1, 2, 3, 4, 5, 6], np.float16)
_BEAMS = [9, 3]


def test_new_version_is_picked_up_and_a_corrupt_one_is_not(
    serve: Callable[..., Any], publish: Any, best: Any, small_models: tuple[Path, Path], tmp_path: Path
) -> None:
    publish(small_models[0], tmp_path, 1)
    server = serve("--model_name", "m", "--model_base_path", str(tmp_path), "--max_num_load_retries", "0")
    server.wait_ready()
    with NannClient(server.grpc, model="m") as client:
        answers, stop_asking = _ask_all_the_time(client)
        publish(small_models[1], tmp_path, 10)
        server.wait_for_log("version 1: unloaded")
        after = client.top_k(_USER, level_topn=_BEAMS)
        (tmp_path / "11").mkdir()
        (tmp_path / "11" / "saved_model.pb").write_bytes(b"no protocol buffer")
        server.wait_for_log("version 11: cannot be loaded")
        still = client.top_k(_USER, level_topn=_BEAMS)
        stop_asking()
        states = {version.version: version for version in client.status()}
    expected = {1: best(_USER[None], 3), 10: best(_USER[None], 3, 100.0)}
    assert [after.model_version, still.model_version] == [10, 10]
    # No request failed, and each was answered by one version as a whole.
    assert {answer.model_version for answer in answers} == {1, 10}
    for answer in answers:
        np.testing.assert_array_equal(answer.ids, expected[answer.model_version][0])
        np.testing.assert_array_equal(answer.scores, expected[answer.model_version][1])
    assert {number: version.state for number, version in states.items()} == {
        1: "END",
        10: "AVAILABLE",
        11: "END",
    }
    assert states[11].error_code == grpc.StatusCode.DATA_LOSS.value[0]
    assert "saved_model.pb" in states[11].error_message


def _ask_all_the_time(client: NannClient) -> tuple[list[Any], Callable[[], None]]:
    answers: list[Any] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(client.top_k(_USER, level_topn=_BEAMS))
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()

    def end() -> None:
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures

    return answers, end


def test_sigterm_lets_requests_under_way_end_and_waits_for_no_expired_one(
    serve: Callable[..., Any], publish: Any, small_models: tuple[Path, Path], tmp_path: Path, hold: Any
) -> None:
    """The server may drain for ten minutes, more than this test waits: what it ends early has ended."""
    publish(small_models[0], tmp_path / "m", 1)
    flags = ("--model_name", "m", "--model_base_path", str(tmp_path / "m"), "--drain_seconds", "600")
    # Each request that is held holds a thread, and TensorFlow makes one per core.
    threads = ("--tensorflow_inter_op_parallelism", "4")
    server = serve(*flags, *threads, as_json=False).wait_ready()
    never = {"started": str(tmp_path / "no_pipe"), "go": str(tmp_path / "never")}
    with NannClient(server.grpc, model="m") as client, pytest.raises(DeadlineExceededError, match="timeout"):
        client.predict(never, signature="hold", timeout=0.3)
    over_grpc, over_rest = hold(tmp_path / "grpc"), hold(tmp_path / "rest")
    with NannClient(server.grpc, model="m") as client, ThreadPoolExecutor(2) as pool:
        answers = [
            pool.submit(client.predict, over_grpc.inputs, signature="hold", timeout=60),
            pool.submit(_post, server.rest, {"signature_name": "hold", "inputs": over_rest.inputs}),
        ]
        over_grpc.wait_started()
        over_rest.wait_started()
        server.terminate()
        server.wait_for_log("stopping")
        over_grpc.release()
        over_rest.release()
        assert "turns" in answers[0].result()
        assert "outputs" in answers[1].result()
    assert server.wait() == 0


def test_sigterm_ends_the_server_whichever_of_its_threads_gets_it(
    serve: Callable[..., Any], publish: Any, small_models: tuple[Path, Path], tmp_path: Path
) -> None:
    """The kernel may give it to any thread; Python runs handlers in the main thread, which then sleeps on."""
    publish(small_models[0], tmp_path / "m", 1)
    server = serve("--model_name", "m", "--model_base_path", str(tmp_path / "m")).wait_ready()
    tasks = Path(f"/proc/{server.pid}/task").iterdir()
    thread = next(
        int(task.name) for task in tasks if (task / "comm").read_text() == "event_engine\n"
    )  # gRPC's
    tgkill = 234  # Of x86-64; Python has no function for the thread of another process.
    assert ctypes.CDLL(None).syscall(tgkill, server.pid, thread, signal.SIGTERM) == 0
    assert server.wait() == 0


def test_a_second_sigterm_ends_a_server_that_waits_for_its_requests(
    serve: Callable[..., Any], publish: Any, small_models: tuple[Path, Path], tmp_path: Path, hold: Any
) -> None:
    publish(small_models[0], tmp_path / "m", 1)
    flags = ("--model_name", "m", "--model_base_path", str(tmp_path / "m"), "--drain_seconds", "600")
    server = serve(*flags).wait_ready()
    held = hold(tmp_path / "hold")
    with NannClient(server.grpc, model="m") as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.predict, held.inputs, signature="hold", timeout=60)
        held.wait_started()
        server.terminate()
        server.wait_for_log("stopping")
        server.terminate()
        with pytest.raises(UnavailableError):
            answer.result()
    assert server.wait() == 128 + signal.SIGTERM


def _post(address: str, body: Any) -> Any:
    request = urllib.request.Request(f"http://{address}/v1/models/m:predict", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_a_run_that_takes_too_long_ends_in_the_words_of_the_real_server(
    serve: Callable[..., Any], publish: Any, small_models: tuple[Path, Path], hold: Any, tmp_path: Path
) -> None:
    publish(small_models[0], tmp_path / "m", 1)
    server = serve(
        *("--model_name", "m", "--model_base_path", str(tmp_path / "m"), "--rest_api_timeout_in_ms", "500")
    ).wait_ready()
    held = hold(tmp_path / "hold")
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(held.wait_started)
        with pytest.raises(urllib.error.HTTPError) as caught:
            _post(server.rest, {"signature_name": "hold", "inputs": held.inputs})
        started.result()
        held.release()
    with caught.value as answer:
        assert (answer.code, json.load(answer)) == (504, {"error": "Timed out waiting for notification"})
    server.close()


def test_warm_up_requests_run_before_the_version_is_available(
    serve: Callable[..., Any], publish: Any, small_models: tuple[Path, Path], tmp_path: Path
) -> None:
    """A warm-up request that fails keeps its version from serving; without warm-up it serves."""
    from tensorflow_serving.apis import prediction_log_pb2

    folder = publish(small_models[0], tmp_path, 1)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "no_such"
    (folder / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(folder / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    flags = ("--model_name", "m", "--model_base_path", str(tmp_path), "--max_num_load_retries", "0")
    refused, served = serve(*flags), serve(*flags, "--enable_model_warmup", "false")
    line = refused.wait_for_log("did not become available")
    assert 'Serving signature key "no_such" not found' in line
    assert refused.wait() == 1
    served.wait_ready()


def test_sigterm_ends_a_server_that_waits_for_its_model(serve: Callable[..., Any], tmp_path: Path) -> None:
    server = serve("--model_name", "m", "--model_base_path", str(tmp_path / "missing"))
    server.wait_for_log("cannot be read")
    server.terminate()
    assert server.wait() == 0


def test_ports_in_use_are_clear_errors(
    serve: Callable[..., Any], running: Any, publish: Any, small_models: tuple[Path, Path], tmp_path: Path
) -> None:
    publish(small_models[0], tmp_path, 1)
    flags = ("--model_name", "m", "--model_base_path", str(tmp_path))
    servers = {
        option: serve(*flags, option, address.rpartition(":")[2])
        for option, address in {"--port": running.grpc, "--rest_api_port": running.rest}.items()
    }
    for option, server in servers.items():
        assert option in server.wait_for_log("cannot listen")
        assert server.wait() == 1
