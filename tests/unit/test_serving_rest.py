"""The REST API without sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from nann.serving.server._http_message import Request
from nann.serving.server._metrics import Metrics
from nann.serving.server._rest import RestApi, RestOptions


class _BrokenManager:
    def __init__(self, error: Exception | None = None) -> None:
        self._error = error or RuntimeError("a bug in m")

    def lease(self, name: str, **_: Any) -> Any:
        raise self._error


def test_a_request_that_memory_does_not_suffice_for_has_the_code_of_grpc(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager: Any = _BrokenManager(MemoryError("no memory for 1 TB"))
    answer = RestApi(manager, RestOptions(), Metrics()).answer("POST", "/v1/models/m:predict", b"{}")
    assert answer == (429, b'{\n    "error": "MemoryError: no memory for 1 TB"\n}')
    assert not caplog.text


def test_an_unexpected_exception_is_logged_and_answered(caplog: pytest.LogCaptureFixture) -> None:
    manager: Any = _BrokenManager()
    answer = RestApi(manager, RestOptions(), Metrics()).answer("POST", "/v1/models/m:predict", b"{}")
    assert answer == (500, b'{\n    "error": "RuntimeError: a bug in m"\n}')
    assert "REST POST /v1/models/m:predict failed" in caplog.text
    assert "Traceback" in caplog.text


def _api(**options: Any) -> RestApi:
    manager: Any = _BrokenManager()
    return RestApi(manager, RestOptions(**options), Metrics())


def test_a_version_of_thousands_of_digits_is_a_bad_request() -> None:
    path = f"/v1/models/m/versions/{'9' * 5000}:predict"
    assert _api().answer("POST", path, b"{}") == (400, b"")


@pytest.mark.parametrize(("origin", "status"), [("https://a.example", 200), ("file:", 400), (None, 400)])
def test_options_with_an_origin_may_call(origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"origin": origin}
    request = Request("OPTIONS", "/v1/models/m", "/v1/models/m", headers=headers)
    assert _api().handle(request).status == status
    allowed = dict(_api(enable_cors=True).handle(request).headers)
    assert allowed["Access-Control-Allow-Origin"] == "*"


def test_a_body_larger_than_the_limit_when_decompressed_is_refused() -> None:
    import gzip

    body = gzip.compress(b" " * (100 * 2**20 + 1), compresslevel=1)
    request = Request(
        "POST",
        "/v1/models/m:predict",
        "/v1/models/m:predict",
        headers={"content-encoding": "gzip"},
        body=body,
    )
    response = _api().handle(request)
    assert (response.status, b"The document is empty" in response.body) == (400, True)


def test_what_follows_a_compressed_body_makes_it_no_body() -> None:
    import gzip

    body = gzip.compress(b"[]")
    for sent, message in (
        (body, b"Is not object"),
        (body + body, b"document is empty"),
        (body[:-1], b"is empty"),
    ):
        request = Request("POST", "", "/v1/models/m:predict", headers={"content-encoding": "gzip"}, body=sent)
        assert message in _api().handle(request).body


def test_a_model_name_that_is_not_utf8_does_not_break_the_metrics() -> None:
    api = _api(metrics_path="/metrics")
    assert api.answer("POST", "/v1/models/%FF:predict", b"[]")[0] == 400
    response = api.handle(Request("GET", "/metrics", "/metrics"))
    assert response.status == 200
    assert b'model_name="?"' in response.body


def test_a_request_without_its_inputs_is_counted_for_its_signature() -> None:
    """Such requests once were counted for `serving_default`, whatever they asked for."""

    class Manager:
        @contextmanager
        def lease(self, name: str, **choice: Any) -> Iterator[Any]:
            signature = SimpleNamespace(inputs={"x": SimpleNamespace(dtype=tf.float32.as_datatype_enum)})
            yield SimpleNamespace(servable=SimpleNamespace(signatures={"retrieve": signature}), version=1)

    manager: Any = Manager()
    metrics = Metrics()
    body = b'{"signature_name": "retrieve", "inputs": {"y": [1]}}'
    assert RestApi(manager, RestOptions(), metrics).answer("POST", "/v1/models/m:predict", body)[0] == 400
    assert [(each["signature"], each["status"]) for each in metrics.requests()] == [
        ("retrieve", "INVALID_ARGUMENT")
    ]
