"""`nann evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from nann.cli._console import console, emit, import_tensorflow, json_option, print_text, progress
from nann.cli._numbers import NUMBERS
from nann.cli._sweep import plot_sweep, recommendation, some_users, sweep_table

if TYPE_CHECKING:
    from nann.training import Evaluation, Sweep


@click.command()
@click.option("--run", "run_dir", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    help="Export of the run to measure, such as MODELS/nann/1.  [default: a temporary one, exported as `nann "
    "export` does without options]",
)
@click.option(
    "--walk",
    type=click.Choice(["auto", "fixed", "adaptive", "proxy", "all"]),
    help="Walk of the temporary export.  [default: auto]",
)
@click.option("--brute-force", is_flag=True, help="Also score all items for every user, and compare.")
@click.option("--k", default=50, show_default=True, help="Number of results per user.")
@click.option(
    "--level-topn", type=NUMBERS, help="Beams of the walk; the last becomes k.  [default: the export's]"
)
@click.option("--users", default=1000, show_default=True, help="Size of the random sample of users; 0: all.")
@click.option("--seed", default=0, show_default=True, help="Seed of the sample and of the bootstrap.")
@click.option(
    "--sweep",
    is_flag=True,
    help="Measure agreement with brute force, items scored and milliseconds for several walks and beams: of "
    "--model, or of a temporary export for each walk; recommend the fastest that reaches --target. Writes "
    "RUN/sweep.json and a plot.",
)
@click.option("--target", type=float, help="Agreement that the sweep's choice must reach.  [default: 0.98]")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="PNG file of the sweep.  [default: RUN/sweep.png]",
)
@json_option
def command(
    run_dir: Path,
    model_dir: Path | None,
    walk: str | None,
    brute_force: bool,
    k: int,
    level_topn: tuple[int, ...] | None,
    users: int,
    seed: int,
    sweep: bool,
    target: float | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure the answers of RUN's export against popularity, and against brute force by the same scorer.

    Each user's last event is held out. The export runs as in a server, with its executor, precision and
    walk; the user's earlier items are in exclude_ids. Writes RUN/evaluation.json.
    """
    if walk is not None and model_dir is not None:
        raise click.UsageError("--walk is of a temporary export: leave out --model.")
    for name, value in (("--plot", plot), ("--target", target)):
        if value is not None and not sweep:
            raise click.UsageError(f"{name} needs --sweep.")
    import_tensorflow()
    from nann.export import TARGET_AGREEMENT
    from nann.training import EvaluateOptions, evaluate
    from nann.training import sweep as sweep_walks

    options = EvaluateOptions(
        model_dir=model_dir,
        walk=walk or "auto",  # type: ignore[arg-type]  # click has checked the choices.
        k=k,
        level_topn=level_topn,
        brute_force=brute_force,
        max_users=users,
        seed=seed,
    )
    if sweep:
        with progress(as_json) as on_progress:
            wanted = TARGET_AGREEMENT if target is None else target
            found = sweep_walks(run_dir, options, target=wanted, on_progress=on_progress)
        plot_sweep(found, plot or run_dir / "sweep.png")
        emit(as_json, found.to_json(), lambda: _render_sweep(found))
        return
    with progress(as_json) as on_progress:
        result = evaluate(run_dir, options, on_progress=on_progress)
    emit(as_json, result.to_json(), lambda: console.print(_table(result)))


def _render_sweep(found: Sweep) -> None:
    console.print(sweep_table(found))
    print_text(recommendation(found))


def _table(result: Evaluation) -> Table:
    table = Table(title=f"{result.users:,} users, {result.items:,} items, k = {result.k}")
    if result.users_skipped:
        table.caption = f"{result.users_skipped:,} users skipped: their held-out item also occurs earlier"
    table.add_column("figure")
    table.add_column("value", justify="right")
    low, high = result.recall_interval
    table.add_row(f"recall@{result.k} of the walk", f"{result.recall_walk:.4f} ({low:.4f} to {high:.4f})")
    if result.recall_brute_force is not None:
        table.add_row(f"recall@{result.k} of brute force", f"{result.recall_brute_force:.4f}")
    table.add_row(f"recall@{result.k} of popularity", f"{result.recall_popularity:.4f}")
    for name, value in (("the walk", result.ndcg_walk), ("brute force", result.ndcg_brute_force)):
        if value is not None:
            table.add_row(f"NDCG@{result.k} of {name}", f"{value:.4f}")
    if result.ratio is not None:
        ends = ("-" if end is None else f"{end:.2f}" for end in (result.ratio_low, result.ratio_high))
        table.add_row("walk / popularity (95 % interval)", f"{result.ratio:.2f} ({' to '.join(ends)})")
    if result.agreement is not None:
        table.add_row(
            f"agreement@{result.k} with brute force (95 % interval)",
            f"{result.agreement:.4f} ({result.agreement_low:.4f} to {result.agreement_high:.4f})",
        )
    if result.worst_users is not None:
        table.add_row(
            f"  of the worst 5 % of users: {some_users(result.worst_users)}",
            f"{result.agreement_worst_5_percent:.4f}",
        )
    table.add_row(
        "items scored, mean", f"{result.items_scored_mean:,.0f} ({100 * result.items_scored_share:.1f} %)"
    )
    table.add_row("beams (level_topn)", ", ".join(map(str, result.level_topn)))
    table.add_row("export", result.model or "temporary")
    table.add_row("executor, precision, walk", f"{result.executor}, {result.precision}, {result.walk}")
    return table
