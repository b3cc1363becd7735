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
    help="recbole:ml-100k; FILE.csv (Taobao UserBehavior: user,item,category,behaviour,timestamp); FILE.txt "
    "or sequences:FILE (lines `user item item ...`, as SASRec and S3-Rec read); or "
    "synthetic:items=N,users=N,events=N,seed=N.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--split",
    type=click.Choice(["leave-one-out", "users"]),
    default="leave-one-out",
    show_default=True,
    help="leave-one-out: each user's last event is the test, the one before the validation. users: whole "
    "users are held out, as in the original NANN.",
)
@click.option(
    "--train-min-length",
    type=int,
    default=10,
    show_default=True,
    help="Of --split users: events before a training user's first target.",
)
@click.option(
    "--test-min-length",
    type=int,
    default=7,
    show_default=True,
    help="Of --split users: users with no more events are left out.",
)
@click.option(
    "--validation-users", type=int, default=10_000, show_default=True, help="Of --split users: held out."
)
@click.option("--test-users", type=int, default=10_000, show_default=True, help="Of --split users: held out.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice of held-out users.")
@click.option("--overwrite", is_flag=True, help="Replace an older data set in the folder.")
@json_option
def prepare(
    source: str,
    out: Path,
    split: str,
    train_min_length: int,
    test_min_length: int,
    validation_users: int,
    test_users: int,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Read SOURCE and write the data set that `nann train` reads (docs/data.md)."""
    from nann.training import SplitOptions, prepare_data

    options = SplitOptions(
        kind="users" if split == "users" else "leave-one-out",
        train_min_length=train_min_length,
        test_min_length=test_min_length,
        validation_users=validation_users,
        test_users=test_users,
        seed=seed,
    )
    with spinner("reading", as_json):
        dataset = prepare_data(source, out, split=options, overwrite=overwrite)
    summary = {**dataset.summary(), "data": str(out)}

    def render() -> None:
        print_text(
            f"{summary['users']:,} users, {summary['items']:,} items in {summary['categories']:,} "
            f"categories, {summary['events']:,} events written to {out}\n"
            f"Next: {shell_command('nann', 'train', '--data', out, '--out', 'RUN')}"
        )

    emit(as_json, summary, render)
