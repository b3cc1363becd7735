"""HTTP/1 messages, read and written as libevent does, which TensorFlow Serving uses.

`RequestReader` turns the bytes of a connection into requests, `Response.encode` turns answers into bytes.
Both know nothing of sockets.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import Enum

_METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"}
_METHODS_WITH_BODY = _METHODS - {"HEAD"}
_MIN_FIRST_LINE = len("GET / HTTP/1.0")
_VERSION = re.compile(r"HTTP/\s*([+-]?[0-9]{1,9})\.\s*([+-]?[0-9]{1,9})")
# TensorFlow Serving has no limit. This one is far above what callers send, 200 kB is known to be accepted.
_MAX_HEADER_BYTES = 2**20

_ESCAPED = "%[0-9A-Fa-f]{2}"
_NAME = r"[A-Za-z0-9\-._~!$&'()*+,;=]"
_SEGMENTS = rf"(?:{_NAME}|[:@/]|{_ESCAPED})*"
_REST = rf"(?:{_NAME}|[:@/?]|{_ESCAPED})*"
_AUTHORITY = rf"(?:(?:{_NAME}|:|{_ESCAPED})*@)?(?:\[[^\]/?#]*\]|(?:{_NAME}|{_ESCAPED})*)(?::[0-9]*)?"
_URI = re.compile(
    rf"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):)?(?://(?P<authority>{_AUTHORITY})(?=[/?#]|\Z))?"
    rf"(?P<path>{_SEGMENTS})(?P<query>\?{_REST})?(?P<fragment>#{_REST})?"
)

_FUTURE_ADDRESS = re.compile(rf"v[0-9A-Fa-f]+\.(?:{_NAME}|:)+")
# A length of more digits is none that a body can have.
_MAX_LENGTH_DIGITS = 18

_REASONS = {
    100: "Continue",
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Request Entity Too Large",
    417: "Expectation Failed",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Time-out",
}
# libevent's phrases for other codes are those of their hundreds.
_REASONS_BY_CLASS = {4: "Client Error", 5: "Server Error"}


class _Part(Enum):
    """What is read next of a body."""

    WHOLE = 0
    CHUNK_SIZE = 1
    CHUNK = 2
    TRAILER = 3


@dataclass
class Request:
    """A request whose body has been read.

    path: without the query; target: with query and fragment. version: of HTTP. headers: by lower-case name;
    the first of equal names counts. is_for_proxy: the URI names a host. has_unread_body: a body was announced
    for a method that has none.
    """

    method: str
    path: str
    target: str
    version: tuple[int, int] = (1, 1)
    is_for_proxy: bool = False
    has_unread_body: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def keeps_alive(self) -> bool:
        """Whether the caller wants to send more requests over the connection."""
        if self.has_unread_body:
            return False
        if self.is_for_proxy:
            return self.headers.get("proxy-connection", "").lower() == "keep-alive"
        connection = self.headers.get("connection", "").lower()
        return connection != "close" and (self.version >= (1, 1) or connection.startswith("keep-alive"))

    @property
    def asks_to_close(self) -> bool:
        """Whether the answer must not say that the connection is kept."""
        if self.is_for_proxy:
            return not self.keeps_alive
        return self.headers.get("connection", "").lower() == "close"


@dataclass
class Response:
    """An answer. `closes` ends the connection after it."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    closes: bool = False

    def encode(self, request: Request | None) -> bytes:
        """Return the bytes of the answer; `request` is None if the request could not be read."""
        major, minor = self._version(request)
        reason = _REASONS.get(self.status) or _REASONS_BY_CLASS[self.status // 100]
        keeps_alive = request is not None and request.keeps_alive and not self.closes
        has_body = request is None or request.method != "HEAD"
        headers = list(self.headers)
        if self.closes:
            headers.append(("Connection", "close"))
        if major == 1 and minor >= 1:
            headers.append(("Date", formatdate(usegmt=True)))
        elif (major, minor) == (1, 0) and keeps_alive:
            headers.append(("Connection", "keep-alive"))
        if has_body and major == 1 and (minor >= 1 or keeps_alive):
            headers.append(("Content-Length", str(len(self.body))))
        if has_body and not any(name == "Content-Type" for name, _ in headers):
            headers.append(("Content-Type", "text/html; charset=ISO-8859-1"))
        if request is not None and request.asks_to_close:
            headers = [(name, value) for name, value in headers if name != "Connection"]
            if not request.is_for_proxy:
                headers.append(("Connection", "close"))
        first = f"HTTP/{major}.{minor} {self.status} {reason}"
        lines = [first, *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + (self.body if has_body else b"")

    def _version(self, request: Request | None) -> tuple[int, int]:
        if request is None or (self.closes and 0 in request.version):
            return 1, 1  # As libevent does for its own pages.
        return request.version


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def page(status: int) -> Response:
    """Return libevent's HTML page for a request that is not for the API. It closes the connection."""
    reason = _REASONS[status]
    text = (
        f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n"
    )
    return Response(status, text.encode(), [("Content-Type", "text/html")], closes=True)


class BadRequestError(Exception):
    """The bytes of a connection are not a request that can be answered."""

    def __init__(self, status: int, request: Request | None = None) -> None:
        super().__init__(status)
        self.response = page(status)
        self.request = request


class RequestReader:
    """Reads requests from the bytes of a connection, which `feed` appends.

    A body larger than `max_body_bytes` is refused as soon as its length is known, before it is kept.
    """

    def __init__(self, *, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        # Up to here the buffer was searched for the end of the head.
        self._scanned = 0
        # The request whose body is read.
        self._request: Request | None = None
        self._body = bytearray()
        # How many bytes of the body, or of its current chunk, are missing.
        self._missing = 0
        self._part = _Part.WHOLE

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def buffered(self) -> int:
        """The number of bytes that were fed and not read yet."""
        return len(self._buffer)

    def wants_continue(self) -> bool:
        """Return whether the caller waits for "100 Continue" before it sends the body."""
        request = self._request
        return request is not None and _expectation(request) != "" and not self._buffer and not self._body

    def next(self) -> Request | None:
        """Return the next request; None if more bytes are needed.

        Raises:
          BadRequestError: what was fed is no request. Nothing can be read after it.
        """
        if self._request is None and not self._read_head():
            return None
        is_complete = self._read_body() if self._part is _Part.WHOLE else self._read_chunks()
        if not is_complete or self._request is None:
            return None
        request, self._request = self._request, None
        request.body, self._body = bytes(self._body), bytearray()
        return request

    def _read_head(self) -> bool:
        end = self._find_head_end()
        if end < 0:
            if len(self._buffer) > _MAX_HEADER_BYTES:
                raise BadRequestError(413)
            return False
        lines = list(map(_as_line, self._buffer[:end].split(b"\n")))
        del self._buffer[:end]
        self._scanned = 0
        request = _parse_first_line(lines[0])
        request.headers = _parse_headers(lines[1:])
        self._part, self._missing = _Part.WHOLE, 0
        if request.method in _METHODS_WITH_BODY:
            self._part, self._missing = _body_part(request)
            if self._missing > self._max_body_bytes:
                raise BadRequestError(413, request)
            has_body = self._part is _Part.CHUNK_SIZE or self._missing > 0
            if has_body and _expectation(request) not in ("", "100-continue"):
                raise BadRequestError(417, request)
        # As in libevent, HEAD has no body. What follows must not be taken for a request.
        elif request.headers.keys() & {"content-length", "transfer-encoding"}:
            request.has_unread_body = request.headers.get("content-length", "") != "0"
        self._request = request
        return True

    def _find_head_end(self) -> int:
        """Return where the head ends, behind its empty line; -1 if the end is not there yet.

        Raises:
          BadRequestError: the first line is complete and is not that of a request.
        """
        while (line_end := self._buffer.find(b"\n", self._scanned)) >= 0:
            line = bytes(self._buffer[self._scanned : line_end]).removesuffix(b"\r")
            if not self._scanned:
                _parse_first_line(_as_line(line))
            elif line[:1] not in (b"", b" ", b"\t"):
                _parse_headers([_as_line(line)])
            self._scanned = line_end + 1
            if not line:
                return self._scanned
        return -1

    def _read_body(self) -> bool:
        """Move what there is of the body, or of a chunk; return whether that is all of it."""
        taken = self._buffer[: self._missing]
        self._body += taken
        del self._buffer[: len(taken)]
        self._missing -= len(taken)
        return not self._missing

    def _read_chunks(self) -> bool:
        """Read what there is of a chunked body; return whether the body is complete."""
        while True:
            if self._part is _Part.CHUNK:
                if not self._read_body():
                    return False
                self._part = _Part.CHUNK_SIZE
            line = self._take_line()
            if line is None:
                return False
            if self._part is _Part.TRAILER:
                if not line:
                    return True
                if ":" not in line and line[0] not in " \t":
                    raise BadRequestError(413, self._request)
            elif line:  # The end of a chunk is an empty line.
                size = _chunk_size(line)
                if size is None:
                    raise BadRequestError(413, self._request)
                if len(self._body) + size > self._max_body_bytes:
                    raise BadRequestError(413, self._request)
                self._part, self._missing = (_Part.CHUNK if size else _Part.TRAILER), size

    def _take_line(self) -> str | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEADER_BYTES:
                raise BadRequestError(400, self._request)
            return None
        line = self._buffer[:end].decode("latin-1").removesuffix("\r")
        del self._buffer[: end + 1]
        return line


def _as_line(line: bytes | bytearray) -> str:
    """Return a line without its end. A zero byte ends it, too, as libevent takes it for a C string."""
    return line.removesuffix(b"\r").partition(b"\0")[0].decode("latin-1")


def _parse_first_line(line: str) -> Request:
    line = line.rstrip(" ")
    method, space, rest = line.partition(" ")
    uri, other_space, protocol = rest.rpartition(" ")
    found = _VERSION.fullmatch(protocol)
    if len(line) < _MIN_FIRST_LINE or not space or not other_space or not uri or found is None:
        raise BadRequestError(400)
    version = (int(found[1]), int(found[2]))
    if version[0] > 1:
        raise BadRequestError(400)
    path, target, host = split_uri(uri) or ("", "", None)
    return Request(method, path, target, version=version, is_for_proxy=host is not None)


def split_uri(uri: str) -> tuple[str, str, str | None] | None:
    """Return the path, the path with query and fragment, and the host if the URI is absolute.

    None if it is not a URI: it has a character that must be escaped, or an escape such as "%zz".
    """
    found = _URI.fullmatch(uri)
    if found is None:
        return None
    path, authority = found["path"], found["authority"]
    if authority is not None and not _is_authority(authority):
        return None
    if authority is None and (path.startswith("//") or (not found["scheme"] and ":" in path.split("/")[0])):
        return None
    host = authority if (found["scheme"] or "").lower() in ("http", "https") else None
    return path, path + (found["query"] or "") + (found["fragment"] or ""), host


def _is_authority(authority: str) -> bool:
    """Return whether the port is a port, and what is in brackets an address."""
    host, colon, port = authority.rpartition("@")[2].rpartition(":")
    if not colon or port.endswith("]"):
        host, port = authority.rpartition("@")[2], ""
    if port and (len(port.lstrip("0")) > len("65535") or int(port) > 65535):
        return False
    if not host.startswith("["):
        return True
    try:
        ipaddress.IPv6Address(host[1:-1])
    except ValueError:
        return _FUTURE_ADDRESS.fullmatch(host[1:-1]) is not None
    return "%" not in host


def _parse_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    last: str | None = None
    for line in lines:
        if not line:
            break
        if line[0] in " \t":
            if last is None:
                raise BadRequestError(400)
            headers[last] += " " + line.strip(" \t")
            continue
        name, colon, value = line.partition(":")
        if not colon or "\r" in line:
            raise BadRequestError(400)
        last = name.lower()
        headers.setdefault(last, value.strip(" \t"))
    return headers


def _body_part(request: Request) -> tuple[_Part, int]:
    """Return which part of the body comes first, and its length if it is the whole body."""
    if request.headers.get("transfer-encoding", "").lower() == "chunked":
        return _Part.CHUNK_SIZE, 0
    length = request.headers.get("content-length", "0")
    found = re.fullmatch(r"\s*\+?0*([0-9]+)", length)
    if found is None:
        raise BadRequestError(400, request)
    return _Part.WHOLE, int(found[1]) if len(found[1]) <= _MAX_LENGTH_DIGITS else sys.maxsize


def _expectation(request: Request) -> str:
    """Return what the caller waits for before it sends the body, empty if for nothing."""
    return request.headers.get("expect", "").lower() if request.version >= (1, 1) else ""


def _chunk_size(line: str) -> int | None:
    found = re.fullmatch(r"\s*\+?(?:0[xX])?([0-9A-Fa-f]{1,15})(?: .*)?", line)
    return int(found[1], 16) if found is not None else None


def refusal(request: Request) -> Response | None:
    """Return the page for a request that no handler may see; None if it may be handled."""
    if request.method not in _METHODS:
        return page(501)
    if not request.target and not request.is_for_proxy:
        return page(400)
    return None
