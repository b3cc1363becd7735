"""Addresses, TLS, health, reflection and reloads of a running server."""

from __future__ import annotations

import json
import resource
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
)

from nann.serving.client import NannClient, NannClientError, UnavailableError
from nann.serving.server._messages import message

_TLS = Path(__file__).resolve().parents[2] / "data" / "tls"
_SECONDS = 30
_USER = np.ones((1, 6), np.float32)


@pytest.fixture
def base_path(publish: Any, small_models: tuple[Path, Path], tmp_path: Path) -> Path:
    publish(small_models[0], tmp_path / "nann", 1)
    return tmp_path / "nann"


def _states(rest: str, model: str, context: ssl.SSLContext | None = None) -> list[str]:
    scheme = "http" if context is None else "https"
    url = f"{scheme}://{rest}/v1/models/{model}"
    with urllib.request.urlopen(url, timeout=_SECONDS, context=context) as response:
        return [version["state"] for version in json.load(response)["model_version_status"]]


# Each of these starts a server; `bracketed` has the other spellings, "[::]" and "::1".
@pytest.mark.parametrize("host", ["::", "[::1]"])
def test_ipv6_addresses(serve: Callable[..., Any], base_path: Path, host: str) -> None:
    server = serve("--model_name=nann", f"--model_base_path={base_path}", "--host", host).wait_ready()
    assert server.grpc.startswith("[::1]:" if "1" in host else "localhost:")
    assert _states(server.rest, "nann") == ["AVAILABLE"]
    targets = [server.grpc] + (["127.0.0.1:" + server.grpc.rpartition(":")[2]] if "1" not in host else [])
    for target in targets:
        with NannClient(target, model="nann") as client:
            client.wait_ready(_SECONDS)
    server.close()


def _ssl_config(folder: Path, **fields: str) -> Path:
    path = folder / "ssl.config"
    texts = {
        "server_key": (_TLS / "server.key").read_text(),
        "server_cert": (_TLS / "server.pem").read_text(),
        "custom_ca": (_TLS / "ca.pem").read_text(),
    }
    lines = [f"{name}: {json.dumps(text)}" for name, text in texts.items()]
    path.write_text("\n".join([*lines, *(f"{name}: {value}" for name, value in fields.items())]))
    return path


@pytest.mark.parametrize("front", ["true", "false"])
def test_mutual_tls_on_both_ports(
    serve: Callable[..., Any], base_path: Path, best: Callable[..., Any], tmp_path: Path, front: str
) -> None:
    config = _ssl_config(tmp_path, client_verify="true")
    flags = ("--model_name=nann", f"--model_base_path={base_path}", f"--ssl_config_file={config}")
    server = serve(*flags, f"--nann_front={front}").wait_ready()
    context = ssl.create_default_context(cafile=str(_TLS / "ca.pem"))
    with pytest.raises((urllib.error.URLError, OSError)):
        _states(server.rest, "nann", context)
    context.load_cert_chain(_TLS / "client.pem", _TLS / "client.key")
    assert _states(server.rest, "nann", context) == ["AVAILABLE"]
    ca, key, cert = (_TLS.joinpath(name).read_bytes() for name in ("ca.pem", "client.key", "client.pem"))
    for credentials, works in (
        (grpc.ssl_channel_credentials(ca), False),
        (grpc.ssl_channel_credentials(ca, key, cert), True),
    ):
        with grpc.secure_channel(server.grpc, credentials) as channel:
            assert _is_served(channel) == works
        with NannClient(server.grpc, credentials=credentials, timeout=_SECONDS, retries=0) as client:
            if works:
                ids = client.top_k(_USER, [3]).ids
                np.testing.assert_array_equal(ids, best(_USER, 3)[0])
            else:
                with pytest.raises(UnavailableError):
                    client.top_k(_USER, [3])
    with NannClient(server.grpc, timeout=_SECONDS, retries=0) as plain, pytest.raises(NannClientError):
        plain.metadata()


def _is_served(channel: grpc.Channel) -> bool:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "nann"
    try:
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, _SECONDS)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


