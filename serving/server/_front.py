"""The gRPC front in C++: it runs Predict calls, and passes all other calls on to the Python server.

Python takes a third of the time of a short search to read its request and to write its answer, and does so
for one caller at a time. The front does both without Python, for requests that fit their signature. All else,
such as errors in a request, is the Python server's, which listens on a socket of its own.

The library is built where the system has gRPC's C++ library (`libgrpc++-dev`). Without it, Python serves
alone.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.resources
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nann.ops
from nann.serving.server._c_session import address_of, function_address
from nann.serving.server._metrics import LATENCY_LIMITS, RequestCell
from nann.serving.server._predict import is_for_predict
from nann.serving.server._servable import Servable
from nann.serving.server._status import Code, StatusError
from nann.serving.server._tls import TlsConfig
from nann.serving.server._versions import Route, Version

_log = logging.getLogger("nann.serving")

_LIBRARY = "libnann_front.so"
# A longer time would not fit into the clock of C++, which counts nanoseconds.
_NO_LIMIT_SECONDS = 365.0 * 24 * 3600
# Ends a text in C. What has it in its name is Python's.
_NUL = "\0"
_Pointer = ctypes.c_void_p
# In the order of the members of `TensorFlow` in front/tensorflow.h.
_TENSORFLOW_FUNCTIONS = (
    "TF_NewStatus",
    "TF_DeleteStatus",
    "TF_GetCode",
    "TF_Message",
    "TF_NewBufferFromString",
    "TF_DeleteBuffer",
    "TF_SessionRun",
    "TF_AllocateTensor",
    "TF_TensorFromProto",
    "TF_DeleteTensor",
    "TF_TensorType",
    "TF_NumDims",
    "TF_Dim",
    "TF_TensorData",
    "TF_StringGetDataPointer",
    "TF_StringGetSize",
)
# Of the op library, in the order of the members of `RunFunctions` in front/cancellation.h.
_RUN_FUNCTIONS = ("nann_run_begin", "nann_run_cancel", "nann_run_end")

_OnUnused = ctypes.CFUNCTYPE(None, ctypes.c_int64)
_Counts = ctypes.POINTER(ctypes.c_int64)
_OnCell = ctypes.CFUNCTYPE(
    None,
    *(ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int),
    *(_Counts, ctypes.c_double, _Counts, ctypes.c_double),
)


class _Argument(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("text", ctypes.c_char_p), ("number", ctypes.c_int))


class _Keys(ctypes.Structure):
    _fields_ = (
        ("key", ctypes.c_char_p),
        ("certificate", ctypes.c_char_p),
        ("client_roots", ctypes.c_char_p),
        ("verifies_clients", ctypes.c_int),
    )


class _Options(ctypes.Structure):
    _fields_ = (
        ("address", ctypes.c_char_p),
        ("keys", ctypes.POINTER(_Keys)),
        ("socket_address", ctypes.c_char_p),
        ("backend", ctypes.c_char_p),
        ("threads", ctypes.c_int),
        ("waiting", ctypes.c_int),
        ("runs", _Pointer),
        ("arguments", ctypes.POINTER(_Argument)),
        ("argument_count", ctypes.c_int),
        ("limits", ctypes.POINTER(ctypes.c_double)),
        ("limit_count", ctypes.c_int),
        ("on_unused", _OnUnused),
    )


class _Route(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("choice", ctypes.c_int),
        ("version", ctypes.c_int64),
        ("label", ctypes.c_char_p),
        ("model", ctypes.c_int64),
    )


# Function -> (type of the result, types of the arguments); front/c_api.cc says what each one does.
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "start": (_Pointer, (ctypes.POINTER(_Options), ctypes.POINTER(ctypes.c_int))),
    "stop": (None, (_Pointer, ctypes.c_double)),
    "delete": (None, (_Pointer,)),
    "new_model": (_Pointer, (_Pointer, _Pointer, ctypes.c_int64, ctypes.c_int)),
    "add_endpoint": (
        None,
        (_Pointer, ctypes.c_char_p, ctypes.c_char_p, _Pointer, ctypes.c_int, ctypes.c_int),
    ),
    "add_model": (ctypes.c_int64, (_Pointer, _Pointer)),
    "set_routes": (None, (_Pointer, ctypes.POINTER(_Route), ctypes.c_int)),
    "remove_model": (ctypes.c_int, (_Pointer, ctypes.c_int64)),
    "take_counts": (None, (_Pointer, _OnCell)),
}


@functools.cache
def _library() -> ctypes.CDLL | None:
    """Return the library of the front, None where there is none."""
    path = Path(str(importlib.resources.files("nann.serving.server").joinpath(_LIBRARY)))
    if not path.is_file():
        return None
    try:
        # TensorFlow's symbols are there for all; with DEEPBIND the front's libraries prefer their own.
        library = ctypes.CDLL(str(path), mode=os.RTLD_LOCAL | os.RTLD_NOW | os.RTLD_DEEPBIND)
    except OSError as error:
        _log.warning("Python serves alone, without the front in C++: %s", error)
        return None
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, f"nann_front_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def is_built() -> bool:
    """Return whether this installation has the front."""
    return _library() is not None


class Front:
    """Serves until `stop`. Call `start`, `stop` and `close`, each once.

    Threads: its own, of C++. One thread at a time calls `update`; any may call `take_counts`.
    """

    def __init__(self, give_back: Callable[[Version], None], *, check_method_names: bool) -> None:
        """`give_back` is called from a thread of the front for a version that it has no more use for.

        With `check_method_names`, signatures that Predict refuses are left to Python.
        """
        library = _library()
        assert library is not None
        self._library = library
        self._give_back = give_back
        self._check_method_names = check_method_names
        self._on_unused = _OnUnused(self._unused)
        self._handle: int | None = None
        self._tensorflow = (_Pointer * len(_TENSORFLOW_FUNCTIONS))(
            *map(function_address, _TENSORFLOW_FUNCTIONS)
        )
        ops = ctypes.CDLL(str(nann.ops.library_path()))  # The one that TensorFlow has loaded.
        self._runs = (_Pointer * len(_RUN_FUNCTIONS))(*(address_of(ops, name) for name in _RUN_FUNCTIONS))
        self._ids: dict[Version, int] = {}
        # Also those that were given up and still answer a request. Threads of the front take their versions
        # out; a single `pop` needs no lock.
        self._versions: dict[int, Version] = {}

    def start(
        self,
        *,
        address: str,
        tls: TlsConfig | None,
        socket_path: str,
        backend: str,
        threads: int,
        waiting: int,
        arguments: Mapping[str, Any],
    ) -> int | None:
        """Begin to accept requests and return the port; None if the address cannot be used.

        Args:
          address: "host:port"; port 0 takes any free port.
          tls: the keys for `address`; None serves without TLS.
          socket_path: a Unix socket to serve on as well, without TLS; "" for none.
          backend: the Python server, as gRPC names it.
          threads: how many requests run at once.
          waiting: how many may wait.
          arguments: gRPC channel arguments.
        """
        channel = [
            _Argument(name.encode(), value.encode(), 0)
            if isinstance(value, str)
            else _Argument(name.encode(), None, value)
            for name, value in arguments.items()
        ]
        given = _Options(
            address=address.encode(),
            keys=None if tls is None else ctypes.pointer(_keys(tls)),
            socket_address=f"unix:{socket_path}".encode() if socket_path else b"",
            backend=backend.encode(),
            threads=threads,
            waiting=waiting,
            runs=ctypes.cast(self._runs, _Pointer),
            arguments=(_Argument * len(channel))(*channel),
            argument_count=len(channel),
            limits=(ctypes.c_double * len(LATENCY_LIMITS))(*LATENCY_LIMITS),
            limit_count=len(LATENCY_LIMITS),
            on_unused=self._on_unused,
        )
        port = ctypes.c_int()
        self._handle = self._library.nann_front_start(given, port)
        return port.value if self._handle else None

    def update(self, routes: Mapping[Route, Version]) -> list[Version]:
        """Answer requests by these routes from now on; return the versions that are no longer used.

        Versions that no route leads to are given up. Those that still answer a request are given back later.
        """
        wanted = set(routes.values())
        for version in wanted - self._ids.keys():
            assert version.servable is not None
            number = self._ids[version] = self._add(version.number, version.servable)
            self._versions[number] = version
        table = [
            _Route(_text(route.model), route.choice, route.version, _text(route.label), self._ids[version])
            for route, version in routes.items()
            if _NUL not in route.model + route.label
        ]
        self._library.nann_front_set_routes(self._handle, (_Route * len(table))(*table), len(table))
        return [version for version in set(self._ids) - wanted if self._remove(version)]

    def _add(self, number: int, servable: Servable) -> int:
        session = servable.session
        model = self._library.nann_front_new_model(
            self._tensorflow, session.session, number, servable.fetches_all
        )
        for signature, alias, tensor, is_output in self._endpoints(servable):
            self._library.nann_front_add_endpoint(
                *(model, _text(signature), _text(alias)),
                *(tensor.operation, tensor.index, is_output),
            )
        return int(self._library.nann_front_add_model(self._handle, model))

    def _endpoints(self, servable: Servable) -> Iterator[tuple[str, str, Any, bool]]:
        """Yield signature, alias, tensor, and whether it is an output, of the signatures that it answers.

        Those whose tensors are not all in the graph are Python's, which says so to each request.
        """
        for name, signature in servable.signatures.items():
            if _NUL in "".join((name, *signature.inputs, *signature.outputs)):
                continue
            if self._check_method_names and not is_for_predict(signature):
                continue
            found = []
            try:
                for infos, is_output in ((signature.inputs, False), (signature.outputs, True)):
                    for alias in sorted(infos):
                        found.append((name, alias, servable.session.output(infos[alias].name), is_output))
            except StatusError:
                continue
            yield from found

    def _remove(self, version: Version) -> bool:
        """Give a version up; return whether no request uses it."""
        number = self._ids.pop(version)
        is_unused = bool(self._library.nann_front_remove_model(self._handle, number))
        if is_unused:
            del self._versions[number]
        return is_unused

    def _unused(self, number: int) -> None:
        self._give_back(self._versions.pop(number))

    def take_counts(self) -> list[RequestCell]:
        """Return the counts and times of the requests since the last call."""
        cells: list[RequestCell] = []
        buckets = len(LATENCY_LIMITS) + 1

        def on_cell(
            model: bytes, signature: bytes, code: int, counts: Any, total: float, runs: Any, run_total: float
        ) -> None:
            cells.append(
                RequestCell(
                    model=model.decode("utf-8", "surrogateescape"),
                    signature=signature.decode("utf-8", "surrogateescape"),
                    status=Code(code).name,
                    counts=counts[:buckets],
                    total=total,
                    run_counts=runs[:buckets] if runs else [0] * buckets,
                    run_total=run_total,
                )
            )

        self._library.nann_front_take_counts(self._handle, _OnCell(on_cell))
        return cells

    def stop(self, drain_seconds: float) -> None:
        """Accept no more requests, and wait up to `drain_seconds` for running ones."""
        self._library.nann_front_stop(self._handle, min(drain_seconds, _NO_LIMIT_SECONDS))

    def close(self) -> None:
        """Release the front, after `stop` and after it has no version any more."""
        self._library.nann_front_delete(self._handle)


def _keys(tls: TlsConfig) -> _Keys:
    return _Keys(
        key=tls.server_key.encode(),
        certificate=tls.server_cert.encode(),
        client_roots=tls.client_roots().encode(),
        verifies_clients=tls.client_verify,
    )


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
