"""`nann bench`: load on an export or a server, other libraries on the same vectors, the table of figures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from nann.cli._console import console, emit, import_tensorflow, json_option, progress
from nann.cli._numbers import NUMBERS
from nann.errors import InvalidFileError

_PATH = click.Path(path_type=Path)


class _Rates(click.ParamType):  # type: ignore[type-arg]  # Generic only in newer releases.
    """`50,100.5` as (50.0, 100.5)."""

    name = "R,R,..."

    def convert(
        self, value: str | tuple[float, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(",") if part.strip())
        except ValueError:
            self.fail(f"expected numbers with commas between, such as 50,100; found {value!r}", param, ctx)


def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Take the options' defaults from a TOML file; what the command line says goes first."""
    if path is None:
        return
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidFileError(f"{path}: expected a TOML file of options: {error}") from error
    options = {option.name: option for option in ctx.command.params if option is not param}
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in options:
            known = ", ".join(sorted(n.replace("_", "-") for n in options if n))
            raise InvalidFileError(f"{path}: expected options of this command, {known}; found {key!r}.")
        option = options[name]
        defaults[name] = (
            [_as_text(v) for v in value] if getattr(option, "multiple", False) else _as_text(value)
        )
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _as_text(value: Any) -> Any:
    """A list as the command line has it."""
    return ",".join(map(str, value)) if isinstance(value, list) else value


_config_option = click.option(
    "--config",
    type=_PATH,
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    help="TOML file with options of this command by their long names; the command line goes first.",
)


@click.group(name="bench")
def command() -> None:
    """Measure an export or a server under load, and compare with other libraries."""


@command.command()
@_config_option
@click.option("--saved-model", type=_PATH, help="Version folder of an export, measured in this process.")
@click.option("--target", help="gRPC address HOST:PORT of a server, ours or TensorFlow Serving.")
@click.option("--model", default="nann", show_default=True, help="Name of the model on the server.")
@click.option("--model-dir", type=_PATH, help="The export that the server has, for its beams and ids.")
@click.option(
    "--requests",
    type=_PATH,
    help="Real requests: .npz (an array an input, a row a request), or TFRecords of PredictionLog as "
    "tf_serving_warmup_requests and TensorFlow Serving's request log.  [default: made up]",
)
@click.option("--signature", default="retrieve", show_default=True, help="Of made-up requests and of .npz.")
@click.option(
    "--generated", type=click.IntRange(1), default=256, show_default=True, help="Requests to make up."
)
@click.option(
    "--level-topn",
    type=NUMBERS,
    multiple=True,
    help="Beams; repeat to compare several.  [default: the requests' or the export's own]",
)
@click.option(
    "--concurrency",
    type=NUMBERS,
    default="1,2,4,8",
    show_default=True,
    help="Closed loop: callers at once, a level of load each; '' for none.",
)
@click.option("--qps", type=_Rates(), default="", help="Open loop: requests a second, a level of load each.")
@click.option(
    "--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", show_default=True,
    help="Of an open loop.",
)  # fmt: skip
@click.option(
    "--max-in-flight", type=click.IntRange(1), default=64, show_default=True,
    help="Open loop: most requests under way; those beyond wait, and their wait counts.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="A level."
)
@click.option("--warmup-seconds", type=click.FloatRange(0), default=3.0, show_default=True)
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="Load generators, for a server."
)
@click.option(
    "--threads", type=click.IntRange(0), default=0, show_default=True,
    help="Of the session that runs --saved-model; 0: TensorFlow's choice.",
)  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="s")
@click.option(
    "--agreement-users", type=click.IntRange(0), default=0, show_default=True,
    help="Requests to compare with brute force, for each --level-topn.",
)  # fmt: skip
@click.option("--server-pid", type=int, help="Process to watch.  [default: who listens on a local --target]")
@click.option("--metrics-url", help="Prometheus page of the server, for the time by part.")
@click.option(
    "--profile", type=_PATH, help="Folder for a TensorFlow profiler trace, taken at the first level."
)
@click.option("--profile-seconds", type=click.FloatRange(0.1), default=2.0, show_default=True)
@click.option("--switch-to", type=_PATH, help="Export to publish as a new version while load runs.")
@click.option("--switch-base", type=_PATH, help="Base path that the server watches, for --switch-to.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--report", type=_PATH, help="HTML page to write.")
@json_option
def run(*, report: Path | None, as_json: bool, **options: Any) -> None:
    """Put load on an export in this process, or on a running server, and report latency.

    \b
    nann bench run --saved-model MODELS/nann/1 --report bench.html
    nann bench run --target localhost:8500 --model-dir MODELS/nann/1 --qps 50,100,200
    """
    from nann.bench import BenchOptions, run_bench, write_report

    asked = BenchOptions(**options)
    asked.check()
    if asked.saved_model is not None:
        import_tensorflow()
    with progress(as_json) as on_progress:
        result = run_bench(asked, on_progress=on_progress)
    if report is not None:
        write_report(result, report)
    emit(as_json, result, lambda: _render_run(result, report))


def _render_run(result: dict[str, Any], report: Path | None) -> None:
    from rich.table import Table

    from nann.bench import beams_name, stage_name

    for beams in result["beams"]:
        table = Table(title=beams_name(beams), title_justify="left")
        table.add_column("load", no_wrap=True)
        for name in ("answers/s", "p50 ms", "p99 ms", "slowest", "errors", "scored"):
            table.add_column(name, justify="right")
        for stage in beams["stages"]:
            latency, scored = stage["latency"], stage["items_scored_mean"]
            table.add_row(
                stage_name(stage),
                f"{stage['throughput']:.1f}",
                *(f"{latency[name]:.2f}" for name in ("p50_ms", "p99_ms", "max_ms")),
                str(sum(stage["errors"].values())),
                "not told" if scored is None else f"{scored:,.0f}",
            )
        console.print(table)
        if beams["agreement"] is not None:
            console.print(f"agreement with brute force: {beams['agreement']:.1%}")
    if "switch" in result:
        switch = result["switch"]
        console.print(f"version {switch['from_version']} to {switch['to_version']}: {switch['events']}")
    if report is not None:
        console.print(f"Report: {report}", soft_wrap=True)
