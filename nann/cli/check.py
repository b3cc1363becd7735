"""`nann check`: what an export would do with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nann.cli._console import (
    emit,
    encoder_text,
    import_tensorflow,
    json_option,
    left_out_text,
    print_text,
    raw_integers_text,
    shell_command,
    spinner,
)


@click.command(name="check")
@click.option("--run", "run_dir", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@json_option
@click.pass_context
def command(context: click.Context, run_dir: Path, as_json: bool) -> None:
    """Say in seconds what an export would do with RUN's model, without writing anything.

    RUN needs its embeddings and vocabularies, and no index. The exit status is 1 for a model that is refused.
    """
    with spinner("importing TensorFlow", as_json):
        import_tensorflow()
    import nann.export as nann_export

    with spinner("checking the model", as_json):
        result = nann_export.check_run(run_dir)
    emit(as_json, result, lambda: _render(result))
    context.exit(0 if result["accepted"] else 1)


def _render(result: dict[str, Any]) -> None:
    if not result["accepted"]:
        print_text(f"Refused: {result['reason']}")
        return
    item = result["item"]
    lines = [
        f"Accepted: {result['num_items']:,} items of {item['dim']} values.",
        *_user_lines(result["user"], result["warnings"]),
    ]
    columns = ", ".join(f"{each['name']} [{each['width']}]" for each in item["columns"])
    mebibytes = item["table_bytes"] / 2**20
    lines.append(f"Item part, once at export: {columns or 'nothing'}, {mebibytes:,.1f} MiB")
    lines.append(_tile_line(result))
    if result["executor"] == "native":
        lines.append("The native executor runs the scorer.")
    else:
        lines.append(f"TensorFlow runs the scorer: {result['executor_reason']}. {result['advice']}")
    if result["encoder"] is not None:
        lines.append(f"Users of retrieve_by_ids are {encoder_text(result['encoder'])}.")
    lines += left_out_text(result).splitlines()
    lines.append(f"About {result['microseconds_per_item']:.2f} microseconds an item on one core.")
    run_dir = result["run"]
    export = shell_command("nann", "export", "--run", run_dir, "--out", "MODELS/nann/1")
    has_index = (Path(run_dir) / "index").is_dir()
    index = "" if has_index else f"{shell_command('nann', 'index', '--run', run_dir)}, then "
    lines.append(f"Next: {index}{export}")
    print_text("\n".join(lines))


def _user_lines(user: dict[str, Any], warnings: list[str]) -> list[str]:
    features = ", ".join(f"{name} {spec}" for name, spec in user["features"].items())
    state = ", ".join(f"{name} {spec}" for name, spec in user["state"].items())
    lines = [f"User part, once per request: {features or 'no features'} -> {state}"]
    text = raw_integers_text(user["raw_integers"], user["raw_rows"], warnings)
    lines += [f"  {line}" for line in text.splitlines()]
    for name, shape in user["mapped_tables"].items():
        lines.append(f"  table {name} {shape} is a mapped file")
    for tensor in user["tensors"]:
        lines.append(f"  of the scorer: {tensor['name']} {tensor['shape']}")
    return [*lines, f"  {user['flops']:,} FLOPs of the scorer"]


def _tile_line(result: dict[str, Any]) -> str:
    tile = result["tile"]
    flops, gathered = tile["flops_per_item"], tile["bytes_per_item"]
    if not flops:
        return f"Tile part: the whole scorer, for {result['split_reason']}"
    return (
        f"Tile part, for each tile of {tile['rows']} items: {flops['after']:,} FLOPs and "
        f"{gathered['after']:,} bytes an item, {flops['before']:,} before the split"
    )
