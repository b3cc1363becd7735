"""`nann embed`: computes the item embeddings of a run."""

from __future__ import annotations

from pathlib import Path

import click

from nann.cli._console import emit, import_tensorflow, json_option, print_text, progress, shell_command


@click.command()
@click.option("--run", "run_dir", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "--dtype",
    default="float32",
    type=click.Choice(["float32", "float16"]),
    show_default=True,
    help="Type of the stored embeddings.",
)
@json_option
def command(run_dir: Path, dtype: str, as_json: bool) -> None:
    """Compute the embedding of every item by the run's model, and write RUN/embeddings."""
    import_tensorflow()
    from nann.training import embed

    with progress(as_json) as on_progress:
        result = embed(run_dir, dtype=dtype, on_progress=on_progress)

    def render() -> None:
        print_text(
            f"{result['items']:,} embeddings of {result['dim']} {dtype} written to {result['embeddings']}\n"
            f"Next: {shell_command('nann', 'index', '--run', run_dir)}"
        )

    emit(as_json, result, render)
