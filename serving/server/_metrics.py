"""The server's metrics, in Prometheus's text format with TensorFlow Serving's names.

`/tensorflow/serving/request_count` is written as `:tensorflow:serving:request_count`. The names below
`:nann:` are this project's: the counters of the ops, and requests by signature.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from pathlib import Path

import nann.ops
from nann.serving.server._messages import MonitoringConfig, read_text_message
from nann.serving.server._predict import DEFAULT_SIGNATURE
from nann.serving.server._status import as_status

_DEFAULT_PATH = "/monitoring/prometheus/metrics"
_SERVING = "/tensorflow/serving/"
_REQUEST_COUNT = _SERVING + "request_count"
_REQUEST_LATENCY = _SERVING + "request_latency"
_RUNTIME_LATENCY = _SERVING + "runtime_latency"
_LOAD_COUNT = "/tensorflow/cc/saved_model/load_attempt_count"
_LOAD_LATENCY = "/tensorflow/cc/saved_model/load_latency"
_SESSION_RUNS = "/tensorflow/core/direct_session_runs"
# A signature that runs when a model is loaded; nobody asks for it.
_INIT_OP = "__saved_model_init_op"
_NANN_COUNT = "/nann/request_count"
_NANN_LATENCY = "/nann/request_latency"
# The ops tell values by name; all others are counters.
_OPS_GAUGES = ("/nann/overlay_items", "/nann/segment_lag_ms")

# TensorFlow Serving's limits for latencies in microseconds: 10 to some 20 minutes.
LATENCY_LIMITS = tuple(10 * 1.8**power for power in range(33))
# A caller may send any model name. The samples of further names are dropped, so that memory stays bounded.
_MAX_SAMPLES = 10_000

Labels = tuple[tuple[str, str], ...]


@dataclass
class _Histogram:
    """Counts by bucket, the last one without a limit, and the sum of the values."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_LIMITS) + 1))
    total: float = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(LATENCY_LIMITS, value)] += 1
        self.total += value

    def merge(self, counts: Sequence[int], total: float) -> None:
        self.counts = [mine + others for mine, others in zip(self.counts, counts, strict=True)]
        self.total += total


_AddTo = Callable[[_Histogram], None]


@dataclass(frozen=True, kw_only=True)
class RequestCell:
    """Predict requests over gRPC that something else counted: those of a model, signature and status.

    counts, total: by their latency in microseconds, in the buckets of `LATENCY_LIMITS` and the one above, and
    the sum of the latencies. run_counts, run_total: the same of TensorFlow's part, for those that ran.
    """

    model: str
    signature: str
    status: str
    counts: Sequence[int]
    total: float
    run_counts: Sequence[int]
    run_total: float


@dataclass
class Observation:
    """What is known of a request while it is answered."""

    signature: str = DEFAULT_SIGNATURE
    runtime_micros: float | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take the time of what runs meanwhile as TensorFlow's part of the request."""
        started = time.perf_counter()
        yield
        self.runtime_micros = (time.perf_counter() - started) * 1e6


