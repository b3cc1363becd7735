"""The gRPC front in C++: no caller can tell it from the Python server behind it, but by its speed."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2

from nann.serving.client import NannClient
from nann.serving.protocol import tensors
from nann.serving.server import _front
from nann.serving.server._servable import MANIFEST

_PREDICT = "/tensorflow.serving.PredictionService/Predict"
_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_WATCH = "/grpc.health.v1.Health/Watch"
_SECONDS = 60
_MEGABYTE = 2**20
_DTYPES = ("float32", "float64", "int32", "uint8", "int16", "int8", "int64", "bool", "uint16", "float16")
_DTYPES = (*_DTYPES, "uint32", "uint64", "bfloat16", "complex64", "string")

pytestmark = pytest.mark.skipif(not _front.is_built(), reason="needs libgrpc++-dev when nann is installed")


@pytest.fixture(scope="module")
def echo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base path with versions 1 and 2: a signature for each type returns its input, `number` may fail.

    Version 2 has the manifest of an export, whose outputs are all fetched.
    """
    base_path = tmp_path_factory.mktemp("echo") / "echo"

    def echo(dtype: str) -> Any:
        spec = tf.TensorSpec(None, tf.as_dtype(dtype), "x")
        return tf.function(lambda x: {"x": tf.identity(x), "size": tf.size(x)}, input_signature=[spec])

    module = tf.Module()
    module.echoes = {dtype: echo(dtype) for dtype in _DTYPES}
    module.number = tf.function(
        lambda x, y: {"z": tf.strings.to_number(x) + y},
        input_signature=[tf.TensorSpec(None, tf.string, "x"), tf.TensorSpec([], tf.float32, "y")],
    )
    for version in (1, 2):
        tf.saved_model.save(
            module, str(base_path / str(version)), signatures={**module.echoes, "number": module.number}
        )
    (base_path / "2" / MANIFEST).parent.mkdir()
    (base_path / "2" / MANIFEST).write_text("{}")
    return base_path


@pytest.fixture(scope="module")
def channels(serve: Callable[..., Any], echo_model: Path, tmp_path_factory: Any) -> Iterator[list[Any]]:
    """Channels to a server with the front and to one without."""
    config = tmp_path_factory.mktemp("config") / "models"
    config.write_text(
        f'model_config_list {{ config {{ name: "echo" base_path: "{echo_model}" model_platform: "tensorflow" '
        'model_version_policy { all {} } version_labels { key: "stable" value: 1 } } }'
    )
    flags = ("--model_config_file", str(config), "--allow_version_labels_for_unavailable_models")
    servers = [serve(*flags), serve(*flags, "--nann_front=false")]
    opened = [grpc.insecure_channel(server.wait_ready().grpc) for server in servers]
    yield opened
    for channel in opened:
        channel.close()


def _ask(channel: grpc.Channel, request: bytes, **options: Any) -> Any:
    """The outputs of a response and its `model_spec`, or the code and text of an error."""
    try:
        answer = channel.unary_unary(_PREDICT)(request, timeout=_SECONDS, **options)
    except grpc.RpcError as error:
        return error.code(), error.details()
    response = predict_pb2.PredictResponse.FromString(answer)
    outputs = {name: output.SerializeToString() for name, output in response.outputs.items()}
    return response.model_spec.SerializeToString(), outputs


def _arrays(dtype: str) -> st.SearchStrategy[Any]:
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    if dtype == "string":
        return hnp.arrays(np.dtype(object), shapes, elements=st.binary(max_size=9))
    if dtype == "bfloat16":
        return _arrays("float32").map(lambda array: array.astype(tf.bfloat16.as_numpy_dtype))
    return hnp.arrays(np.dtype(dtype), shapes)


@st.composite
def _requests(draw: st.DrawFn) -> Any:
    """A request that a signature answers, or one with something wrong or unusual in it."""
    dtype = draw(st.sampled_from(_DTYPES))
    request = predict_pb2.PredictRequest()
    request.model_spec.name = draw(st.sampled_from(["echo"] * 9 + ["nope", ""]))
    request.model_spec.signature_name = draw(st.sampled_from([dtype] * 9 + ["nope", "number", ""]))
    choice = draw(st.sampled_from(["", "", "version", "label"]))
    if choice == "version":
        request.model_spec.version.value = draw(st.sampled_from([1, 2, 3, -1]))
    elif choice == "label":
        request.model_spec.version_label = draw(st.sampled_from(["stable", "nope"]))
    request.output_filter.extend(draw(st.lists(st.sampled_from(["x", "size", "nope"]), max_size=2)))
    name = draw(st.sampled_from(["x"] * 9 + ["nope"]))
    one_by_one = draw(st.booleans())
    tensors.encode(draw(_arrays(dtype)), request.inputs[name], one_by_one=one_by_one)
    if draw(st.integers(0, 9)) == 0:
        # The values repeat, or are too few or too many.
        request.inputs[name].tensor_shape.dim.add(size=draw(st.integers(0, 3)))
    return request


