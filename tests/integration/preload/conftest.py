"""A small C++ server, and the shim that it preloads."""

from __future__ import annotations

from pathlib import Path

import pytest

import nann.ops
from support.cpp_server import build_server


@pytest.fixture(scope="session")
def shim() -> Path:
    return nann.ops.library_path().with_name("libnann_preload.so")


@pytest.fixture(scope="session")
def server() -> Path:
    return build_server()