def test_connections_are_not_limited_to_what_a_shell_allows(
    serve: Callable[..., Any], base_path: Path
) -> None:
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, most))
    try:
        server = serve("--model_name=nann", f"--model_base_path={base_path}")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    server.wait_ready()
    expected = 2**20 if most == resource.RLIM_INFINITY else min(most, 2**20)
    assert resource.prlimit(server.pid, resource.RLIMIT_NOFILE)[0] == expected


@pytest.mark.parametrize("text", ["nonsense", 'server_key: "x" server_cert: "y"', 'server_key: "x"'])
def test_ssl_configs_that_cannot_be_used(
    serve: Callable[..., Any], base_path: Path, tmp_path: Path, text: str
) -> None:
    (tmp_path / "ssl.config").write_text(text)
    flags = ("--model_name=nann", f"--model_base_path={base_path}")
    server = serve(*flags, f"--ssl_config_file={tmp_path / 'ssl.config'}")
    server.wait_for_log("ssl.config")
    assert server.wait() == 1


def test_health_and_reflection(serve: Callable[..., Any], base_path: Path) -> None:
    flags = ("--model_name=nann", f"--model_base_path={base_path}", "--enable_grpc_healthcheck_service")
    server = serve(*flags).wait_ready()
    with grpc.insecure_channel(server.grpc) as channel:
        for service in ("", "PredictionService", "ModelService"):
            assert next(_watch(channel, service)).status == 1
        services = _reflect(channel, list_services="")
        names = {service.name for service in services.list_services_response.service}
        assert {"tensorflow.serving.PredictionService", "grpc.health.v1.Health"} <= names
        for symbol in ("tensorflow.serving.PredictionService", "grpc.health.v1.Health"):
            described = _reflect(channel, file_containing_symbol=symbol)
            assert described.file_descriptor_response.file_descriptor_proto
        missing = _reflect(channel, file_containing_symbol="no.such.Thing").error_response
        assert missing.error_code == grpc.StatusCode.NOT_FOUND.value[0]
        # A caller that watches learns that the server stops.
        watch = _watch(channel, "")
        assert next(watch).status == 1
        server.terminate()
        assert next(watch).status == 2
    server.wait()


def _watch(channel: grpc.Channel, service: str) -> Any:
    request, response = (message(f"grpc.health.v1.HealthCheck{kind}") for kind in ("Request", "Response"))
    call = channel.unary_stream(
        "/grpc.health.v1.Health/Watch", request.SerializeToString, response.FromString
    )
    return call(request(service=service), timeout=_SECONDS)


def _reflect(channel: grpc.Channel, **asked: str) -> Any:
    request, response = (
        message(f"grpc.reflection.v1.ServerReflection{kind}") for kind in ("Request", "Response")
    )
    call = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request.SerializeToString,
        response.FromString,
    )
    (answer,) = call(iter([request(**asked)]), timeout=_SECONDS)
    return answer


def _config(**base_paths: Path | str) -> str:
    configs = "".join(
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}'
        for name, path in base_paths.items()
    )
    return f"model_config_list {{ {configs} }}"


def _reload(channel: grpc.Channel, text: str, *metrics: str) -> Any:
    from google.protobuf import text_format

    request = model_management_pb2.ReloadConfigRequest(metric_names=metrics)
    text_format.Parse(text, request.config)
    return model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, _SECONDS)


