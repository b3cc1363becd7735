"""`nann train`: trains a model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from nann.cli._console import emit, import_tensorflow, json_option, print_text, progress, shell_command
from nann.cli._numbers import NUMBERS
from nann.cli._options_file import config_option

if TYPE_CHECKING:
    from nann.training import LostWorkerError, Strategy

_BY_DATA = "[default: depends on the data]"
# Options of the model, not of the training.
_SIZES = ("sequence_length", "width", "blocks", "heads", "attention_dim", "mlp", "parts")


def _size(text: str) -> tuple[str, Any]:
    """NAME=VALUE -> the name, and the value as JSON has it, or else as text."""
    import json

    name, separator, value = text.partition("=")
    if not separator:
        raise click.BadParameter(f"expected NAME=VALUE, found {text!r}.", param_hint="--set")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _start_again(error: LostWorkerError) -> NoReturn:
    """Become a new process of the same command, which waits for the worker that is gone to come back.

    TensorFlow cannot join a cluster twice in one process.
    """
    click.echo(f"{error} This worker starts again, and waits for the others.", err=True)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@click.command()
@config_option
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Folder that `nann data prepare` wrote."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Run folder to write or continue."
)
@click.option(
    "--model",
    default="attention",
    show_default=True,
    help="attention, two-tower, mixture, or MODULE:CLASS or MODULE:FUNCTION of your own (docs/training.md).",
)
@click.option("--sequence-length", type=int, help="Model: events that it sees of a user.")
@click.option("--width", type=int, help="Model: width of item embeddings and of the user's states.")
@click.option("--blocks", type=int, help="Model: transformer blocks over the events.")
@click.option("--heads", type=int, help="Model: heads of their attention.")
@click.option("--attention-dim", type=int, help="attention: width of keys, queries and values of the scorer.")
@click.option("--mlp", type=NUMBERS, help="attention: widths of the scorer's hidden layers, with commas.")
@click.option("--parts", type=int, help="mixture: parts of each side.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any other option of the model.")
@click.option("--epochs", type=int, help=f"Most passes over the data. {_BY_DATA}")
@click.option("--batch-size", type=int, help="Examples per step.  [default: 512]")
@click.option("--negatives", type=int, help="Sampled items per step.  [default: 2048]")
@click.option(
    "--loss",
    type=click.Choice(["softmax", "bce", "in_batch"]),
    help="Sampled softmax or binary cross-entropy, both with log-expected-count correction; or softmax over "
    "the batch's own items.  [default: softmax]",
)
@click.option("--learning-rate", type=float, help="Highest learning rate.  [default: 0.002]")
@click.option(
    "--schedule",
    type=click.Choice(["constant", "linear", "cosine"]),
    help="How the learning rate falls.  [default: cosine]",
)
@click.option("--weight-decay", type=float, help="Decoupled weight decay.  [default: 0.0001]")
@click.option(
    "--clip-norm", type=float, help="Largest norm of a step's gradients; 0: no limit.  [default: 5]"
)
@click.option("--dropout", type=float, help=f"Share of values that is dropped. {_BY_DATA}")
@click.option(
    "--item-noise",
    type=float,
    help="Noise on item embeddings, as a share of their standard deviation.  [default: 0]",
)
@click.option(
    "--popularity-power", type=float, help="Negatives are drawn by popularity to this power.  [default: 0]"
)
@click.option(
    "--adv-eps",
    type=float,
    help="Adversarial step on item embeddings, as a share of their size.  [default: 0]",
)
@click.option("--adv-weight", type=float, help="Weight of the adversarial term.  [default: 1]")
@click.option(
    "--patience",
    type=int,
    help="Epochs without a better validation recall; 0: train all epochs.  [default: 10]",
)
@click.option("--keep", type=int, help="Last checkpoints to keep, besides the best.  [default: 2]")
@click.option("--seed", type=int, help="Seed of weights, order, negatives, dropout and noise.  [default: 0]")
@click.option("--checkpoint-steps", type=int, help="Steps between checkpoints.  [default: 1000]")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    help="bfloat16: mixed precision.  [default: float32]",
)
@click.option("--deterministic/--no-deterministic", default=None, help="Operations with one order of sums.")
@click.option(
    "--strategy",
    type=click.Choice(["one", "mirrored", "multi_worker"]),
    default="one",
    show_default=True,
    help="mirrored: all GPUs of this machine. multi_worker: the processes that the environment variable "
    "TF_CONFIG names, each started with this command. In a step each takes another batch.",
)
@json_option
def command(
    data: Path,
    out: Path,
    model: str,
    settings: tuple[str, ...],
    strategy: Strategy,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a model; a training that was stopped continues when it is run again.

    The epoch with the best validation recall is kept. `tensorboard --logdir RUN/logs` shows the curves.
    """
    import_tensorflow()
    from nann.training import LostWorkerError, TrainOptions, train

    given = {name: value for name, value in options.items() if value is not None}
    sizes = {name: given.pop(name) for name in _SIZES if name in given}
    sizes |= dict(_size(text) for text in settings)
    try:
        with progress(as_json) as on_progress:
            run = train(
                *(data, out, TrainOptions(**given)),
                model=model,
                sizes=sizes,
                strategy=strategy,
                on_progress=on_progress,
            )
    except LostWorkerError as error:
        _start_again(error)
    result = {"run": str(out), "training": dict(run.training), "history": [dict(e) for e in run.history]}

    def render() -> None:
        last = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in run.history[-1].items())
        print_text(f"trained {out}: {last}\nNext: {shell_command('nann', 'embed', '--run', out)}")

    emit(as_json, result, render)
