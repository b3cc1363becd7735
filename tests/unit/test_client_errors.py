"""The next step that an error names, for messages that TensorFlow Serving and gRPC really send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from nann.serving.client import (
    ModelNotFoundError,
    NannClient,
    NannClientError,
    RequestRejectedError,
)
from nann.serving.client._errors import NEXT_STEPS, NO_ANSWER, from_status
from support.scripted_server import scripted_server

RECORDINGS = Path(__file__).parents[1] / "data" / "serving_recordings"


def _failures() -> dict[str, tuple[str, str]]:
    """Id of a recording -> status code and message of a gRPC call, or of a version that did not load."""
    failures: dict[str, tuple[str, str]] = {}
    for name in ("grpc.jsonl", "lifecycle.jsonl"):
        with (RECORDINGS / name).open(encoding="utf-8") as lines:
            for case in map(json.loads, lines):
                if case.get("code", "OK") != "OK":
                    failures[case["id"]] = case["code"], case["details"]
                for status in case.get("status", []):
                    if isinstance(status, list) and status[1:3] != ["AVAILABLE", "OK"]:
                        failures[case["id"]] = status[2], status[3]
    return failures


FAILURES = _failures()
# Not in the recordings: the server under load, gRPC's limits, this project's ops, the client's own message.
# Other tests bring about the last three.
ELSEWHERE = {
    "Server Threadpool Exhausted",
    "Concurrent RPC limit exceeded",
    "SERVER: Received message larger than max",
    "level_topn: expected ",
    NO_ANSWER,
}


def _fails_with(code: str, details: str) -> NannClientError:
    """The error of a client whose server answers with this status."""

    def handler(method: str, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode[code], details)

    with (
        scripted_server(handler) as target,
        NannClient(target, model="m", retries=0) as client,
        pytest.raises(NannClientError) as error,
    ):
        client.predict({})
    return error.value


@pytest.mark.parametrize(
    ("recording", "kind", "step"),
    [
        ("multi_label_bad", RequestRejectedError, "version labels"),
        ("multi_ver_neg", ModelNotFoundError, "NannClient.status"),
        ("st_unknown", ModelNotFoundError, "/v1/models/MODEL"),
        ("reload_adds_customop_without_lib", ModelNotFoundError, "op library"),
        ("wrong_dtype", RequestRejectedError, "NannClient.metadata"),
        ("tp_neg_dim", RequestRejectedError, "/v1/models/MODEL/metadata"),
        ("tf2_initop", RequestRejectedError, "see the server's log"),
        ("gb_over", RequestRejectedError, "fewer users"),
        ("gb_scalar", RequestRejectedError, "NannClient.metadata"),
        ("grpc_deadline_300ms", TimeoutError, "raise the timeout"),
        ("inflight_at_sigterm", ConnectionError, "wait_ready"),
        ("raw_truncated", NannClientError, "see the server's log"),
    ],
)
def test_recorded_failures(recording: str, kind: type[Exception], step: str) -> None:
    code, details = FAILURES[recording]
    error = _fails_with(code, details)
    assert isinstance(error, kind)
    assert (error.code, error.details) == (code, details)
    assert step in str(error).rpartition(f"{details or 'no details'} (")[2]


def test_each_recorded_failure_has_a_next_step() -> None:
    assert len(FAILURES) > 50
    for code, details in FAILURES.values():
        error = from_status(code, details, action="Predict", target="t", model="m")
        assert str(error).startswith(
            f"Predict of model 'm' at t failed with {code}: {details or 'no details'} ("
        )


@pytest.mark.parametrize(("code", "beginning"), [row[:2] for row in NEXT_STEPS if row[1]])
def test_each_beginning_of_the_table_is_recorded(code: str, beginning: str) -> None:
    recorded = [details for failure, details in FAILURES.values() if failure == code]
    assert beginning in ELSEWHERE or any(details.startswith(beginning) for details in recorded)


def test_the_table_names_codes_of_grpc_and_ends_each_with_the_general_line() -> None:
    codes = [code for code, _, _ in NEXT_STEPS]
    assert set(codes) <= {code.name for code in grpc.StatusCode}
    general = [code for code, beginning, _ in NEXT_STEPS if not beginning]
    assert sorted(general) == sorted(set(codes))
    for index, (code, beginning, _) in enumerate(NEXT_STEPS):
        assert beginning or code not in codes[index + 1 :], f"{code}: no line after the general one counts"


def test_a_server_without_a_free_thread() -> None:
    error = _fails_with("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted")
    assert "--grpc_max_threads" in str(error)
    assert "max_message_bytes" not in str(error)


@pytest.mark.parametrize(
    ("sent", "limit", "step"),
    [(5_000_000, -1, "fewer users at once)"), (5_000_000, 1_000_000, "raise `max_message_bytes`)")],
    ids=["the server's limit", "the client's limit"],
)
def test_a_message_over_a_limit(sent: int, limit: int, step: str) -> None:
    """gRPC itself answers: a Python server takes 4 MiB."""
    with (
        scripted_server(lambda method, request, context: b"") as target,
        NannClient(target, max_message_bytes=limit) as client,
        pytest.raises(NannClientError) as error,
    ):
        client.predict({"x": np.zeros(sent, np.uint8)})
    assert error.value.code == "RESOURCE_EXHAUSTED"
    assert str(error.value).endswith(step)


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (
            "level_topn: expected 6 values a row (entry beam, 4 hops, final k), found 3",
            6,
        ),
        ("level_topn: expected batch x sum of beams (the largest k in each row) of at most 4194304", None),
        ("level_topn[1]: expected 1 to 65536, found 0", None),
        ("comm_seq: expected 6 values a row", None),
        ("", None),
    ],
)
def test_the_number_of_beams(details: str, expected: int | None) -> None:
    error: Any = from_status("INVALID_ARGUMENT", details, action="Predict", target="t", model="m")
    assert error.expected_beams == expected