class Metrics:
    """Counts and times requests and loads. May be used from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, int]] = {}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {}
        self._take_counts: Callable[[], Sequence[RequestCell]] = lambda: ()

    def count_with(self, take_counts: Callable[[], Sequence[RequestCell]]) -> None:
        """Add what `take_counts` returns, which are the requests since it was called last."""
        self._take_counts = take_counts

    @contextmanager
    def request(self, model: str, api: str, entrypoint: str) -> Iterator[Observation]:
        """Count and time the request that is answered meanwhile, with the code of its exception."""
        observation = Observation()
        started = time.perf_counter()
        status = "OK"
        try:
            yield observation
        except BaseException as error:
            status = as_status(error).code.name
            raise
        finally:
            micros = (time.perf_counter() - started) * 1e6
            with self._lock:
                self._add_requests(
                    *(model, observation.signature, status, api, entrypoint),
                    count=1,
                    add_to=lambda histogram: histogram.add(micros),
                )
                runtime = observation.runtime_micros
                if runtime is not None:
                    self._add_runs(model, api, count=1, add_to=lambda histogram: histogram.add(runtime))

    def loaded(self, path: str, *, succeeded: bool, seconds: float) -> None:
        """Count an attempt to load a SavedModel."""
        labels = (("model_path", path),)
        with self._lock:
            self._count(_LOAD_COUNT, (*labels, ("status", "success" if succeeded else "fail")), 1)
            self._count(_LOAD_LATENCY, labels, round(seconds * 1e6))

    def expect(self, model: str, signatures: Mapping[str, object]) -> None:
        """Have a sample, zero at first, for the requests of each signature of a model."""
        with self._lock:
            self._count(_REQUEST_COUNT, (("model_name", model), ("status", "OK")), 0)
            for signature in signatures:
                if signature == _INIT_OP:
                    continue
                labels = (("model_name", model), ("signature", signature), ("status", "OK"))
                self._count(_NANN_COUNT, labels, 0)

    def value(self, name: str) -> int:
        """Return a counter's first sample in the order of labels, by its name in TensorFlow; 0 if none.

        That is what TensorFlow Serving tells of a metric in the answer to a reload.
        """
        with self._lock:
            self._collect()
            cells = self._counters.get(name, {})
            first = min(cells, key=lambda labels: [value for _, value in labels], default=None)
            return cells[first] if first is not None else 0

    def requests(self) -> list[dict[str, object]]:
        """Return the requests by model, signature and status.

        Each entry has the labels, `micros`, the sum of the latencies, and `counts`, requests by latency:
        those up to each of `LATENCY_LIMITS`, and those above.
        """
        with self._lock:
            self._collect()
            cells = self._histograms.get(_NANN_LATENCY, {})
            return [
                {**dict(labels), "micros": histogram.total, "counts": list(histogram.counts)}
                for labels, histogram in cells.items()
            ]

    def text(self) -> str:
        """Return the page."""
        ops = nann.ops.metrics()
        with self._lock:
            self._collect()
            samples = {
                **{name: _counter_lines(name, cells) for name, cells in self._counters.items()},
                **{name: _histogram_lines(name, cells) for name, cells in self._histograms.items()},
            }
        samples |= {name: [f"{_exported(name)}{{}} {value}"] for name, value in ops.items()}
        of_ops = {name: "gauge" if name in _OPS_GAUGES else "counter" for name in ops}
        kinds = {**_kinds(), **of_ops, _NANN_COUNT: "counter", _NANN_LATENCY: "histogram"}
        lines: list[str] = []
        for name in sorted(kinds):
            lines += [f"# TYPE {_exported(name)} {kinds[name]}", *samples.get(name, [])]
        return "\n".join(lines) + "\n"

    def _count(self, name: str, labels: Labels, amount: int) -> None:
        cells = self._counters.setdefault(name, {})
        if labels in cells or len(cells) < _MAX_SAMPLES:
            cells[labels] = cells.get(labels, 0) + amount

    def _observe(self, name: str, labels: Labels, add_to: _AddTo) -> None:
        cells = self._histograms.setdefault(name, {})
        if labels in cells or len(cells) < _MAX_SAMPLES:
            add_to(cells.setdefault(labels, _Histogram()))

    def _add_requests(
        self,
        model: str,
        signature: str,
        status: str,
        api: str,
        entrypoint: str,
        *,
        count: int,
        add_to: _AddTo,
    ) -> None:
        """Count requests that ended; `add_to` adds their latencies to a histogram. The lock is held."""
        of_model, of_status = ("model_name", model), ("status", status)
        by_signature = (of_model, ("signature", signature), of_status)
        by_way = (of_model, ("API", api), ("entrypoint", entrypoint), of_status)
        self._count(_REQUEST_COUNT, (of_model, of_status), count)
        self._count(_NANN_COUNT, by_signature, count)
        self._observe(_REQUEST_LATENCY, by_way, add_to)
        self._observe(_NANN_LATENCY, by_signature, add_to)

    def _add_runs(self, model: str, api: str, *, count: int, add_to: _AddTo) -> None:
        """Count runs of TensorFlow; `add_to` adds their times to a histogram. The lock is held."""
        run = (("model_name", model), ("API", api.capitalize()), ("runtime", "TF1"))
        self._observe(_RUNTIME_LATENCY, run, add_to)
        self._count(_SESSION_RUNS, (), count)

    def _collect(self) -> None:
        """Add the requests that were counted elsewhere. The lock is held."""
        for cell in self._take_counts():
            self._add_requests(
                *(cell.model, cell.signature, cell.status, "Predict", "GRPC"),
                count=sum(cell.counts),
                add_to=partial(_Histogram.merge, counts=cell.counts, total=cell.total),
            )
            runs = sum(cell.run_counts)
            if runs:
                add_to = partial(_Histogram.merge, counts=cell.run_counts, total=cell.run_total)
                self._add_runs(cell.model, "Predict", count=runs, add_to=add_to)


def read_monitoring_config_file(path: Path) -> str | None:
    """Return the path of the metrics that a monitoring config file says, None if it enables none.

    ```
    prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }
    ```

    Raises:
      InvalidFileError: the file cannot be read or parsed.
    """
    config = read_text_message(path, MonitoringConfig()).prometheus_config
    return (config.path or _DEFAULT_PATH) if config.enable else None


@cache
def _kinds() -> Mapping[str, str]:
    """Return the kinds of TensorFlow Serving's metrics by name.

    Those of TensorFlow's runtime have no samples here, since Python cannot read them.
    """
    text = resources.files(__package__).joinpath("metric_names.txt").read_text()
    names = dict(line.split() for line in text.splitlines())
    return {_as_tensorflow(name): kind for name, kind in names.items()}


def _as_tensorflow(exported: str) -> str:
    return exported.replace(":", "/")


def _exported(name: str) -> str:
    return name.replace("/", ":")


def _label_text(labels: Labels) -> str:
    return ",".join(
        f'{name}="{value}"'
        for name, value in ((name, value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in labels)
    ).replace("\n", "\\n")


def _counter_lines(name: str, cells: Mapping[Labels, int]) -> list[str]:
    return [f"{_exported(name)}{{{_label_text(labels)}}} {value}" for labels, value in cells.items()]


def _histogram_lines(name: str, cells: Mapping[Labels, _Histogram]) -> list[str]:
    exported = _exported(name)
    limits = [*(f"{limit:g}" for limit in LATENCY_LIMITS), "+Inf"]
    lines = []
    for labels, histogram in cells.items():
        text = _label_text(labels)
        below = 0
        for limit, count in zip(limits, histogram.counts, strict=True):
            below += count
            lines.append(f'{exported}_bucket{{{text},le="{limit}"}} {below}')
        lines.append(f"{exported}_sum{{{text}}} {histogram.total:g}")
        lines.append(f"{exported}_count{{{text}}} {below}")
    return lines
