"""`nann data prepare`: prepares a data set for training."""

from __future__ import annotations

from pathlib import Path

import click

from nann.cli._console import emit, json_option, print_text, progress, shell_command


@click.group()
def command() -> None:
    """Prepare a data set for training."""


@command.command()
@click.option(
    "--source",
    required=True,
    multiple=True,
    help="What to read; may be given several times for several files. FILE.csv or FILE.csv.gz: lines as "
    "Taobao's UserBehavior, user,item,category,behaviour,timestamp; FILE.parquet with columns of these "
    "names; FILE.txt or sequences:FILE: lines `user item item ...`, as SASRec and S3-Rec read; a folder or a "
    "pattern of such files; recbole:ml-100k; synthetic:items=N,users=N,events=N,seed=N; or "
    "synthetic-sparse: of the same form, short histories of any number of users.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option(
    "--schema",
    type=click.Path(path_type=Path),
    help="JSON file that describes the columns, for more or others than UserBehavior's five (docs/data.md).",
)
@click.option("--strict", is_flag=True, help="Fail at the first malformed row, and name its file and line.")
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
@click.option(
    "--max-length", type=int, default=50, show_default=True, help="Events of a history, for the trainer."
)
@click.option(
    "--tfrecords",
    type=int,
    default=0,
    help="Also write the examples as N shards of TFRecords, as the original NANN has them. [default: none]",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Of the choice of held-out users and the order of TFRecords.",
)
@click.option("--overwrite", is_flag=True, help="Replace an older data set in the folder.")
@json_option
def prepare(
    source: tuple[str, ...],
    out: Path,
    schema: Path | None,
    strict: bool,
    split: str,
    train_min_length: int,
    test_min_length: int,
    validation_users: int,
    test_users: int,
    max_length: int,
    tfrecords: int,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Read a source and write the data set that `nann train` reads (docs/data.md).

    Files of any size are read in bounded memory. A preparation that was stopped continues when it is run
    again. Malformed rows are left out, counted and reported, unless --strict.
    """
    from nann.training import PrepareOptions, SplitOptions, prepare_data

    division = SplitOptions(
        kind="users" if split == "users" else "leave-one-out",
        train_min_length=train_min_length,
        test_min_length=test_min_length,
        validation_users=validation_users,
        test_users=test_users,
        seed=seed,
    )
    options = PrepareOptions(
        split=division, max_length=max_length, schema=schema, strict=strict, tfrecords=tfrecords
    )
    with progress(as_json) as on_progress:
        dataset = prepare_data(source, out, options, overwrite=overwrite, on_progress=on_progress)
    bad_rows = dataset.meta.get("bad_rows", [])
    summary = {**dataset.summary(), "bad_rows": bad_rows, "data": str(out)}

    def render() -> None:
        for bad in bad_rows:
            print_text(
                f"left out {bad['rows']:,} of {dataset.meta['rows']:,} rows: {bad['kind']}, first in "
                f"{bad['first_file']}, line {bad['first_line']}"
            )
        print_text(
            f"{summary['users']:,} users, {summary['items']:,} items in {summary['categories']:,} "
            f"categories, {summary['events']:,} events written to {out}\n"
            f"Next: {shell_command('nann', 'train', '--data', out, '--out', 'RUN')}"
        )

    emit(as_json, summary, render)