def test_reload_requests(serve: Callable[..., Any], base_path: Path, tmp_path: Path) -> None:
    server = serve("--model_name=nann", f"--model_base_path={base_path}", "--max_num_load_retries=0")
    server.wait_ready()
    (tmp_path / "bad" / "1").mkdir(parents=True)
    (tmp_path / "bad" / "1" / "saved_model.pb").write_bytes(b"\xff" * 50)
    with grpc.insecure_channel(server.grpc) as channel:
        loads = "/tensorflow/cc/saved_model/load_attempt_count"
        names = ("/nope", loads, loads.replace("/", ":"))
        answer = _reload(channel, _config(nann=base_path, other=base_path), *names)
        assert not answer.status.error_code
        # `other` has the path of `nann`, and so the same sample.
        assert [(m.name, m.int64_value_increase) for m in answer.metric] == [
            ("/nope", 0),
            (loads, 1),
            (names[2], 0),
        ]
        assert _states(server.rest, "other") == ["AVAILABLE"]
        for text, code, details in (
            ("", "INVALID_ARGUMENT", "type not supported by HandleReloadConfigRequest"),
            (_config(nann="relative"), "INVALID_ARGUMENT", "to have an absolute path or URI"),
            (
                _config(nann=base_path, other=base_path).replace("other", "nann"),
                "INVALID_ARGUMENT",
                "Illegal to list model nann multiple times",
            ),
            (
                _config(nann=base_path).replace("tensorflow", "foo"),
                "INVALID_ARGUMENT",
                "Illegal to change a model's platform. For model nann platform was tensorflow and new",
            ),
            (
                _config(new=base_path).replace("tensorflow", "foo"),
                "INVALID_ARGUMENT",
                "Model new requests unsup",
            ),
            (
                _config(nann=base_path).replace(
                    "base_path", 'version_labels { key: "stable" value: 99 } base_path'
                ),
                "FAILED_PRECONDITION",
                "Request to assign label to version 99 of model nann, which is not currently available",
            ),
            (
                _config(nann=base_path, other=base_path, bad=tmp_path / "bad"),
                "UNKNOWN",
                "1 model(s) did not become available: {{{name: bad version: 1} due to error: DATA_LOSS: ",
            ),
        ):
            with pytest.raises(grpc.RpcError) as error:
                _reload(channel, text)
            assert (error.value.code().name, details in error.value.details()) == (code, True)
            assert _states(server.rest, "other") == ["AVAILABLE"]
        # A model that cannot be found yet holds up nobody else.
        waiting = model_management_pb2.ReloadConfigRequest()
        from google.protobuf import text_format

        text_format.Parse(_config(nann=base_path, missing=tmp_path / "missing"), waiting.config)
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        call = stub.HandleReloadConfigRequest.future(waiting, _SECONDS)
        server.wait_for_log("model missing: base path")
        _reload(channel, _config(nann=base_path))
        assert not call.result().status.error_code


def test_a_server_without_models_gets_them_by_a_reload(
    serve: Callable[..., Any], base_path: Path, tmp_path: Path
) -> None:
    """As with TensorFlow Serving, a config file wins over --model_base_path, and may list nothing."""
    file = tmp_path / "models.config"
    file.write_text("model_config_list {}")
    server = serve(f"--model_config_file={file}", "--model_base_path=/nowhere").wait_ready()
    with grpc.insecure_channel(server.grpc) as channel:
        _reload(channel, _config(nann=base_path))
    assert _states(server.rest, "nann") == ["AVAILABLE"]


def test_a_config_file_that_changes(serve: Callable[..., Any], base_path: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(_config(nann=base_path))
    server = serve(f"--model_config_file={file}", "--model_config_file_poll_wait_seconds=1").wait_ready()
    file.write_text("model_config_list {")
    server.wait_for_log("the model config is not taken over")
    assert _states(server.rest, "nann") == ["AVAILABLE"]
    file.write_text(_config(nann=base_path, second=base_path))
    server.wait_for_log("model second version 1: available")
    assert _states(server.rest, "second") == ["AVAILABLE"]
    # The file wins over requests.
    with grpc.insecure_channel(server.grpc) as channel:
        _reload(channel, _config(nann=base_path, second=base_path, third=base_path))
    server.wait_for_log("model third version 1: unloaded")
    file.write_text(_config(second=base_path))
    server.wait_for_log("model nann version 1: unloaded")


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--use_alts_credentials", "--ssl_config_file"),
        ("--enable_profiler=true", "nann bench run"),
        ("--mixed_precision=bfloat16", "--precision"),
        ("--grpc_channel_arguments=nonsense", "expected NAME=VALUE"),
    ],
)
def test_flags_that_are_refused_say_why(
    serve: Callable[..., Any], base_path: Path, flag: str, reason: str
) -> None:
    server = serve("--model_name=nann", f"--model_base_path={base_path}", flag)
    assert reason in server.wait_for_log("Error: --")
    assert server.wait() == 1


def test_the_server_loads_nothing_that_serving_does_not_need(
    serve: Callable[..., Any], base_path: Path
) -> None:
    server = serve("--model_name=nann", f"--model_base_path={base_path}").wait_ready()
    mapped = Path(f"/proc/{server.pid}/maps").read_text()
    assert "tensorflow" in mapped
    assert not [name for name in ("pandas", "matplotlib") if f"/{name}/" in mapped]
