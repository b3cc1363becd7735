"""The REST API without sockets."""

from __future__ import annotations

from typing import Any

import pytest

from nann.serving.server._rest import RestApi


class _BrokenManager:
    def lease(self, name: str, **_: Any) -> Any:
        raise RuntimeError(f"a bug in {name}")


def test_an_unexpected_exception_is_logged_and_answered(caplog: pytest.LogCaptureFixture) -> None:
    manager: Any = _BrokenManager()
    answer = RestApi(manager, timeout_ms=1).answer("POST", "/v1/models/m:predict", b"{}")
    assert answer == (500, b'{\n    "error": "RuntimeError: a bug in m"\n}')
    assert "REST POST /v1/models/m:predict failed" in caplog.text
    assert "Traceback" in caplog.text
