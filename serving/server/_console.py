"""The console: a page for people at `GET /`, and the data that it shows.

| path | answer |
|---|---|
| `/` | the page |
| `/console/console.css`, `/console/*.js` | its parts |
| `/console/state` | JSON: models, versions and their states; counters of requests |
| `/console/model?model=NAME&version=N` | JSON: what a loaded version says of itself |
| `/console/graph?model=NAME&version=N`, POST `[ids]` | JSON: links between these items in the index |

The retrievals themselves go through the REST API like those of any caller.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

import nann.ops
from nann.serving.server._console_export import MAX_NODES, describe_export, links_between
from nann.serving.server._http_message import Request, Response, page
from nann.serving.server._manager import ModelManager
from nann.serving.server._metrics import LATENCY_LIMITS, Metrics
from nann.serving.server._status import Code, StatusError, invalid_argument
from nann.version import __version__

_log = logging.getLogger("nann.serving")
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
_FILES = ("index.html", "console.css", "console.js", "charts.js", "retrieval.js")
_SECURITY = [
    # The page runs its own scripts only, whatever a title or an error message holds.
    ("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-cache"),
]


class Console:
    """Answers the requests of the page. May be called from many threads."""

    def __init__(self, manager: ModelManager, metrics: Metrics) -> None:
        self._manager = manager
        self._metrics = metrics
        self._started = time.monotonic()
        self._data: Mapping[str, Callable[[Request], Any]] = {
            "/console/state": self._state,
            "/console/model": self._model,
            "/console/graph": self._graph,
        }

    def handle(self, request: Request) -> Response | None:
        """Return the answer, or None for a request that is not to the console.

        A request that names neither its sender nor what it accepts comes from no browser: for `/` it gets the
        answer of TensorFlow Serving, which has no such page.
        """
        data = self._data.get(request.path)
        if data is not None:
            return _json_answer(data, request)
        file = "index.html" if request.path == "/" else request.path.removeprefix("/console/")
        is_page = request.path == "/" and not request.headers.keys() & {"accept", "user-agent"}
        if request.method not in ("GET", "HEAD") or file not in _files() or is_page:
            return None
        return Response(200, *_files()[file])

    def _state(self, request: Request) -> Any:
        return {
            "server": {"version": __version__, "uptime_seconds": time.monotonic() - self._started},
            "models": [
                {
                    "name": name,
                    "labels": labels,
                    "versions": [
                        {
                            "version": str(status.number),
                            "state": status.state.name,
                            "error": "" if status.error is None else str(status.error),
                        }
                        for status in self._manager.known(name)
                    ],
                }
                for name, labels in sorted(self._manager.labels().items())
            ],
            "limits_micros": LATENCY_LIMITS,
            "requests": self._metrics.requests(),
            "ops": nann.ops.metrics(),
        }

    def _model(self, request: Request) -> Any:
        name, version = _choice(request)
        with self._manager.lease(name, version=version) as lease:
            return {"version": str(lease.version), **describe_export(lease.servable.path)}

    def _graph(self, request: Request) -> Any:
        ids = _ids(request.body)
        name, version = _choice(request)
        with self._manager.lease(name, version=version) as lease:
            return links_between(lease.servable.path, ids)


def _choice(request: Request) -> tuple[str, int | None]:
    asked = parse_qs(request.target.partition("?")[2])
    name, version = asked.get("model", [""])[0], asked.get("version", [""])[0]
    # 18 digits fit into 64 bits.
    if not name or (version and not (version.isascii() and version.isdigit() and len(version) <= 18)):
        raise invalid_argument("expected ?model=NAME&version=NUMBER")
    return name, int(version) if version else None


def _ids(body: bytes) -> list[int]:
    try:
        ids = json.loads(body)
    except (ValueError, RecursionError):
        ids = None
    if not isinstance(ids, list) or len(ids) > MAX_NODES or any(type(item) is not int for item in ids):
        raise invalid_argument(f"expected a JSON list of up to {MAX_NODES} item ids")
    return [item for item in ids if abs(item) < 2**63]


def _json_answer(data: Callable[[Request], Any], request: Request) -> Response:
    if request.method not in ("GET", "POST"):
        return page(404)
    headers = [("Content-Type", "application/json"), *_SECURITY]
    try:
        return Response(200, json.dumps(data(request)).encode(), headers)
    except StatusError as error:
        status = 404 if error.code is Code.NOT_FOUND else 400
        return Response(status, json.dumps({"error": error.message}).encode(), headers)


@cache
def _files() -> Mapping[str, tuple[bytes, list[tuple[str, str]]]]:
    """Return the body and the headers of each file of the page."""
    folder = resources.files(__package__) / "console"
    return {
        name: (
            (folder / name).read_bytes(),
            [("Content-Type", _TYPES[name[name.rindex(".") :]]), *_SECURITY],
        )
        for name in _FILES
    }
