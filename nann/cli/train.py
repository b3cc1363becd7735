"""`nann train`: trains the reference model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nann.cli._console import emit, import_tensorflow, json_option, print_text, progress, shell_command


@click.command()
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Folder that `nann data prepare` wrote."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Run folder to write or continue."
)
@click.option("--epochs", type=int, help="Passes over the data. [default: depends on the size of the data]")
@click.option("--batch-size", type=int, help="Examples per step. [default: depends on the size of the data]")
@click.option(
    "--negatives", type=int, help="Sampled items per step. [default: depends on the size of the data]"
)
@click.option("--learning-rate", type=float, help="Highest learning rate.")
@click.option("--weight-decay", type=float, help="Decoupled weight decay.")
@click.option("--dropout", type=float, help="Share of the behaviour sequence's values that is dropped.")
@click.option(
    "--item-noise", type=float, help="Noise on item embeddings, as a share of their standard deviation."
)
@click.option("--popularity-power", type=float, help="Negatives are drawn by popularity to this power.")
@click.option("--seed", type=int, help="Seed of weights, order, negatives, dropout and noise.")
@click.option("--checkpoint-steps", type=int, help="Steps between checkpoints.")
@json_option
def command(data: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Train the reference model; a training that was stopped continues when it is run again."""
    import_tensorflow()
    from nann.training import TrainOptions, train

    given = {name: value for name, value in options.items() if value is not None}
    with progress(as_json) as on_progress:
        run = train(data, out, TrainOptions(**given), on_progress=on_progress)
    result = {"run": str(out), "training": dict(run.training), "history": [dict(e) for e in run.history]}

    def render() -> None:
        last = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in run.history[-1].items())
        print_text(f"trained {out}: {last}\nNext: {shell_command('nann', 'embed', '--run', out)}")

    emit(as_json, result, render)
