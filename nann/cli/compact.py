"""`nann compact`: makes a new version of an export and its segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nann.cli._console import emit, import_tensorflow, json_option, print_text, progress, shell_command


@click.command(name="compact")
@click.option(
    "--model",
    "model_dir",
    required=True,
    type=click.Path(path_type=Path),
    help="Version folder of the export, such as MODELS/nann/1.",
)
@click.option(
    "--out",
    "out_dir",
    type=click.Path(path_type=Path),
    help="Version folder to write.  [default: beside the export, the next number that is free]",
)
@json_option
def command(model_dir: Path, out_dir: Path | None, as_json: bool) -> None:
    """Make a new base of an export and its segments, with a new graph and an empty overlay (docs/live.md).

    Segments that are published meanwhile are carried over, before the new version appears. A publisher for
    the new version then goes on where they end.
    """
    import_tensorflow()
    from nann.live.compact import compact

    with progress(as_json) as on_progress:
        result = compact(model_dir, out_dir or _next_version(model_dir), on_progress=on_progress)
    emit(as_json, result, lambda: _render(result))


def _next_version(model_dir: Path) -> Path:
    siblings = model_dir.absolute().parent
    numbers = [int(path.name) for path in siblings.iterdir() if path.name.isdecimal()]
    return siblings / str(max(numbers, default=0) + 1)


def _render(result: dict[str, Any]) -> None:
    print_text(
        f"{result['model']}: {result['num_items']:,} items, with the segments up to {result['segment']}; "
        f"{result['carried']} newer ones were carried over. The answers are those of the reference search.\n"
        f"Next: {shell_command('nann', 'publish', '--model', result['model'], '--source', 'SOURCE')}"
    )
