"""The REST transport: TensorFlow Serving's `/v1/models/...` over HTTP.

`RestApi` answers requests, `RestServer` receives them. One thread runs the event loop, which reads requests
and writes answers; a pool of threads runs the models.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod

from nann.errors import InvalidInputError
from nann.serving.server import _describe
from nann.serving.server._json_writer import error_body
from nann.serving.server._manager import ModelManager
from nann.serving.server._predict import predict_arrays
from nann.serving.server._rest_json import format_predict, parse_predict
from nann.serving.server._status import Code, StatusError, invalid_argument
from nann.serving.server._versions import MAX_VERSION

_log = logging.getLogger("nann.serving")

_MODEL = r"/v1/models(?:/(?P<name>[^/:]+))"
_CHOICE = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
# As in TensorFlow Serving, the case of the path does not matter, but that of the verb does. So the pattern
# accepts ":PREDICT", and the code that compares the verb does not.
_POST_PATH = re.compile(_MODEL + _CHOICE + ":(?P<verb>classify|regress|predict)", re.IGNORECASE)
_GET_PATH = re.compile(_MODEL + "?" + _CHOICE + "(?:/(?P<part>metadata))?", re.IGNORECASE)
_API_PATH = re.compile("/v1/.*", re.IGNORECASE)

_HTTP_STATUSES = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
_ERROR_STATUS = 500


class _BadPathError(Exception):
    """The version in the path is too large. The answer is status 400 without a body."""


class RestApi:
    """Answers REST requests. May be called from many threads at once; knows nothing of sockets."""

    def __init__(self, manager: ModelManager, *, timeout_ms: int) -> None:
        self._manager = manager
        self._timeout_ms = timeout_ms

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Return the HTTP status and the JSON body of the answer to a request.

        `path` is the path as the caller sent it, with the query string.
        """
        try:
            return 200, self._answer(method, path, body)
        except StatusError as error:
            text = error_body(error.message).encode("utf-8", "surrogateescape")
            return _HTTP_STATUSES.get(error.code, _ERROR_STATUS), text
        except RecursionError:
            return 400, error_body("JSON values are nested too deeply").encode()
        except _BadPathError:
            return 400, b""
        except Exception as error:
            _log.exception("REST %s %s failed", method, path)
            return _ERROR_STATUS, error_body(f"{type(error).__name__}: {error}").encode()

    def _answer(self, method: str, path: str, body: bytes) -> bytes:
        if method == "POST" and (found := _POST_PATH.fullmatch(path)):
            name, version, label = _parts(found)
            if found["verb"] == "predict":
                return self._predict(name, version, label, body)
            if found["verb"] in ("classify", "regress"):
                raise StatusError(
                    Code.UNIMPLEMENTED, f"{found['verb']} is not supported by this server; use predict"
                )
        if method == "GET" and (found := _GET_PATH.fullmatch(path)):
            name, version, label = _parts(found)
            if found["part"] == "metadata":
                with self._manager.lease(name, version=version, label=label) as lease:
                    return _describe.metadata_json(name, lease)
            if not name:
                raise invalid_argument("Missing model name in request.")
            return _describe.status_json(self._manager.statuses(name, version=version))
        raise invalid_argument(f"Malformed request: {method} {path}")

    def _predict(self, name: str, version: int | None, label: str | None, body: bytes) -> bytes:
        with self._manager.lease(name, version=version, label=label) as lease:
            servable = lease.servable
            request = parse_predict(body, lambda: servable.signatures)
            outputs = predict_arrays(servable, request.signature, request.inputs, timeout_ms=self._timeout_ms)
            return format_predict(outputs, request.format)


def _parts(found: re.Match[str]) -> tuple[str, int | None, str | None]:
    version = int(found["version"]) if found["version"] else None
    if version is not None and version > MAX_VERSION:
        raise _BadPathError
    label = _decode(found["label"]) if found["label"] else None
    return _decode(found["name"] or ""), version, label


def _decode(part: str) -> str:
    return unquote(part, errors="surrogateescape")


class RestServer:
    """Serves a `RestApi` over HTTP. Call `start`, then `stop`, each once."""

    def __init__(self, api: RestApi, *, host: str, port: int, threads: int) -> None:
        self._api = api
        self._host = host
        self._port = port
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix="nann-rest")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nann-rest-loop", daemon=True)
        self._runner: web.ServerRunner | None = None

    def start(self) -> int:
        """Begin to accept requests and return the port.

        Raises:
          InvalidInputError: the address cannot be used.
        """
        self._thread.start()
        try:
            return asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        except OSError as error:
            raise InvalidInputError(
                f"REST cannot listen on {self._host}:{self._port}: {error}; choose another --rest_api_port, "
                "or 0 for any free one"
            ) from error

    def stop(self, drain_seconds: float) -> None:
        """Accept no more requests, and wait up to `drain_seconds` for those that are running."""
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._close(self._runner, drain_seconds), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._workers.shutdown(cancel_futures=True)

    async def _listen(self) -> int:
        runner = web.ServerRunner(_HttpServer(self._handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, self._host, self._port).start()
        self._runner = runner
        port: int = runner.addresses[0][1]
        return port

    async def _close(self, runner: web.ServerRunner, drain_seconds: float) -> None:
        runner._shutdown_timeout = drain_seconds
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        path = request.raw_path
        if not _API_PATH.fullmatch(path) and not _GET_PATH.fullmatch(path):
            return _page(404, "Not Found")
        if request.method == "OPTIONS":
            return web.Response(status=400, content_type="text/html", charset="ISO-8859-1")
        try:
            body = await request.content.read()
        except web.RequestPayloadError as error:
            text = error_body(f"The request's body cannot be read: {error}")
            return web.Response(status=400, body=text.encode(), content_type="application/json")
        status, answer = await self._loop.run_in_executor(
            self._workers, self._api.answer, request.method, path, body
        )
        return web.Response(status=status, body=answer, content_type="application/json")


def _page(status: int, reason: str) -> web.Response:
    """Return the HTML page for a request that is not for the API. It closes the connection."""
    text = (
        f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n"
    )
    response = web.Response(status=status, body=text.encode(), content_type="text/html")
    response.force_close()
    return response


class _HttpConnection(web.RequestHandler):
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, BadHttpMethod):
            return _page(501, "Not Implemented")
        if isinstance(exc, ConnectionError):
            # The caller closed the connection in the middle of the request, so nobody reads the answer.
            return _page(400, "Bad Request")
        return super().handle_error(request, status, exc, message)


class _HttpServer(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _HttpConnection(self, loop=self._loop, **self._kwargs)
