"""`nann bench`: latency under load, other libraries on the same vectors, the table of figures."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click

from nann.cli._console import Function, console, emit, import_tensorflow, json_option, progress
from nann.cli._numbers import NUMBERS, Parsed, list_of
from nann.cli._options_file import config_option

_PATH = click.Path(path_type=Path)
_RATES = Parsed("R,R,...", list_of(float), expected="numbers with commas between, such as 50,100")


@click.group(name="bench")
def command() -> None:
    """Measure an export or a server under load, and compare with other libraries."""


@command.command()
@config_option
@click.option("--saved-model", type=_PATH, help="Version folder of an export to measure in this process.")
@click.option("--target", help="gRPC address HOST:PORT of `nann serve` or TensorFlow Serving.")
@click.option("--model", default="nann", show_default=True, help="Name of the model on the server.")
@click.option("--model-dir", type=_PATH, help="The server's export, for its beams and ids.")
@click.option(
    "--requests",
    type=_PATH,
    help="Real requests: .npz (one array per input, one row per request), or TFRecords of PredictionLog such "
    "as tf_serving_warmup_requests and TensorFlow Serving's request log.  [default: generated]",
)
@click.option("--signature", default="retrieve", show_default=True, help="For generated requests and .npz.")
@click.option(
    "--generated", type=click.IntRange(1), default=256, show_default=True, help="Requests to generate."
)
@click.option(
    "--level-topn",
    type=NUMBERS,
    multiple=True,
    help="Beams; repeatable, to compare several.  [default: those of the requests or of the export]",
)
@click.option(
    "--concurrency",
    type=NUMBERS,
    default="1,2,4,8",
    show_default=True,
    help="Closed loop: numbers of concurrent callers, one level of load each; '' for none.",
)
@click.option("--qps", type=_RATES, default="", help="Open loop: requests per second, one level each.")
@click.option(
    "--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", show_default=True,
    help="Arrivals of an open loop.",
)  # fmt: skip
@click.option(
    "--max-in-flight", type=click.IntRange(1), default=64, show_default=True,
    help="Open loop: most concurrent requests; others wait, and their waiting time counts.",
)  # fmt: skip
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds per load level.",
)
@click.option(
    "--warmup-seconds", type=click.FloatRange(0), default=3.0, show_default=True,
    help="Duration of the load before the first level.",
)  # fmt: skip
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes that generate load, for --target.",
)
@click.option(
    "--threads", type=click.IntRange(0), default=0, show_default=True,
    help="Threads of the session that runs --saved-model; 0: TensorFlow's default.",
)  # fmt: skip
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True,
    help="Timeout of a request in seconds.",
)  # fmt: skip
@click.option(
    "--agreement-users", type=click.IntRange(0), default=0, show_default=True,
    help="Number of requests to compare with brute force, for each --level-topn.",
)  # fmt: skip
@click.option(
    "--server-pid",
    type=int,
    help="Server process to measure.  [default: the one that listens on a local --target]",
)
@click.option("--metrics-url", help="Prometheus page of the server, for the time by part.")
@click.option("--profile", type=_PATH, help="Folder for a TensorFlow profiler trace of the first level.")
@click.option(
    "--profile-seconds", type=click.FloatRange(0.1), default=2.0, show_default=True,
    help="Duration of the trace.",
)  # fmt: skip
@click.option("--switch-to", type=_PATH, help="Export to publish as a new version under load.")
@click.option("--switch-base", type=_PATH, help="Base path that the server watches, for --switch-to.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of requests and arrivals.")
@click.option("--report", type=_PATH, help="HTML page to write.")
@json_option
def run(*, report: Path | None, as_json: bool, **options: Any) -> None:
    """Put load on an export in this process, or on a running server, and report latency.

    \b
    nann bench run --saved-model MODELS/nann/1 --report bench.html
    nann bench run --target localhost:8500 --model-dir MODELS/nann/1 --qps 50,100,200
    """
    from nann.bench.load import BenchOptions, run_bench, write_report

    asked = BenchOptions(**options)
    asked.check()
    if asked.saved_model is not None:
        import_tensorflow()
    with progress(as_json) as on_progress:
        result = run_bench(asked, on_progress=on_progress)
    if report is not None:
        write_report(result, report)
    emit(as_json, result, lambda: _render_run(result, report, asked.agreement_users))


def _table_of_stages(beams: dict[str, Any]) -> Any:
    from rich.table import Table

    from nann.bench.load import beams_name, stage_name

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
            _errors(stage["errors"]),
            "not told" if scored is None else f"{scored:,.0f}",
        )
    return table


def _errors(errors: dict[str, int]) -> str:
    """How many requests failed, by the names of the codes."""
    return ", ".join(f"{count} {name}" for name, count in sorted(errors.items())) or "0"


def _render_switch(switch: dict[str, Any]) -> None:
    """Show when the new version answered, and latency and errors before, during and after."""
    from rich.table import Table

    events = ", ".join(
        f"{name.replace('_', ' ')} after {seconds:.2f} s" for name, seconds in switch["events"].items()
    )
    console.print(f"version {switch['from_version']} to {switch['to_version']}: {events}", soft_wrap=True)
    table = Table("the switch")
    for column in ("p50 ms", "p99 ms", "slowest", "errors"):
        table.add_column(column, justify="right")
    rows = {**switch.get("phases", {}), "whole": {**switch["latency"], "errors": _errors(switch["errors"])}}
    for phase, row in rows.items():
        latencies = (f"{row[name]:.2f}" for name in ("p50_ms", "p99_ms", "max_ms"))
        table.add_row(phase, *latencies, str(row["errors"]))
    console.print(table)


def _render_run(result: dict[str, Any], report: Path | None, agreement_users: int) -> None:
    for beams in result["beams"]:
        console.print(_table_of_stages(beams))
        if beams["agreement"] is not None:
            console.print(f"agreement with brute force: {beams['agreement']:.1%}")
        elif agreement_users:
            console.print("agreement with brute force: not measured; give the beams with --level-topn")
    if "switch" in result:
        _render_switch(result["switch"])
    if report is not None:
        console.print(f"Report: {report}", soft_wrap=True)


def _recalls(text: str) -> tuple[tuple[int, float], ...]:
    pairs = (pair.split(":") for pair in text.split(","))
    return tuple((int(k), float(recall)) for k, recall in pairs)


def _metric(name: str) -> str:
    if name not in ("ip", "l2"):
        raise ValueError(name)
    return name


_RECALLS = Parsed("K:RECALL,...", _recalls, expected="pairs such as 10:0.95,200:0.9")
_NAMES = Parsed("NAME,...", list_of(str.strip), expected="names with commas between")
_METRICS = Parsed("NAME,...", list_of(_metric), expected="ip, l2 or ip,l2")


def _corpus_options(function: Function) -> Function:
    """Add the options that `peers` and `table` share."""
    integer = functools.partial(click.option, show_default=True)
    for option in (
        integer("--seed", type=click.IntRange(0), default=0, help="Seed of the vectors."),
        integer(
            "--ef-construction", type=click.IntRange(1), default=100, help="ef_construction of the graphs."
        ),
        integer("--m", type=click.IntRange(2), default=32, help="Links per node (M) of the graphs."),
        click.option("--work", type=_PATH, required=True, help="Folder that keeps corpora and graphs."),
        config_option,
    ):
        function = option(function)
    return function


@command.command()
@_corpus_options
@click.option(
    "--items", type=click.IntRange(1000), default=1_000_000, show_default=True, help="Number of vectors."
)
@click.option(
    "--dim", type=click.IntRange(2), default=64, show_default=True, help="Dimension of the vectors."
)
@click.option("--queries", type=click.IntRange(1), default=1024, show_default=True, help="Queries.")
@click.option("--metrics", type=_METRICS, default="ip,l2", show_default=True, help="ip: inner product; l2.")
@click.option(
    "--recalls", type=_RECALLS, default="10:0.95,200:0.9,200:0.95", show_default=True,
    help="Pairs K:RECALL; every library is tuned to each recall@k.",
)  # fmt: skip
@click.option("--batch", type=click.IntRange(1), default=256, show_default=True, help="Queries per call.")
@click.option(
    "--rounds", type=click.IntRange(2), default=9, show_default=True, help="Measurements of each library."
)
@click.option(
    "--peers", type=_NAMES, default="faiss,hnswlib,usearch,scann", show_default=True, help="Libraries."
)
@click.option(
    "--stock/--no-stock", default=True, show_default=True, help="The attention walk in stock TensorFlow."
)
@json_option
def peers(*, work: Path, stock: bool, as_json: bool, **options: Any) -> None:
    """Measure other libraries and this project's walks: same vectors, same recall, one thread.

    Each library builds its own index, which --work keeps. `pip install nann[peers]` installs the libraries.
    """
    import_tensorflow()
    from nann.bench.new_process import in_new_process
    from nann.bench.peers import PeerOptions, compare_in_one_thread, compare_stock

    asked = PeerOptions(**options)
    with progress(as_json) as on_progress:
        result = in_new_process(compare_in_one_thread, asked, work, on_progress=on_progress)
        if stock:
            result["stock"] = in_new_process(compare_stock, asked, work, on_progress=on_progress)
    emit(as_json, result, lambda: _render_peers(result))


def _render_peers(result: dict[str, Any]) -> None:
    from rich.table import Table

    for case in result["cases"]:
        title = f"{case['metric']}, recall@{case['k']} of {case['recall']:g}"
        table = Table(title=title, title_justify="left")
        table.add_column("library", no_wrap=True)
        for name in ("effort", "recall", "us per query", "kernel", "speed-up over best peer (95 %)"):
            table.add_column(name, justify="right")
        for row in case["rows"]:
            ratio = case["ratios"].get(row["name"])
            kernel = row.get("kernel_micros_a_query")
            table.add_row(
                row["name"],
                str(row["effort"]),
                f"{row['recall']:.3f}",
                f"{row['micros_a_query']:.1f}" if "micros_a_query" in row else "not reached",
                f"{kernel:.1f}" if kernel else "",
                f"{ratio['value']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else "",
            )
        console.print(table)
    if "stock" in result:
        _render_checks({"attention scorer": result["stock"]})


def _render_checks(results: dict[str, Any]) -> None:
    from rich.table import Table

    from nann.bench.table import format_bound, format_value

    table = Table("row", "target", "measured", "met")
    for name, row in results.items():
        for check in row["checks"]:
            holds = "yes" if check["holds"] else "no"
            table.add_row(name, f"{check['what']}: {format_bound(check)}", format_value(check), holds)
    console.print(table)


@command.command()
@_corpus_options
@click.option("--out", type=_PATH, required=True, help="Page to write, such as docs/performance.md.")
@click.option("--only", multiple=True, metavar="ROW", help="Measure only this row; repeatable.")
@click.option(
    "--measure/--no-measure", default=True, help="Measure, or only write the page from the results in --work."
)
@click.option(
    "--scale", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
    help="Factor of the rows' numbers of items, to try the command.",
)  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(2), default=15, show_default=True, help="Measurements of each candidate."
)
@click.option(
    "--requests", type=click.IntRange(1), default=20, show_default=True, help="Requests per measurement."
)
@click.option(
    "--also", type=_PATH, multiple=True, metavar="JSON",
    help="Figures that another machine wrote beside its page: they get a table of their own; repeatable.",
)  # fmt: skip
@json_option
def table(
    *, out: Path, only: tuple[str, ...], measure: bool, also: tuple[Path, ...], as_json: bool, **options: Any
) -> None:
    """Measure the rows of docs/performance.md and write the page, its plot and its figures.

    --work keeps the result of each row: with --only, the page has the earlier results of the other rows.
    """
    from nann.bench.table import ROWS, kept_results, measure_rows, write_table
    from nann.bench.workloads import TableOptions
    from nann.files import read_json

    asked = TableOptions(**options)
    failed: dict[str, str] = {}
    if measure:
        with progress(as_json) as on_progress:
            failed = measure_rows(asked, only or tuple(ROWS), on_progress=on_progress)
    results = kept_results(asked)
    command = " ".join(
        ["nann bench table --work WORK --out docs/performance.md"]
        + [f"--also docs/{figures.name}" for figures in also]
    )
    elsewhere = [
        read_json(figures, what="figures of `nann bench table`", next_step="Name its .json file.")
        for figures in also
    ]
    write_table(results, out, scale=asked.scale, command=command, elsewhere=elsewhere)
    emit(as_json, {"rows": results, "failed": failed}, lambda: _render_checks(results))
    if failed:
        raise click.ClickException("; ".join(f"{name}: {why}" for name, why in failed.items()))
