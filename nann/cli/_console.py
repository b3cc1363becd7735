"""Shared by all commands: the `--json` switch, progress on standard error, and printing."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nann.progress import OnProgress

Function = TypeVar("Function", bound=Callable[..., Any])

# Of assertions and prints in one line.
_MOST_NAMED = 3

_stderr = Console(stderr=True)
# Paths and titles are printed as they are: square brackets are no markup, colons enclose no emoji.
console = Console(markup=False, emoji=False)


def shell_command(*words: object) -> str:
    """The command of these words as a user can copy it into a shell, whatever characters its paths have."""
    return shlex.join(str(word) for word in words)


def print_text(text: str) -> None:
    """Print lines without wrapping them, so that the commands and paths in them can be copied."""
    console.print(text, soft_wrap=True, highlight=False)


def encoder_text(encoder: Mapping[str, Any]) -> str:
    """Say who encodes users, given the `encoder` of an export or a check.

    >>> encoder_text({"executor": "native", "executor_reason": None})
    'encoded by the native executor'
    """
    reason = encoder["executor_reason"]
    if encoder["executor"] == "tensorflow":
        return f"encoded by TensorFlow: {reason}"
    part = "" if reason is None else f", after a part by TensorFlow: {reason}"
    return f"encoded by the native executor{part}"


def left_out_text(result: Mapping[str, Any]) -> str:
    """Lines on what `score` and `embed_user` do beside their results and an export leaves out, or nothing.

    result: of an export or a check.

    >>> print(left_out_text({"left_out": ["positive/Assert", "PrintV2"], "encoder": None}), end="")
    Left out of score: its assertions and prints, positive/Assert, PrintV2.
      nann export --executor tensorflow keeps them.
    """
    encoder = result["encoder"] or {}
    return "".join(
        f"Left out of {function}: its assertions and prints, {_some(names)}.\n"
        f"  nann export {option} tensorflow keeps them.\n"
        for function, names, option in (
            ("score", result["left_out"], "--executor"),
            ("embed_user", encoder.get("left_out"), "--encoder"),
        )
        if names
    )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def raw_integers_text(
    names: Sequence[str], rows: Mapping[str, Mapping[str, int]], warnings: Sequence[str]
) -> str:
    """A line on integer features without a vocabulary, or nothing: a file may have been forgotten.

    rows:     the tables that their values are rows of, with their numbers of rows.
    warnings: what is probably wrong; a line for each.
    """
    if not names:
        return ""

    def described(name: str) -> str:
        tables = ", ".join(f"row of {table}, {size:,} rows" for table, size in rows.get(name, {}).items())
        return f"{name} ({tables})" if tables else name

    line = (
        f"Integers that arrive in embed_user as they are sent, for RUN/vocabulary has no file of them: "
        f"{', '.join(map(described, names))}."
    )
    return "\n".join([line, *(f"Warning: {text}" for text in warnings), ""])


def json_option(function: Function) -> Function:
    """Add `--json` as the parameter `as_json`."""
    option = click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object on standard output, nothing else."
    )
    return option(function)


def import_tensorflow(*, without_keras: bool = False) -> None:
    """Import TensorFlow without its start-up messages, which ignore the log level; a failure shows them.

    `without_keras` leaves Keras out: TensorFlow imports it early, and Keras imports pandas and matplotlib.
    That is a third of the time and 80 MB, and a server of SavedModels needs none of it.

    Does nothing when TensorFlow is not installed: the code that needs it raises a clearer error.
    """
    if importlib.util.find_spec("tensorflow") is None:
        return
    with tempfile.TemporaryFile() as printed:
        stderr = os.dup(2)
        os.dup2(printed.fileno(), 2)
        if without_keras and "keras" not in sys.modules:
            # Python's mark for "cannot be imported", which TensorFlow takes for "not installed".
            sys.modules["keras"] = None  # type: ignore[assignment]
        try:
            importlib.import_module("tensorflow")
        except BaseException:
            printed.seek(0)
            os.write(stderr, printed.read())
            raise
        finally:
            if sys.modules.get("keras", ...) is None:
                del sys.modules["keras"]
            os.dup2(stderr, 2)
            os.close(stderr)


@contextmanager
def spinner(text: str, as_json: bool = False) -> Iterator[None]:
    """Show on standard error that a step of unknown length is running."""
    if as_json:
        yield
        return
    with _stderr.status(text):
        yield


@contextmanager
def progress(as_json: bool = False) -> Iterator[OnProgress]:
    """Yield a callback (stage, done, total) that draws one progress bar per stage on standard error."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=_stderr,
        disable=as_json,
    )
    tasks: dict[str, Any] = {}

    def on_progress(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    with bars:
        yield on_progress


def emit(as_json: bool, result: dict[str, Any], render: Callable[[], None]) -> None:
    """Print `result` as one JSON object, or call `render` to print it for a person."""
    if as_json:
        json.dump(result, sys.stdout)
        sys.stdout.write("\n")
    else:
        render()
