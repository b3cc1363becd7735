"""An HTTP/1 server. One event loop reads requests and writes answers; a pool of threads handles them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nann.errors import InvalidInputError
from nann.serving.server._http_message import (
    CONTINUE,
    BadRequestError,
    Request,
    RequestReader,
    Response,
    page,
    refusal,
)

_log = logging.getLogger("nann.serving")

Handler = Callable[[Request], Response]

# libevent's limit: how long a connection may be silent, between requests and within one.
_SILENCE_SECONDS = 50.0
# How long the head of a request may take, however little of it comes at a time.
_HEAD_SECONDS = 60.0
_SWEEP_SECONDS = 5.0
# After an early answer the rest of the request is read and dropped for this long. Without that the system
# resets the connection, and the caller may never see the answer.
_LINGER_SECONDS = 2.0
# What a caller may send ahead while a request is handled.
_MAX_READ_AHEAD = 2**16


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """host: address to listen on. port: 0 takes any. threads: how many requests are handled at once."""

    host: str
    port: int
    threads: int
    max_body_bytes: int
    ssl_context: ssl.SSLContext | None = None


class HttpServer:
    """Serves a handler. Call `start`, then `stop`, each once. The handler is called from many threads."""

    def __init__(self, handler: Handler, options: HttpOptions) -> None:
        self.handler = handler
        self.options = options
        self.workers = ThreadPoolExecutor(options.threads, thread_name_prefix="nann-rest")
        self.connections: set[_Connection] = set()
        self.is_stopping = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nann-rest-loop", daemon=True)
        self._server: asyncio.Server | None = None

    def start(self) -> int:
        """Begin to accept requests and return the port.

        Raises:
          InvalidInputError: the address cannot be used.
        """
        self._thread.start()
        try:
            return asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        except (OSError, OverflowError) as error:
            raise InvalidInputError(
                f"REST cannot listen on {self.options.host}:{self.options.port}: {error}; choose another "
                "--rest_api_port, or 0 for any free one"
            ) from error

    def stop(self, drain_seconds: float) -> None:
        """Accept no more requests, and wait up to `drain_seconds` for those that are running."""
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._close(drain_seconds), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self.workers.shutdown(wait=False, cancel_futures=True)

    async def _listen(self) -> int:
        listener = _listen(self.options.host, self.options.port)
        self._server = await self._loop.create_server(
            lambda: _Connection(self, self._loop), sock=listener, ssl=self.options.ssl_context, backlog=1024
        )
        self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        port: int = listener.getsockname()[1]
        return port

    def _sweep(self) -> None:
        """Close the connections that are silent for too long."""
        now = time.monotonic()
        for connection in list(self.connections):
            if connection.is_overdue(now):
                connection.abort()
        self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    async def _close(self, drain_seconds: float) -> None:
        assert self._server is not None
        self.is_stopping = True
        self._server.close()
        for connection in list(self.connections):
            connection.close_if_idle()
        running = [connection.closed for connection in self.connections]
        if running:
            await asyncio.wait(running, timeout=drain_seconds)
        for connection in list(self.connections):
            connection.abort()


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an IPv4 or IPv6 address or a host name. "::" takes both families."""
    family, _, _, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    is_v6 = family == socket.AF_INET6
    return socket.create_server(
        address[:2], family=family, backlog=1024, dualstack_ipv6=is_v6 and address[0] == "::"
    )


class _Connection(asyncio.Protocol):
    """One connection. Everything here runs in the event loop; requests are handled one after the other."""

    def __init__(self, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._reader = RequestReader(max_body_bytes=server.options.max_body_bytes)
        self._transport: asyncio.Transport | None = None
        # The request that is handled now.
        self._running: Request | None = None
        self._is_lingering = False
        self._has_ended = False
        self._heard_at = time.monotonic()
        self._head_since: float | None = None
        self.closed: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._server.connections.discard(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._heard_at = time.monotonic()
        if self._is_lingering:
            return
        self._reader.feed(data)
        if self._running is None:
            self._read_requests()
        elif self._reader.buffered > _MAX_READ_AHEAD and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The caller sends no more. A request that is handled is still answered."""
        self._has_ended = True
        return self._running is not None

    def is_overdue(self, now: float) -> bool:
        if self._running is not None:
            return False
        is_slow = self._head_since is not None and now - self._head_since > _HEAD_SECONDS
        return is_slow or now - self._heard_at > _SILENCE_SECONDS

    def close_if_idle(self) -> None:
        if self._running is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _read_requests(self) -> None:
        if self._transport is None:
            return
        try:
            request = self._reader.next()
        except BadRequestError as error:
            self._refuse(error.request, error.response)
            return
        if request is None:
            if self._reader.wants_continue():
                self._transport.write(CONTINUE)
            waits_for_head = self._reader.buffered > 0
            self._head_since = (self._head_since or self._heard_at) if waits_for_head else None
            return
        self._head_since = None
        early = refusal(request)
        if early is not None:
            self._refuse(request, early)
            return
        self._running = request
        try:
            self._server.workers.submit(self._handle, request)
        except RuntimeError:  # The pool is shut down.
            self._refuse(request, page(503))

    def _handle(self, request: Request) -> None:
        """Answer a request. Runs in a thread of the pool."""
        if self._transport is None:
            return  # Nobody waits for the answer any more.
        try:
            response = self._server.handler(request)
        except Exception:
            _log.exception("REST %s %s failed", request.method, request.target)
            response = page(500)
        # The loop may have been stopped, after the time for draining had passed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._reply, request, response)

    def _reply(self, request: Request, response: Response) -> None:
        self._running = None
        self._heard_at = time.monotonic()
        if self._transport is None:
            return
        if self._server.is_stopping:
            response.closes = True
        self._transport.write(response.encode(request))
        if response.closes or self._has_ended or not request.keeps_alive:
            self._transport.close()
            return
        self._transport.resume_reading()
        self._read_requests()

    def _refuse(self, request: Request | None, response: Response) -> None:
        """Answer before the request was read to its end, then drop the rest."""
        assert self._transport is not None
        self._running = None
        self._is_lingering = True
        self._transport.write(response.encode(request))
        if self._has_ended or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._loop.call_later(_LINGER_SECONDS, self._close_after_linger)

    def _close_after_linger(self) -> None:
        if self._transport is not None:
            self._transport.close()
