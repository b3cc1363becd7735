"""`nann index`: builds, converts or imports the index of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nann.cli._console import emit, json_option, print_text, progress, shell_command
from nann.cli._numbers import NUMBERS
from nann.errors import InvalidFileError
from nann.run import read_run

if TYPE_CHECKING:
    from nann.export import GraphIndex

# With fewer entry points a walk can miss parts of a corpus (docs/quality.md).
FEW_ENTRY_POINTS = 16
_BUILD_OPTIONS = ("metric", "m", "ef_construction", "seed", "threads")


def _start_level(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdigit():
        raise click.BadParameter(f"expected auto or a number, found {value!r}")
    return int(value)


@click.command(name="index")
@click.option("--run", "run_dir", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "--faiss", "faiss_file", type=click.Path(path_type=Path), help="Convert this index file of faiss."
)
@click.option(
    "--import",
    "original_dir",
    type=click.Path(path_type=Path),
    help="Import this folder of index files of the original NANN.",
)
@click.option(
    "--metric",
    type=click.Choice(["l2", "ip"]),
    default="l2",
    show_default=True,
    help="l2 links items with near embeddings. ip is for a scorer that is an inner product: half of the "
    "links lead to items with a large inner product.",
)
@click.option("--m", default=32, show_default=True, help="Neighbours of a node at each level above 0.")
@click.option(
    "--ef-construction", default=100, show_default=True, help="Candidates considered when a node is linked."
)
@click.option(
    "--start-level",
    default="auto",
    show_default=True,
    callback=_start_level,
    help="Level whose nodes are the entry points. auto chooses it, and 64 to 128 entry points.",
)
@click.option(
    "--hops",
    type=NUMBERS,
    help="Hops of levels 0, 1, ... (level_topn has the opposite order); needs --start-level.  "
    "[default: 3,1,...,1]",
)
@click.option("--seed", default=12345, show_default=True, help="Seed for drawing the levels of the nodes.")
@click.option(
    "--threads", type=int, help="Threads of faiss; 1 makes a build repeatable.  [default: all processors]"
)
@json_option
@click.pass_context
def command(
    context: click.Context,
    run_dir: Path,
    faiss_file: Path | None,
    original_dir: Path | None,
    metric: str,
    m: int,
    ef_construction: int,
    start_level: int | None,
    hops: tuple[int, ...] | None,
    seed: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Build an HNSW index over RUN/embeddings and write it to RUN/index, or convert an existing one."""
    import nann.export as nann_export
    from nann.export.index.entry_points import reachable

    if faiss_file is not None and original_dir is not None:
        raise click.UsageError("--faiss and --import exclude each other.")
    with progress(as_json) as on_progress:
        if faiss_file is not None:
            _refuse_options(context, "--faiss", _BUILD_OPTIONS)
            graph = nann_export.index_from_faiss(
                run_dir,
                faiss_file,
                start_level=start_level,
                hops_per_level=hops,
                on_progress=on_progress,
            )
        elif original_dir is not None:
            _refuse_options(context, "--import", (*_BUILD_OPTIONS, "start_level"))
            graph = nann_export.index_from_original(
                run_dir,
                original_dir,
                hops_per_level=hops,
                on_progress=on_progress,
            )
        else:
            graph = nann_export.build_index(
                run_dir,
                metric=metric,
                m=m,
                ef_construction=ef_construction,
                start_level=start_level,
                hops_per_level=hops,
                seed=seed,
                threads=threads,
                on_progress=on_progress,
            )
    imported = faiss_file or original_dir
    result = _summary(run_dir, graph)
    result["unreachable"] = int((~reachable(graph)).sum())
    # The seed of an imported graph is not known.
    result["linked_anew"] = imported is not None and graph.meta.seed is not None
    emit(as_json, result, lambda: _render(result))


def _refuse_options(context: click.Context, switch: str, names: Sequence[str]) -> None:
    """Raise UsageError for an option that would have no effect."""
    for name in names:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} has no effect with {switch}.")


def _summary(run_dir: Path, graph: GraphIndex) -> dict[str, Any]:
    return {
        "index": str(run_dir / "index"),
        "num_items": graph.meta.num_items,
        "dim": graph.meta.dim,
        "metric": graph.meta.metric,
        "m": graph.meta.m,
        "ef_construction": graph.meta.ef_construction,
        "start_level": graph.meta.start_level,
        "hops_per_level": list(graph.meta.hops_per_level),
        "enter_points": int(graph.enter_points.size),
        "edges_per_level": [int(level.values.size) for level in graph.levels],
        "level_topn_length": graph.level_topn_length,
        "copies": graph.meta.num_copies,
    }


def _next_command(run_dir: Path) -> str:
    """Only a run that names its data set can be evaluated."""
    try:
        return "check" if read_run(run_dir).data is None else "evaluate"
    except InvalidFileError:
        return "check"


def _render(result: dict[str, Any]) -> None:
    edges = ", ".join(f"{count:,}" for count in result["edges_per_level"])
    print_text(
        f"{result['index']}: {result['num_items']:,} items, {result['enter_points']:,} entry points, "
        f"edges {edges} at levels 0..{result['start_level'] - 1}. A request's level_topn has "
        f"{result['level_topn_length']} values."
    )
    if result["copies"]:
        anew = " They cut the imported graph, so its links were built anew." if result["linked_anew"] else ""
        print_text(
            f"{result['copies']:,} items have the vector of another item, and hang on it as duplicates.{anew}"
            f" Often the model has not seen them."
        )
    if result["enter_points"] < FEW_ENTRY_POINTS < result["num_items"]:
        print_text(
            "Walks from so few entry points can miss parts of the corpus: --start-level auto has more."
        )
    if result["unreachable"]:
        print_text(
            f"No walk can reach {result['unreachable']:,} items, because no link leads to them. A graph that "
            f"`nann index` builds with --start-level auto has links to all."
        )
    run_dir = Path(result["index"]).parent
    print_text(
        f"Next: {shell_command('nann', _next_command(run_dir), '--run', run_dir)}\n"
        f"  or: {shell_command('nann', 'export', '--run', run_dir, '--out', 'MODELS/nann/1')}"
    )
