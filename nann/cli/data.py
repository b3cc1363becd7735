"""`nann data prepare`: prepares a data set for training."""

from __future__ import annotations

from pathlib import Path

import click

from nann.cli._console import emit, json_option, print_text, shell_command, spinner


@click.group()
def command() -> None:
    """Prepare a data set for training."""


@command.command()
@click.option(
    "--source",
    required=True,
    help="recbole:ml-100k, FILE.csv (Taobao UserBehavior: user,item,category,behaviour,timestamp), or "
    "synthetic:items=N,users=N,events=N,seed=N.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--overwrite", is_flag=True, help="Replace an older data set in the folder.")
@json_option
def prepare(source: str, out: Path, overwrite: bool, as_json: bool) -> None:
    """Read SOURCE and write the data set that `nann train` reads."""
    from nann.training import prepare_data

    with spinner("reading", as_json):
        summary = {**prepare_data(source, out, overwrite=overwrite).summary(), "data": str(out)}

    def render() -> None:
        print_text(
            f"{summary['users']:,} users, {summary['items']:,} items in {summary['categories']:,} "
            f"categories, {summary['events']:,} events written to {out}\n"
            f"Next: {shell_command('nann', 'train', '--data', out, '--out', 'RUN')}"
        )

    emit(as_json, summary, render)
