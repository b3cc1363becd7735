"""Recorded answers of the real TensorFlow Serving, replayed against `nann serve`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_GOLDEN = Path(__file__).resolve().parents[2] / "data" / "serving_recordings"
# What this server does not offer yet.
_LATER = {"classify", "regress", "multi_inference", "health", "prometheus"}


@pytest.fixture(scope="module")
def replay() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_replay", _GOLDEN / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def golden_server(serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    config = tmp_path_factory.mktemp("golden") / "models.config"
    text = (_GOLDEN / "models.config").read_text()
    config.write_text(text.replace("${MODELS}", str(_GOLDEN / "models")))
    flags = ("--model_config_file", str(config), "--allow_version_labels_for_unavailable_models", "true")
    return serve(*flags).wait_ready()


def _cases(file: str) -> list[dict[str, Any]]:
    with (_GOLDEN / file).open(encoding="utf-8") as lines:
        cases = [json.loads(line) for line in lines]
    return [case for case in cases if case["group"] not in _LATER]


def test_rest_answers_as_recorded(replay: ModuleType, golden_server: Any) -> None:
    subst = {"${MODELS}": str(_GOLDEN / "models")}
    cases = _cases("rest.jsonl")
    differences = {
        case["id"]: why for case in cases if (why := replay.rest(case, golden_server.rest, subst)) is not None
    }
    assert len(cases) > 100
    assert not differences


def test_grpc_answers_as_recorded(replay: ModuleType, golden_server: Any) -> None:
    import grpc

    subst = {"${MODELS}": str(_GOLDEN / "models")}
    types = replay.response_types()
    cases = _cases("grpc.jsonl")
    with grpc.insecure_channel(golden_server.grpc) as channel:
        differences = {
            case["id"]: why
            for case in cases
            if (why := replay.grpc_case(case, channel, types, subst)) is not None
        }
    assert len(cases) > 50
    assert not differences


def test_rest_bodies_have_the_recorded_bytes(replay: ModuleType, golden_server: Any) -> None:
    """Layout and number formats too, where there is one output (the order of several varies)."""
    import http.client

    differences = {}
    for case in _cases("rest.jsonl"):
        body = case["response_body"] or ""
        if case["group"] not in ("predict", "dtype") or case["request_body"] is None or '": {' in body:
            continue
        connection = http.client.HTTPConnection(golden_server.rest, timeout=30)
        connection.request(case["method"], case["path"], case["request_body"].encode())
        got = connection.getresponse().read().decode()
        connection.close()
        if got != body and '"log"' not in body and '"txt"' not in body and '"scores"' not in body:
            differences[case["id"]] = (got, body)
    assert not differences
