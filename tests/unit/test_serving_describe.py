"""Answers to status requests, and the examples in the docstrings of the server."""

from __future__ import annotations

import doctest
import importlib

import pytest

from nann.serving.server import Code, StatusError, _describe, bracketed
from nann.serving.server._versions import State, VersionStatus


def test_a_status_with_a_path_that_is_not_utf_8() -> None:
    error = StatusError(Code.NOT_FOUND, b"/models/\xff/1".decode("utf-8", "surrogateescape"))
    versions = [VersionStatus(1, State.END, error, is_aspired=True)]
    (item,) = _describe.status(versions).model_version_status
    assert (item.status.error_code, item.status.error_message) == (Code.NOT_FOUND, "/models/?/1")
    assert b"/models/?/1" in _describe.status_json(versions)


_SERVER_MODULES = ["_batching", "_config", "_manager", "_servable", "_server", "_status", "_tls"]


@pytest.mark.parametrize(
    "module",
    [
        *(f"nann.serving.server.{name}" for name in _SERVER_MODULES),
        "nann.serving.client._channel",
        "nann.cli._serve_flags",
    ],
)
def test_examples_in_docstrings(module: str) -> None:
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(
    ("host", "expected"), [("::", "[::]"), ("[::]", "[::]"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("a", "a")]
)
def test_hosts_before_a_port(host: str, expected: str) -> None:
    assert bracketed(host) == expected