@settings(max_examples=120, deadline=None)
@given(_requests())
def test_requests_are_answered_as_by_python(channels: list[grpc.Channel], request: Any) -> None:
    front, python = (_ask(channel, request.SerializeToString()) for channel in channels)
    assert front == python


@settings(max_examples=120, deadline=None)
@given(_requests(), st.data())
def test_damaged_requests_are_answered_as_by_python(
    channels: list[grpc.Channel], request: Any, data: st.DataObject
) -> None:
    message = bytearray(request.SerializeToString())
    at = data.draw(st.integers(0, max(len(message) - 1, 0)))
    message[at : at + 1] = data.draw(st.binary(max_size=3))
    front, python = (_ask(channel, bytes(message)) for channel in channels)
    assert front == python


@pytest.mark.parametrize("text", ["no number", "é" * 700, "a" + "é" * 700, "x" * 2000])
def test_errors_of_a_run_have_the_same_text(channels: list[grpc.Channel], text: str) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "echo", "number"
    tensors.encode(np.array([text], object), request.inputs["x"])
    tensors.encode(np.float32(1), request.inputs["y"])
    front, python = (_ask(channel, request.SerializeToString()) for channel in channels)
    assert front[0] == python[0] == grpc.StatusCode.INVALID_ARGUMENT
    # Python's replaces a character that was cut, the front leaves it out.
    assert front[1] == python[1].replace("\ufffd", "")


def test_compressed_requests_are_answered(channels: list[grpc.Channel]) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "echo", "int64"
    tensors.encode(np.arange(1000), request.inputs["x"])
    plain = _ask(channels[0], request.SerializeToString())
    assert _ask(channels[0], request.SerializeToString(), compression=grpc.Compression.Gzip) == plain


@pytest.mark.parametrize("path", [_PREDICT, _STATUS, "/tensorflow.serving.PredictionService/Nope", "/a/b"])
@pytest.mark.parametrize("messages", [[], [b""], [b"\xff"], [b"", b""]])
def test_calls_that_are_none_of_these_are_answered_as_by_python(
    channels: list[grpc.Channel], path: str, messages: list[bytes]
) -> None:
    def outcome(channel: grpc.Channel) -> Any:
        call = channel.stream_stream(path)(iter(messages), timeout=_SECONDS)
        try:
            return list(call)
        except grpc.RpcError as error:
            return error.code(), error.details()

    front, python = map(outcome, channels)
    assert front == python


def test_a_caller_that_does_not_end_its_stream_is_answered(channels: list[grpc.Channel]) -> None:
    answered = threading.Event()

    def one_and_no_end(message: bytes) -> Iterator[bytes]:
        yield message
        answered.wait(_SECONDS)

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "echo", "int64"
    tensors.encode(np.arange(3), request.inputs["x"])
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "echo"
    for path, message in ((_PREDICT, request), (_STATUS, status)):
        stream = one_and_no_end(message.SerializeToString())
        assert next(channels[0].stream_stream(path)(stream, timeout=_SECONDS))
    answered.set()


