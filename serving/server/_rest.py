"""The REST API: TensorFlow Serving's `/v1/models/...`.

`RestApi` answers requests; the HTTP server receives them.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from tensorflow_serving.apis import classification_pb2, regression_pb2

from nann.serving.server import _describe
from nann.serving.server._http_message import Request, Response, page
from nann.serving.server._inference import Run, classify, regress
from nann.serving.server._json_writer import error_body
from nann.serving.server._manager import Lease, ModelManager
from nann.serving.server._metrics import Metrics, Observation
from nann.serving.server._predict import DEFAULT_SIGNATURE, predict_arrays
from nann.serving.server._rest_examples import format_classes, format_regressions, parse_examples
from nann.serving.server._rest_json import format_predict, parse_predict
from nann.serving.server._status import Code, StatusError, as_status, invalid_argument
from nann.serving.server._versions import MAX_VERSION

_log = logging.getLogger("nann.serving")

_MODEL = r"/v1/models(?:/(?P<name>[^/:]+))"
_CHOICE = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
# As in TensorFlow Serving, the case of the path does not matter, but that of the verb does. So the pattern
# accepts ":PREDICT", and the code that compares the verb does not.
_POST_PATH = re.compile(_MODEL + _CHOICE + ":(?P<verb>classify|regress|predict)", re.IGNORECASE)
_GET_PATH = re.compile(_MODEL + "?" + _CHOICE + "(?:/(?P<part>metadata))?", re.IGNORECASE)
_API_PATH = re.compile("/v1/.*", re.IGNORECASE)

_ORIGIN = re.compile("https?://")
_CORS_HEADERS = [
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "POST, GET"),
    ("Access-Control-Allow-Headers", "Content-Type"),
]
_MAX_VERSION_DIGITS = len(str(MAX_VERSION))
# zlib's number for "with a gzip header".
_GZIP_ONLY = 16
# TensorFlow Serving's limit (ZLib::kMaxUncompressedBytes).
_MAX_DECOMPRESSED_BYTES = 100 * 2**20

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


@dataclass(frozen=True, kw_only=True)
class RestOptions:
    """How to answer.

    timeout_ms: time limit of a run, None for no limit.
    enable_cors: answer with the headers that let pages of other sites call.
    check_method_names: refuse classify and regress for signatures of other methods, and predict for those of
        no API.
    metrics_path: where the metrics are; None if they are nowhere.
    """

    timeout_ms: int | None = 30_000
    enable_cors: bool = False
    check_method_names: bool = False
    metrics_path: str | None = None


class RestApi:
    """Answers REST requests. May be called from many threads at once; knows nothing of sockets."""

    def __init__(self, manager: ModelManager, options: RestOptions, metrics: Metrics) -> None:
        self._manager = manager
        self._options = options
        self._metrics = metrics

    def handle(self, request: Request) -> Response:
        """Return the answer to an HTTP request."""
        if self._options.metrics_path is not None and request.path == self._options.metrics_path:
            return self._metrics_page(request.target)
        if not _API_PATH.fullmatch(request.target):
            return page(404)
        headers = []
        if request.method == "OPTIONS":
            # A browser asks this way whether a page of another site may call.
            status = 200 if _ORIGIN.search(request.headers.get("origin", "")) else 400
            body = b""
        else:
            status, body = self.answer(request.method, request.target, _plain_body(request))
            headers = [("Content-Type", "application/json")]
        if self._options.enable_cors:
            headers += _CORS_HEADERS
        return Response(status, body, headers)

    def _metrics_page(self, target: str) -> Response:
        headers = [("Content-Type", "text/plain")]
        expected = self._options.metrics_path
        if target != expected:
            return Response(400, f"Unexpected path: {target}. Should be {expected}".encode(), headers)
        # A caller may ask for a model whose name is not UTF-8. The page must be, for whoever reads it.
        return Response(200, self._metrics.text().encode("utf-8", "replace"), headers)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Return the HTTP status and the JSON body of the answer to a request.

        `path` is the path as the caller sent it, with the query string.
        """
        try:
            return 200, self._answer(method, path, body)
        except (StatusError, MemoryError) as error:
            status = as_status(error)
            text = error_body(status.message).encode("utf-8", "surrogateescape")
            return _HTTP_STATUSES.get(status.code, _ERROR_STATUS), text
        except _BadPathError:
            return 400, b""
        except Exception as error:
            _log.exception("REST %s %s failed", method, path)
            return _ERROR_STATUS, error_body(f"{type(error).__name__}: {error}").encode()

    def _answer(self, method: str, path: str, body: bytes) -> bytes:
        if method == "POST" and (found := _POST_PATH.fullmatch(path)):
            run = {"predict": self._predict, "classify": self._classify, "regress": self._regress}.get(
                found["verb"]
            )
            if run is not None:
                return self._run(run, _choice(found), found["verb"].capitalize(), body)
        if method == "GET" and (found := _GET_PATH.fullmatch(path)):
            choice = _choice(found)
            if not choice.model:
                raise invalid_argument("Missing model name in request.")
            if found["part"] == "metadata":
                with self._lease(choice) as lease:
                    return _describe.metadata_json(choice.model, lease)
            return _describe.status_json(self._manager.statuses(choice.model, version=choice.version))
        raise invalid_argument(f"Malformed request: {method} {path}")

    def _run(self, run: Callable[..., bytes], choice: _Choice, api: str, body: bytes) -> bytes:
        with self._metrics.request(choice.model, api, "REST") as observation:
            return run(choice, body, observation)

    def _lease(self, choice: _Choice) -> AbstractContextManager[Lease]:
        return self._manager.lease(choice.model, version=choice.version, label=choice.label)

    def _predict(self, choice: _Choice, body: bytes, observation: Observation) -> bytes:
        with ExitStack() as held:
            leases: list[Lease] = []

            def signature_of(name: str) -> Any:
                observation.signature = name
                leases.append(held.enter_context(self._lease(choice)))
                return leases[0].servable.signatures.get(name)

            request = parse_predict(body, signature_of)
            with observation.running():
                outputs = predict_arrays(
                    leases[0].servable,
                    request.signature,
                    request.inputs,
                    timeout_ms=self._options.timeout_ms,
                    check_method_names=self._options.check_method_names,
                )
            return format_predict(outputs, request.format)

    def _classify(self, choice: _Choice, body: bytes, observation: Observation) -> bytes:
        request = classification_pb2.ClassificationRequest()
        return format_classes(self._infer(classify, request, choice, body, observation).result)

    def _regress(self, choice: _Choice, body: bytes, observation: Observation) -> bytes:
        request = regression_pb2.RegressionRequest()
        return format_regressions(self._infer(regress, request, choice, body, observation).result)

    def _infer(
        self, infer: Callable[..., Any], request: Any, choice: _Choice, body: bytes, observation: Observation
    ) -> Any:
        name, examples = parse_examples(body)
        request.input.CopyFrom(examples)
        observation.signature = name or DEFAULT_SIGNATURE
        with self._lease(choice) as lease, observation.running():
            try:
                request.model_spec.name, request.model_spec.signature_name = choice.model, name
            except UnicodeEncodeError as error:
                # No name of a signature holds bytes that are not UTF-8.
                raise invalid_argument(f"No signature was found with the name: {name}") from error
            run = Run(lease.version, self._options.timeout_ms, self._options.check_method_names)
            return infer(lease.servable, request, run)


@dataclass(frozen=True)
class _Choice:
    """The model that a path names, and a version or a label."""

    model: str
    version: int | None
    label: str | None


def _choice(found: re.Match[str]) -> _Choice:
    digits = (found["version"] or "").lstrip("0")
    # Python refuses to convert thousands of digits.
    if len(digits) > _MAX_VERSION_DIGITS or int(digits or 0) > MAX_VERSION:
        raise _BadPathError
    version = int(digits or 0) if found["version"] else None
    label = _decode(found["label"]) if found["label"] else None
    return _Choice(_decode(found["name"] or ""), version, label)


def _decode(part: str) -> str:
    return unquote(part, errors="surrogateescape")


def _plain_body(request: Request) -> bytes:
    """Return the body, decompressed. As in TensorFlow Serving, one that cannot be decompressed is empty."""
    if "gzip" not in request.headers.get("content-encoding", ""):
        return request.body
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS + _GZIP_ONLY)
    try:
        body = decompressor.decompress(request.body, _MAX_DECOMPRESSED_BYTES)
    except zlib.error:
        return b""
    return body if decompressor.eof and not decompressor.unused_data else b""
