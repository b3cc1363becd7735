#!/usr/bin/env python3
"""What `nann export` measured of the walks of some exports, as the tables of docs/quality.md.

    .venv/bin/python tools/walk_quality.py MODELS/nann/1 OTHER/nann/1

One row per walk that the export considered, the one that it chose in bold: agreement with scoring every item
of users that no walk was chosen by, for each k the mean, that of the worst 5 % of users and that of the least
user; items scored per request, their ratio to those of the adaptive walk that scores the fewest, and
milliseconds of one request.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from nann.export.manifest import read_manifest


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path, exists=True), required=True)
def main(models: tuple[Path, ...]) -> None:
    """Print the table as Markdown."""
    calibrations = {model: read_manifest(model)["scorer"]["calibration"] for model in models}
    missing = [str(model) for model, found in calibrations.items() if found is None]
    if missing:
        raise click.ClickException(
            f"{missing[0]}: expected an export that chose its beams; export it without --level-topn."
        )
    ks = sorted({k for found in calibrations.values() for k in found["by_k"]}, key=int)
    columns = ["items", "target", "walk", *(f"k = {k}" for k in ks), "items scored", "of adaptive", "ms"]
    click.echo(f"| {' | '.join(columns)} |")
    click.echo("|" + "---|" * len(columns))
    for calibration in calibrations.values():
        for row in rows(calibration, ks):
            click.echo(f"| {' | '.join(row)} |")


def rows(calibration: dict[str, Any], ks: list[str]) -> Iterator[list[str]]:
    """The cells of each walk of one export."""
    considered = calibration["considered"]
    items = considered["all"]["items_scored"]
    adaptive = [each["items_scored"] for each in considered.values() if each["walk"] == "adaptive"]
    for name, found in considered.items():
        is_chosen = all(found[key] == calibration[key] for key in ("walk", "level_topn", "items_scored"))
        yield [
            f"{items:,.0f}",
            f"{calibration['target']:g}",
            (f"**{name}**" if is_chosen else name) + ("" if found["reached"] else ", short of the target"),
            *(of_k(found["by_k"].get(k)) for k in ks),
            f"{found['items_scored']:,.0f}",
            f"{found['items_scored'] / min(adaptive):.2f}" if adaptive else "",
            f"{found['milliseconds']:.2f}",
        ]


def of_k(found: dict[str, float] | None) -> str:
    """Mean, worst 5 % and least user; exports of older versions lack the last."""
    if found is None:
        return ""
    figures = [found["agreement"], found["worst_5_percent"], found.get("least")]
    return ", ".join(f"{figure:.3f}" for figure in figures if figure is not None)


if __name__ == "__main__":
    main()
