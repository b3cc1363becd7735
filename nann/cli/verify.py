"""`nann verify`: checks an exported model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nann.cli._console import emit, import_tensorflow, json_option, print_text, progress


@click.command(name="verify")
@click.option(
    "--model",
    "model_dir",
    required=True,
    type=click.Path(path_type=Path),
    help="Version folder of an export, such as MODELS/nann/1.",
)
@click.option(
    "--run", "run_dir", type=click.Path(path_type=Path), help="Compare the answers with this run's own model."
)
@json_option
def command(model_dir: Path, run_dir: Path | None, as_json: bool) -> None:
    """Check an export: the checksum of every file, that it loads, and its answers."""
    import_tensorflow()
    import nann.export as nann_export

    with progress(as_json) as on_progress:
        result = nann_export.verify_model(model_dir, run_dir=run_dir, on_progress=on_progress)
    emit(as_json, result, lambda: _render(result))


def _render(result: dict[str, Any]) -> None:
    verified = result["verified"]
    print_text(
        f"{result['model']}: {result['files']} files are as they were written; signatures "
        f"{', '.join(verified['signatures'])} answer as the reference search does."
    )
