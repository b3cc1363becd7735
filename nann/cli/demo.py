"""`nann demo`: every step from data to served answers."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from nann.cli._console import (
    console,
    emit,
    import_tensorflow,
    json_option,
    print_text,
    progress,
    shell_command,
)

if TYPE_CHECKING:
    from nann.cli._demo import DemoResult, ShownUser


@click.command()
@click.option(
    "--run",
    "run_dir",
    type=click.Path(path_type=Path),
    default=Path("build/demo"),
    show_default=True,
    help="Folder for the data, the model and the export.",
)
@json_option
def command(run_dir: Path, as_json: bool) -> None:
    """Run every step on MovieLens-100K: data, train, embed, index, export, verify, evaluate, serve, query.

    A demo that was stopped continues when it is run again.
    """
    import_tensorflow()
    from nann.cli._demo import run_demo

    with progress(as_json) as on_progress:
        result = run_demo(run_dir, on_progress)

    def render() -> None:
        for user in result.users:
            console.print(_user_table(result, user))
        console.print(_figures(result))
        print_text(_next_steps(result))

    emit(as_json, result.to_json(), render)


def _user_table(result: DemoResult, user: ShownUser) -> Table:
    table = Table(title=f"User {user.user_id}", title_justify="left")
    table.add_column("last watched")
    table.add_column("retrieved, best first")
    for watched, found in zip(user.item_ids[-5:].tolist(), user.retrieved[:5].tolist(), strict=True):
        table.add_row(result.titles[watched], result.titles[found])
    places = (user.retrieved == user.next_item).nonzero()[0]
    place = f"number {places[0] + 1} of {len(user.retrieved)}" if places.size else "not among them"
    table.caption = f"watched next: {result.titles[user.next_item]} ({place})"
    table.caption_justify = "left"
    return table


def _figures(result: DemoResult) -> Table:
    found = result.evaluation
    table = Table(title=f"{found.users} users, {found.items:,} items, k = {found.k}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_row(f"recall@{found.k} of the next item, HNSW walk", f"{found.recall_walk:.3f}")
    table.add_row("  brute force, same model, all items", f"{found.recall_brute_force:.3f}")
    table.add_row("  popularity", f"{found.recall_popularity:.3f}")
    table.add_row(
        "  walk / popularity (95 % interval)",
        f"{found.ratio:.2f} ({found.ratio_low:.2f} to {found.ratio_high:.2f})",
    )
    table.add_row(f"agreement of the two top {found.k}", f"{found.agreement:.1%}")
    table.add_row(
        "items scored per request",
        f"{found.items_scored_mean:,.0f} ({found.items_scored_share:.0%} of the corpus)",
    )
    table.add_row("p50 in process", f"{result.p50_ms_in_process:.1f} ms")
    table.add_row("p50 over gRPC", f"{result.p50_ms_grpc:.1f} ms")
    return table


def _next_steps(result: DemoResult) -> str:
    user = result.users[0]
    items = ",".join(map(str, user.item_ids[-5:].tolist()))
    categories = ",".join(map(str, user.cate_ids[-5:].tolist()))
    beams = ",".join(map(str, result.evaluation.level_topn))
    nann = os.path.relpath(Path(sys.executable).parent / "nann")
    base_path = result.model_dir.parent
    query = [nann, "query", "--target", "localhost:8500", "--model", "nann", "--level-topn", beams]
    return (
        f"\nServe it:\n"
        f"  {shell_command(nann, 'serve', '--model_name', 'nann', '--model_base_path', base_path)}\n"
        f"Then, in a second terminal, ask by user {user.user_id}'s last five films (the table above is by\n"
        f"all of them, and leaves out those that were watched):\n"
        f"  {shell_command(*query)} \\\n"
        f"    {shell_command('--item-ids', items, '--cate-ids', categories)}"
    )
