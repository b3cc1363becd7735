"""The REST port on the wire: what HTTP clients send, and what broken ones do."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from nann.serving.client import NannClient

_STATUS = b"GET /v1/models/nann HTTP/1.1\r\nHost: x\r\n\r\n"
_SECONDS = 30


def _connect(running: Any) -> socket.socket:
    host, _, port = running.rest.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=_SECONDS)


def _answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return the head and the body of an answer, and leave what follows unread."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += _received(connection, 1)
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return head, _received(connection, length)


def _received(connection: socket.socket, size: int) -> bytes:
    data = connection.recv(size, socket.MSG_WAITALL)
    assert len(data) == size, "the server closed the connection"
    return data


def test_a_caller_that_expects_it_is_told_to_continue(running: Any) -> None:
    """Else curl waits a second with bodies over a megabyte, and others for ever."""
    with _connect(running) as connection:
        connection.sendall(b"POST /v1/models/nann:predict HTTP/1.1\r\nHost: x\r\n")
        connection.sendall(b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert _answer(connection)[0].startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_several_requests_at_once_are_answered_in_order(running: Any) -> None:
    with _connect(running) as connection:
        connection.sendall(_STATUS.replace(b"nann", b"nope") + _STATUS)
        first, second = _answer(connection), None
        second = _answer(connection)
    assert first[0].startswith(b"HTTP/1.1 404")
    assert json.loads(second[1])["model_version_status"][0]["state"] == "AVAILABLE"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET http://elsewhere:80/v1/models/nann HTTP/1.1", 200),
        ("GET /v1/models/%zz HTTP/1.1", 400),
        ("TRACE /v1/models/nann HTTP/1.1", 501),
        ("CONNECT localhost:1 HTTP/1.1", 501),
        ("nonsense", 400),
    ],
)
def test_request_lines(running: Any, line: str, status: int) -> None:
    with _connect(running) as connection:
        connection.sendall(f"{line}\r\nHost: x\r\n\r\n".encode())
        head, body = _answer(connection)
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert (b"text/html" in head) == (status != 200)
    assert body.startswith(b"<HTML>" if status != 200 else b"{")


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_compressed_and_chunked_bodies(running: Any, encoding: str) -> None:
    body = json.dumps({"signature_name": "score", "inputs": {"comm_seq": [[0] * 6], "item_ids": [[1000]]}})
    connection = http.client.HTTPConnection(running.rest, timeout=_SECONDS)
    packed = gzip.compress(body.encode())
    connection.request(
        "POST",
        "/v1/models/nann:predict",
        iter([packed[:10], packed[10:]]),
        {"Content-Encoding": encoding},
        encode_chunked=True,
    )
    response = connection.getresponse()
    assert (response.status, json.load(response)) == (200, {"outputs": [[0.0]]})
    connection.close()


@pytest.mark.parametrize("encoding", ["br", "deflate", "identity"])
def test_other_encodings_are_ignored_as_in_the_real_server(running: Any, encoding: str) -> None:
    connection = http.client.HTTPConnection(running.rest, timeout=_SECONDS)
    connection.request("POST", "/v1/models/nann:predict", b"\x1f", {"Content-Encoding": encoding})
    response = connection.getresponse()
    assert response.status == 400
    assert "JSON Parse error: Invalid value." in json.load(response)["error"]
    connection.close()


def test_a_caller_that_sends_no_more_is_still_answered(running: Any) -> None:
    with _connect(running) as connection:
        connection.sendall(_STATUS)
        connection.shutdown(socket.SHUT_WR)
        assert b"AVAILABLE" in _answer(connection)[1]
        assert connection.recv(1) == b""


def test_others_are_answered_while_some_send_slowly_or_nonsense(running: Any) -> None:
    silent = [_connect(running) for _ in range(50)]
    for count, connection in enumerate(silent):
        connection.sendall(_STATUS[: count % len(_STATUS)])
    with _connect(running) as broken:
        broken.sendall(bytes(range(256)) * 100)
        with _connect(running) as connection:
            connection.sendall(_STATUS)
            assert b"AVAILABLE" in _answer(connection)[1]
    for connection in silent:
        connection.close()


def test_a_body_over_the_limit_is_refused_before_it_is_sent(running: Any) -> None:
    with _connect(running) as connection:
        head = f"POST /v1/models/nann:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {2**40}\r\n\r\n"
        connection.sendall(head.encode())
        assert _answer(connection)[0].startswith(b"HTTP/1.1 413 Request Entity Too Large\r\n")


def test_grpc_answers_others_while_some_send_slowly_or_nonsense(running: Any) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    longest_frame = (2**24 - 1).to_bytes(3, "big") + bytes(6)
    half = [preface[:10], preface, preface + b"\xff" * 100, preface + longest_frame]
    host, port = running.grpc.rsplit(":", 1)
    with ExitStack() as connections:
        for count, sent in enumerate([b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 100, *half, *half]):
            connection = connections.enter_context(socket.create_connection((host, int(port)), timeout=60))
            with suppress(OSError):  # The server may close such a connection before all is sent.
                connection.sendall(sent)
                if count % 2:
                    connection.shutdown(socket.SHUT_WR)
        with NannClient(running.grpc, model="nann", timeout=60) as client:
            assert client.status()[0].state == "AVAILABLE"
