"""HTTP messages: requests out of bytes, and answers into bytes, as libevent has them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nann.serving.server._http_message import (
    BadRequestError,
    Request,
    RequestReader,
    Response,
    page,
    refusal,
    split_uri,
)

_GET = b"GET /v1/models/m HTTP/1.1\r\nHost: x\r\n\r\n"
_POST = b"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody"
_CHUNKED_HEAD = b"POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNKED = _CHUNKED_HEAD + b"3\r\nabc\r\n2 comment\r\nde\r\n0\r\nTrailer: x\r\n\r\n"


def _read(data: bytes, *, limit: int = 1000, step: int = 10_000) -> list[Request]:
    reader = RequestReader(max_body_bytes=limit)
    found = []
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        while (request := reader.next()) is not None:
            found.append(request)
    return found


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_requests_that_follow_each_other(step: int) -> None:
    first, second, third, fourth = _read(_GET + _POST + _CHUNKED + _GET.replace(b"\r\n", b"\n"), step=step)
    assert (first.method, first.path, first.body) == ("GET", "/v1/models/m", b"")
    assert (second.method, second.target, second.body) == ("POST", "/v1/models/m:predict", b"body")
    assert (third.target, third.body) == ("/p", b"abcde")
    assert fourth.headers == {"host": "x"}


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_read_or_refused(data: bytes, step: int) -> None:
    for prefix in (b"", b"POST / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with contextlib.suppress(BadRequestError):
            _read(prefix + data, step=step)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\r\n", 400),
        (b"GET /\r\n", 400),
        (b"GET / HTTP/2.0\r\n", 400),
        (b"GET / HTTP/1.1 x\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: without a header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nA\0b: c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nnot finished", None),
        (b"GET / HTTP/1.1\r\nno colon\r\n", 400),
        (b"POST / HTTP/1.1\r\nExpect: magic\r\nContent-Length: 2\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 2**20, 413),
    ],
)
def test_what_is_no_request(data: bytes, status: int | None) -> None:
    if status is None:
        assert not _read(data)
        return
    with pytest.raises(BadRequestError) as error:
        _read(data, step=4096)
    assert error.value.response.status == status
    assert error.value.response.closes


def test_a_head_of_200_kilobytes_is_read() -> None:
    (request,) = _read(b"GET / HTTP/1.1\r\nx: " + b"a" * 200_000 + b"\r\n\r\n", step=4096)
    assert len(request.headers["x"]) == 200_000


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/v1/models/m?x=1#y", ("/v1/models/m", "/v1/models/m?x=1#y", None)),
        ("http://host:8501/v1/models/m", ("/v1/models/m", "/v1/models/m", "host:8501")),
        ("//v1/models/m", ("/models/m", "/models/m", None)),
        ("*", ("*", "*", None)),
        ("/a%2fb", ("/a%2fb", "/a%2fb", None)),
        ("/%zz", None),
        ("/a%2", None),
        ("/a b", None),
        ("/\xe9", None),
        ("m:predict", ("predict", "predict", None)),
        ("1m:predict", None),
        ("http://[::1]:80/v1", ("/v1", "/v1", "[::1]:80")),
        ("http://[v1.a]/v1", ("/v1", "/v1", "[v1.a]")),
        ("http://[::g]/v1", None),
        ("http://h:65536/v1", None),
        ("http:///v1", ("/v1", "/v1", "")),
    ],
)
def test_uris(uri: str, expected: tuple[str, str, str | None] | None) -> None:
    assert split_uri(uri) == expected


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("TRACE / HTTP/1.1", 501),
        ("FOO /x HTTP/1.1", 501),
        ("GET /%zz HTTP/1.1", 400),
        ("GET /x HTTP/1.1", None),
    ],
)
def test_requests_that_no_handler_sees(line: str, status: int | None) -> None:
    (request,) = _read(f"{line}\r\n\r\n".encode())
    response = refusal(request)
    assert (None if response is None else response.status) == status


@pytest.mark.parametrize(
    ("headers", "minor", "keeps"),
    [
        ({}, 1, True),
        ({"connection": "close"}, 1, False),
        ({"connection": "Keep-Alive"}, 0, True),
        ({}, 0, False),
    ],
)
def test_keep_alive(headers: dict[str, str], minor: int, keeps: bool) -> None:
    request = Request("GET", "/", "/", version=(1, minor), headers=headers)
    head = Response(200, b"x").encode(request).decode()
    assert request.keeps_alive == keeps
    assert ("Connection: close" in head) == (headers.get("connection") == "close")
    assert ("Connection: keep-alive" in head) == (keeps and not minor)
    assert head.startswith(f"HTTP/1.{minor} 200 OK\r\n")


def test_what_follows_a_body_that_a_method_cannot_have_is_no_request() -> None:
    request = _read(b"HEAD / HTTP/1.1\r\nContent-Length: 5\r\n\r\n")[0]
    assert not request.keeps_alive


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
def test_other_methods_may_have_a_body(method: str) -> None:
    first, second = _read(f"{method} /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi".encode() + _GET)
    assert (first.body, first.keeps_alive) == (b"hi", True)
    assert second.path == "/v1/models/m"


def test_an_expectation_without_a_body_is_ignored() -> None:
    (request,) = _read(b"GET / HTTP/1.1\r\nExpect: magic\r\n\r\n")
    assert request.headers["expect"] == "magic"


@pytest.mark.parametrize(
    ("version", "first_line", "has_date"),
    [
        ("1.2", "HTTP/1.2 200 OK", True),
        ("0.9", "HTTP/0.9 200 OK", False),
        ("1.-1", "HTTP/1.-1 200 OK", False),
        ("+1.1", "HTTP/1.1 200 OK", True),
    ],
)
def test_the_version_of_the_answer_is_that_of_the_request(
    version: str, first_line: str, has_date: bool
) -> None:
    (request,) = _read(f"GET / HTTP/{version}\r\n\r\n".encode())
    head = Response(200, b"x").encode(request).decode()
    assert head.startswith(f"{first_line}\r\n")
    assert ("Date: " in head) == ("Content-Length: " in head) == has_date


def test_pages_have_the_headers_of_libevent() -> None:
    for line, expected in (
        ("GET /x HTTP/1.0", ["Content-Type", "Connection", "Date", "Content-Length"]),
        ("GET /x HTTP/1.1\r\nConnection: close", ["Content-Type", "Date", "Content-Length", "Connection"]),
        ("GET http:///x HTTP/1.1", ["Content-Type", "Date", "Content-Length"]),
    ):
        (request,) = _read(f"{line}\r\n\r\n".encode())
        first, *headers = page(404).encode(request).decode().partition("\r\n\r\n")[0].split("\r\n")
        assert first == "HTTP/1.1 404 Not Found"
        assert [header.partition(":")[0] for header in headers] == expected


def test_a_caller_that_expects_it_is_told_to_continue() -> None:
    reader = RequestReader(max_body_bytes=10)
    reader.feed(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert reader.next() is None
    assert reader.wants_continue()
    reader.feed(b"{")
    assert not reader.wants_continue()
    assert reader.next() is None
    reader.feed(b"}")
    request = reader.next()
    assert request is not None
    assert request.body == b"{}"


def test_a_page_is_that_of_libevent() -> None:
    text = page(404).encode(Request("GET", "/", "/")).decode()
    assert text.startswith("HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nConnection: close\r\nDate: ")
    assert text.endswith("<H1>Not Found</H1>\n</BODY></HTML>\n")
