"""`nann bench run`: puts load on an export or a server and returns all measurements as one JSON object."""

from __future__ import annotations

import contextlib
import datetime
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from nann.bench.load import _parts, _switch, _trace
from nann.bench.load._agreement import BruteForce
from nann.bench.load._processes import GeneratorProcesses, ServerAddress
from nann.bench.load._usage import UsageSampler, find_server_pid
from nann.bench.load.generator import Record, run_load
from nann.bench.load.schedule import Arrivals, Stage
from nann.bench.machine import describe_machine
from nann.bench.requests import Request, generate_requests, read_npz, read_prediction_logs
from nann.bench.targets import SavedModelTarget, ServerTarget, Target, limit_threads
from nann.errors import InvalidInputError
from nann.export.manifest import read_manifest
from nann.progress import OnProgress, ignore_progress
from nann.serving.client import NannClient

# Version of the JSON object.
FORMAT_VERSION = 1
# A switch takes about a second: intervals must be shorter to show it.
_SWITCH_INTERVAL = 0.2


class RunLoad(Protocol):
    """Puts the load of a stage on the target."""

    def __call__(self, requests: Sequence[Request], stage: Stage, *, seed: int) -> Record: ...


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What to measure. `nann bench run --help` describes each option."""

    saved_model: Path | None = None
    target: str | None = None
    model: str = "nann"
    model_dir: Path | None = None
    requests: Path | None = None
    signature: str = "retrieve"
    generated: int = 256
    level_topn: tuple[tuple[int, ...], ...] = ()
    concurrency: tuple[int, ...] = (1, 2, 4, 8)
    qps: tuple[float, ...] = ()
    arrivals: Arrivals = "poisson"
    max_in_flight: int = 64
    seconds: float = 10.0
    warmup_seconds: float = 3.0
    processes: int = 1
    threads: int = 0
    timeout: float = 10.0
    agreement_users: int = 0
    server_pid: int | None = None
    metrics_url: str | None = None
    profile: Path | None = None
    profile_seconds: float = 2.0
    switch_to: Path | None = None
    switch_base: Path | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise InvalidInputError when the options do not fit together."""
        if (self.saved_model is None) == (self.target is None):
            raise InvalidInputError(
                "say what to measure: expected --saved-model DIR or --target HOST:PORT, not both, "
                f"found {'both' if self.target else 'neither'}."
            )
        if not self.concurrency and not self.qps:
            raise InvalidInputError("load: expected --concurrency or --qps, found neither. Give one.")
        if (self.switch_to is None) != (self.switch_base is None) or (self.switch_to and not self.target):
            raise InvalidInputError(
                "switch: expected --target, --switch-to (the export to publish) and --switch-base (the base "
                "path that the server watches) together, found only some of them. Give all three."
            )
        for stage in self.stages():
            stage.check()

    def stages(self) -> list[Stage]:
        """The levels of load, closed loops first."""
        closed = [Stage(callers, self.seconds) for callers in self.concurrency]
        return closed + [Stage(self.max_in_flight, self.seconds, qps, self.arrivals) for qps in self.qps]

    @property
    def export_dir(self) -> Path | None:
        """The export's folder on this machine; None when it is unknown."""
        return self.model_dir or self.saved_model