@pytest.mark.parametrize("front", ["true", "false"])
def test_callers_who_leave_at_any_moment_hold_up_nobody(
    serve: Callable[..., Any], echo_model: Path, front: str
) -> None:
    flags = ("--model_name=echo", f"--model_base_path={echo_model}", "--enable_grpc_healthcheck_service")
    server = serve(*flags, f"--nann_front={front}").wait_ready()
    good, bad = predict_pb2.PredictRequest(), predict_pb2.PredictRequest()
    good.model_spec.name, good.model_spec.signature_name = "echo", "int64"
    tensors.encode(np.arange(3), good.inputs["x"])
    bad.model_spec.name = "echo"
    calls = ((_PREDICT, good.SerializeToString()), (_PREDICT, bad.SerializeToString()), (_WATCH, b""))

    def leave_often(seed: int) -> None:
        random = np.random.default_rng(seed)
        with grpc.insecure_channel(server.grpc, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            for _ in range(200):
                path, request = calls[random.integers(3)]
                timeout = float(random.choice([0.0005, 0.002, 0.01]))
                call = channel.stream_stream(path)(iter([request]), timeout=timeout)
                # A caller leaves at once, after its deadline, or with the answer.
                if random.integers(2):
                    call.cancel()
                else:
                    call.code()

    with ThreadPoolExecutor(8) as callers:
        list(callers.map(leave_often, range(8)))
    with grpc.insecure_channel(server.grpc) as channel:
        _, outputs = _ask(channel, good.SerializeToString())
        assert set(outputs) == {"x", "size"}
        assert next(channel.unary_stream(_WATCH)(b"", timeout=_SECONDS))


def test_a_server_with_one_thread_sheds_what_it_cannot_take(
    serve: Callable[..., Any], small_models: tuple[Path, Path], publish: Any, tmp_path: Path, hold: Any
) -> None:
    base_path = tmp_path / "nann"
    publish(small_models[0], base_path, 1)
    server = serve("--model_base_path", str(base_path), "--model_name=nann", "--grpc_max_threads=1")
    server.wait_ready()
    held = hold(tmp_path / "hold")
    inputs = {name: np.array(path.encode(), object) for name, path in held.inputs.items()}
    waiting = 32  # _WAITING_PER_THREAD of the server.
    with NannClient(server.grpc, model="nann") as client, ThreadPoolExecutor(waiting + 9) as callers:

        def ask() -> str:
            inputs = {"comm_seq": np.zeros((1, 6), np.float32), "item_ids": np.array([[1000]])}
            try:
                client.predict(inputs, signature="score", timeout=_SECONDS)
            except Exception as error:
                return str(error)
            return ""

        running = callers.submit(client.predict, inputs, signature="hold", timeout=_SECONDS)
        held.wait_started()
        asked = [callers.submit(ask) for _ in range(waiting + 8)]
        # The eight that come last are refused at once; the others wait for the one that runs.
        refused = [answer.result() for answer in _first_done(asked, 8)]
        held.release()
        running.result()
        assert sum(not answer.result() for answer in asked) == waiting
        assert not ask()
    assert all("Server Threadpool Exhausted" in text for text in refused)


def _first_done(futures: list[Any], count: int) -> list[Any]:
    """Wait until `count` of the futures are done."""
    done = threading.Semaphore(0)
    for future in futures:
        future.add_done_callback(lambda _: done.release())
    for _ in range(count):
        assert done.acquire(timeout=_SECONDS)
    return [future for future in futures if future.done()]


def test_a_version_is_unloaded_after_the_last_request_of_the_front(
    serve: Callable[..., Any], small_models: tuple[Path, Path], publish: Any, tmp_path: Path, hold: Any
) -> None:
    base_path = tmp_path / "nann"
    publish(small_models[0], base_path, 1)
    # The request that is held holds a thread of TensorFlow, which makes one per core.
    flags = ("--file_system_poll_wait_seconds=1", "--tensorflow_inter_op_parallelism=4")
    server = serve("--model_base_path", str(base_path), "--model_name=nann", *flags)
    server.wait_ready()
    held = hold(tmp_path / "hold")
    inputs = {name: np.array(path.encode(), object) for name, path in held.inputs.items()}
    with NannClient(server.grpc, model="nann") as client, ThreadPoolExecutor(1) as callers:
        running = callers.submit(client.predict, inputs, signature="hold", timeout=_SECONDS)
        held.wait_started()
        publish(small_models[1], base_path, 2)
        server.wait_for_log("model nann version 2: available")
        states = {status.version: status.state for status in client.status()}
        assert states == {1: "UNLOADING", 2: "AVAILABLE"}
        scores = client.predict(
            {"comm_seq": np.zeros((1, 6), np.float32), "item_ids": np.array([[1000]])}, signature="score"
        )
        assert scores["scores"].tolist() == [[100.0]]
        held.release()
        assert running.result()["turns"] >= 0
        server.wait_for_log("model nann version 1: unloaded")


def test_odd_names_of_models_are_served_and_counted(
    serve: Callable[..., Any], echo_model: Path, tmp_path: Path
) -> None:
    monitoring = tmp_path / "monitoring"
    monitoring.write_text("prometheus_config { enable: true }")
    config = tmp_path / "models"
    config.write_text(
        "model_config_list { "
        + "".join(
            f'config {{ name: "{name}" base_path: "{echo_model}" model_platform: "tensorflow" }} '
            for name in ("a\\000b", "é ü", 'q\\"uote')
        )
        + "}"
    )
    server = serve("--model_config_file", str(config), "--monitoring_config_file", str(monitoring))
    with grpc.insecure_channel(server.wait_ready().grpc) as channel:
        for name, is_served in (("a\0b", True), ("é ü", True), ('q"uote', True), ("a", False)):
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = name, "int64"
            tensors.encode(np.arange(3), request.inputs["x"])
            spec_or_code, _ = _ask(channel, request.SerializeToString())
            assert (spec_or_code is grpc.StatusCode.NOT_FOUND) != is_served
    page = server.metrics()
    for name in ("é ü", 'q\\"uote'):
        assert f':tensorflow:serving:request_count{{model_name="{name}",status="OK"}} 1\n' in page


def test_a_request_that_memory_does_not_suffice_for_ends_alone(
    serve: Callable[..., Any], echo_model: Path
) -> None:
    server = serve("--model_name=echo", f"--model_base_path={echo_model}").wait_ready()
    small, large = predict_pb2.PredictRequest(), predict_pb2.PredictRequest()
    for request, values in ((small, [1, 2, 3]), (large, [1] * (8 * _MEGABYTE))):
        request.model_spec.name, request.model_spec.signature_name = "echo", "int64"
        request.inputs["x"].dtype = int(tf.int64.as_datatype_enum)
        request.inputs["x"].tensor_shape.dim.add(size=len(values))
        # A byte on the wire is eight in memory.
        request.inputs["x"].int64_val.extend(values)
    with grpc.insecure_channel(server.grpc) as channel:
        _, expected = _ask(channel, small.SerializeToString())
        pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 40 * _MEGABYTE
        message = large.SerializeToString()
        resource.prlimit(server.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        code, text = _ask(channel, message)
        resource.prlimit(server.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert f"too little memory for a request of {len(message)} bytes" in text
        assert _ask(channel, small.SerializeToString())[1] == expected
