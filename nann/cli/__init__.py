"""The command line: `nann COMMAND`, one module a command, imported only when it runs."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any

import click

from nann.errors import NannError
from nann.version import __version__

_COMMANDS = {
    "bench": "Measure an export or a server under load, and compare with other libraries.",
    "check": "Say what an export would do with a model.",
    "compact": "Make a new base of an export and its segments.",
    "data": "Prepare a data set for training.",
    "demo": "Run all steps from data to served answers on MovieLens-100K.",
    "embed": "Compute the embedding of every item.",
    "evaluate": "Measure recall and NDCG of an export, of brute force and of popularity.",
    "export": "Write a SavedModel from a run: its model, embeddings and index.",
    "index": "Build, convert or import an HNSW index over item embeddings.",
    "items": "Show the items of an export and its segments.",
    "publish": "Turn item events into segments, which servers apply while they serve.",
    "query": "Ask a running server for the top items of a user.",
    "serve": "Serve a model with TensorFlow Serving's protocol.",
    "serve-docker": "Serve a model in a container.",
    "train": "Train a model.",
    "verify": "Check an exported model: checksums and answers.",
}

# Extra -> the modules that only it brings.
_OPTIONAL = {
    "tensorflow": {"faiss", "keras", "pandas", "tensorflow", "tensorflow_serving"},
    "bench": {"hdrh", "jinja2", "matplotlib", "psutil", "tomli"},
}


class _LazyGroup(click.Group):
    """Commands are modules of this package; none is imported before it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"nann.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NannError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            # A user's own model module that is missing is reported by who looks for it.
            missing = (error.name or "").split(".")[0]
            extra = next((extra for extra, modules in _OPTIONAL.items() if missing in modules), None)
            if extra is None:
                raise
            raise click.ClickException(
                f"{error.name} is not installed. What this command needs: pip install nann[{extra}]"
            ) from error
        except OSError as error:
            # A full disk, a read-only folder, a file where a folder is needed: not a bug of the program.
            # click handles a closed standard output.
            if error.errno == errno.EPIPE:
                raise
            raise click.ClickException(_what_the_system_said(error)) from error


def _what_the_system_said(error: OSError) -> str:
    # Of two names the second is the one that was to be written.
    path = error.filename if error.filename2 is None else error.filename2
    if path is None or error.strerror is None:
        return str(error)
    return f"{os.fspath(path)}: {error.strerror}. Correct the path or its permissions, or free disk space."


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nann")
def main() -> None:
    """NANN: retrieval in which a neural network walks an HNSW graph inside a SavedModel."""
    # TensorFlow tells of missing GPUs and of its start-up at length, errors included; what goes wrong reaches
    # the user, or the server's log, as an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def export_main() -> None:
    """`nann-export ...` is `nann export ...`."""
    main(args=["export", *sys.argv[1:]], prog_name="nann-export")