def run_bench(options: BenchOptions, *, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Measure. Raises InvalidInputError, InvalidFileError, NannClientError."""
    options.check()
    report = on_progress or ignore_progress
    machine = describe_machine()
    with _opened(options) as bench:
        steps = len(bench.beams) * len(options.stages())
        result = {
            "format_version": FORMAT_VERSION,
            "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": machine,
            "target": str(options.saved_model or options.target),
            "kind": "in process" if options.saved_model else "server",
            "signature": options.signature,
            "requests": str(options.requests) if options.requests else f"{options.generated} made up",
            "options": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()},
        }
        bench.warm_up()
        result["beams"] = bench.measure_all(lambda done: report("load", done, steps))
        if options.switch_to is not None:
            report("switch", 0, 1)
            result["switch"] = bench.measure_switch()
            report("switch", 1, 1)
        if options.profile is not None:
            result["flame"] = bench.measure_flame()
    return result


@contextlib.contextmanager
def _opened(options: BenchOptions) -> Iterator[_Bench]:
    with contextlib.ExitStack() as stack:
        target: Target
        if options.saved_model is not None:
            if options.threads:
                limit_threads(options.threads)
            target = SavedModelTarget(options.saved_model)
            stack.callback(target.close)
            run: RunLoad = functools.partial(_run_here, target)
            counters: _parts.ReadCounters = _parts.counters_of_this_process
            pid: int | None = None
        else:
            assert options.target is not None
            target = ServerTarget(options.target, model=options.model, timeout=options.timeout)
            stack.callback(target.close)
            address = ServerAddress(options.target, options.model, options.timeout)
            run = stack.enter_context(GeneratorProcesses(options.processes, address)).run
            counters = _parts.no_counters
            if options.metrics_url is not None:
                counters = functools.partial(_parts.counters_of_server, options.metrics_url)
            pid = options.server_pid or find_server_pid(options.target)
        yield _Bench(options, target, run, counters, pid)


def _run_here(target: Target, requests: Sequence[Request], stage: Stage, *, seed: int) -> Record:
    return run_load(target.call, requests, stage, seed=seed)


class _Bench:
    """One target and its requests."""

    def __init__(
        self,
        options: BenchOptions,
        target: Target,
        run: RunLoad,
        counters: _parts.ReadCounters,
        pid: int | None,
    ) -> None:
        self._options = options
        self._target = target
        self._run = run
        self._counters = counters
        self._pid = pid
        manifest = read_manifest(options.export_dir) if options.export_dir else None
        default = tuple(manifest["level_topn"]) if manifest else None
        self._requests = _requests(options, target, manifest)
        # None stands for the beams of the requests themselves.
        self.beams: list[tuple[int, ...] | None] = list(options.level_topn) or [
            None if options.requests else default
        ]

    def warm_up(self) -> None:
        """Put load on the target without measuring it; InvalidInputError when no request succeeds."""
        if self._options.warmup_seconds <= 0:
            return
        stage = Stage(max(self._options.processes, 1), self._options.warmup_seconds)
        record = self._run(self._with_beams(self.beams[0]), stage, seed=self._options.seed)
        if record.latencies.count == 0:
            raise InvalidInputError(
                f"{self._options.target or self._options.saved_model}: expected answers while warming up, "
                f"found only errors: {dict(record.errors)}. Try one request with `nann query`."
            )

    def measure_all(self, on_stage: Callable[[int], None]) -> list[dict[str, Any]]:
        """Measure every level of load with every list of beams."""
        brute_force = self._brute_force()
        results = []
        done = 0
        for beams in self.beams:
            stages = []
            for stage in self._options.stages():
                stages.append(self._measure(self._with_beams(beams), stage)[0])
                done += 1
                on_stage(done)
            agreement = brute_force.agreement(beams) if brute_force and beams else None
            results.append(
                {"level_topn": list(beams) if beams else None, "agreement": agreement, "stages": stages}
            )
        return results

    def measure_switch(self) -> dict[str, Any]:
        """Measure one stage during which a new version is published."""
        options = self._options
        assert options.switch_to is not None
        assert options.switch_base is not None
        assert options.target is not None
        if options.qps:
            stage = Stage(options.max_in_flight, options.seconds, options.qps[0], options.arrivals)
        else:
            stage = Stage(options.concurrency[0], options.seconds)
        stage = Stage(stage.callers, stage.seconds, stage.qps, stage.arrivals, _SWITCH_INTERVAL)
        with (
            NannClient(options.target, model=options.model) as client,
            _switch.ModelSwitch(
                options.switch_to, options.switch_base, client, after_seconds=options.seconds / 3
            ) as switch,
        ):
            measured, record = self._measure(self._with_beams(self.beams[0]), stage)
        if "published" in switch.events:
            measured["phases"] = _switch.phases(record, switch.events, _SWITCH_INTERVAL)
        return {
            "from_version": switch.versions[0],
            "to_version": switch.versions[1],
            "events": switch.events,
            **measured,
        }

    def measure_flame(self) -> dict[str, Any]:
        """Take a profiler trace under the first level of load. It slows the target, so it is no stage."""
        options = self._options
        assert options.profile is not None
        options.profile.mkdir(parents=True, exist_ok=True)
        stage = options.stages()[0]
        # The load must last longer than a server's trace.
        stage = Stage(stage.callers, options.profile_seconds + 1.0, stage.qps, stage.arrivals)
        if options.target is not None:
            tracing = _trace.traced_server(options.profile, options.target, options.profile_seconds)
        else:
            stage = Stage(stage.callers, options.profile_seconds, stage.qps, stage.arrivals)
            tracing = _trace.traced_here(options.profile)
        with tracing:
            record = self._run(self._with_beams(self.beams[0]), stage, seed=options.seed)
        return {"requests": record.latencies.count, "root": _trace.flame(options.profile)}

    def _with_beams(self, beams: tuple[int, ...] | None) -> list[Request]:
        if beams is None:
            return self._requests
        return [request.with_beams(beams) for request in self._requests]

    def _brute_force(self) -> BruteForce | None:
        users = self._options.agreement_users
        if users == 0:
            return None
        if self._options.export_dir is None:
            raise InvalidInputError(
                "agreement: expected the export's folder, which has the ids of all items, found none. "
                "Give it with --model-dir."
            )
        item_ids = np.load(self._options.export_dir / "assets" / "item_ids.npy")
        return BruteForce(self._target, self._requests[:users], item_ids)

    def _measure(self, requests: Sequence[Request], stage: Stage) -> tuple[dict[str, Any], Record]:
        before = self._counters()
        with UsageSampler(self._pid) as sampler:
            record = self._run(requests, stage, seed=self._options.seed)
        after = self._counters()
        watched = self._pid is not None or self._options.saved_model is not None
        usage = sampler.usage.to_json() if watched else None
        return {**_summary(stage, record), "usage": usage, "parts": _parts.parts(before, after)}, record


def _requests(options: BenchOptions, target: Target, manifest: dict[str, Any] | None) -> list[Request]:
    beams: Sequence[int] | None = options.level_topn[0] if options.level_topn else None
    if beams is None and manifest is not None:
        beams = manifest["level_topn"]
    if options.requests is not None and options.requests.suffix != ".npz":
        return read_prediction_logs(options.requests)
    specs = target.specs(options.signature)
    if options.requests is not None:
        return read_npz(options.requests, specs, options.signature, beams)
    if not beams:
        raise InvalidInputError(
            "beams: expected --level-topn, or the export's folder with --model-dir, found neither."
        )
    return generate_requests(
        specs,
        options.signature,
        beams,
        count=options.generated,
        seed=options.seed,
        vocabularies=_vocabularies(options.export_dir, manifest),
    )


def _vocabularies(
    model_dir: Path | None, manifest: dict[str, Any] | None
) -> dict[str, npt.NDArray[np.int64]]:
    if model_dir is None or manifest is None:
        return {}
    tables = manifest["tables"]["user"]
    return {
        feature: np.load(model_dir / tables[table]["file"])
        for feature, table in manifest["model"]["vocabularies"].items()
    }


def _summary(stage: Stage, record: Record) -> dict[str, Any]:
    answers = record.service.count
    loop: Literal["closed", "open"] = "closed" if stage.qps is None else "open"
    counted = record.answers_with_counts
    return {
        "loop": loop,
        "callers": stage.callers,
        "qps_asked": stage.qps,
        "arrivals": stage.arrivals if stage.qps is not None else None,
        "seconds": record.seconds,
        "throughput": answers / record.seconds,
        "errors": dict(record.errors),
        "latency": record.latencies.summary(),
        "service": record.service.summary(),
        "items_scored_mean": record.items_scored / counted if counted else None,
        "client_ms_mean": record.client_seconds / answers * 1e3 if answers else 0.0,
        "generator_cores": record.generator_cpu_seconds / record.seconds,
        "intervals": [
            {
                "from_seconds": number * stage.interval_seconds,
                "count": interval.latencies.count,
                "errors": interval.errors,
                "p50_ms": interval.latencies.milliseconds(50),
                "p99_ms": interval.latencies.milliseconds(99),
                "max_ms": interval.latencies.milliseconds(100),
            }
            for number, interval in sorted(record.intervals.items())
        ],
    }
