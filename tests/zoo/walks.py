"""What the adaptive and the proxy walk find of the members of the zoo, as `nann export` measures it.

    ZOO_ITEMS=20000 PYTHONPATH=tests .venv/bin/python -m zoo.walks [--trained] build/zoo [NAME ...]

Each member is exported without options, for made-up users; with --trained those that can be are trained for a
minute before (zoo.trained), and exported for users like those of the training. A Markdown row has, for both
walks, the agreement with scoring every item of users that the walk was not tuned on (the least mean over
k = 10, 50, 200; of the worst 5 % of users), whether the export said that it falls short of the target, and
the items scored.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import keras

from nann.export import ExportOptions, build_index, export_model
from nann.export.manifest import read_manifest
from zoo import ZOO, write_run
from zoo.base import N
from zoo.trained import can_be_trained, train, write_requests

_WALKS = ("adaptive", "proxy")


def calibration_of(name: str, folder: Path, *, is_trained: bool) -> dict[str, Any]:
    """Export the member `name` in `folder`, which is deleted afterwards: its calibration."""
    keras.backend.clear_session()
    model = ZOO[name]()
    if is_trained:
        train(model)
    write_run(name, folder / "run", model)
    if is_trained:
        write_requests(model, folder / "run")
    build_index(folder / "run")
    export_model(folder / "run", folder / "models/1", ExportOptions())
    calibration: dict[str, Any] = read_manifest(folder / "models/1")["scorer"]["calibration"]
    shutil.rmtree(folder)
    return calibration


def row_of(name: str, calibration: dict[str, Any]) -> str:
    """The Markdown row: the figures of each walk, the cheaper one of the adaptive walks."""
    cells = [name]
    for walk in _WALKS:
        found = [each for each in calibration["considered"].values() if each["walk"] == walk]
        if not found:
            cells += ["not tried", ""]
            continue
        best = min(found, key=lambda each: (not each["reached"], each["items_scored"]))
        short = "" if best["reached"] else ", short of it"
        cells += [
            f"{best['agreement']:.3f}, {best['worst_5_percent']:.3f}{short}",
            f"{best['items_scored']:,.0f}",
        ]
    return f"| {' | '.join([*cells, calibration['walk']])} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--trained", action="store_true")
    options = parser.parse_args()
    columns = [f"{N:,} items", "adaptive", "items scored", "proxy", "items scored", "chosen"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name in options.names or ZOO:
        if options.trained and not can_be_trained(ZOO[name]()):
            continue
        found = calibration_of(name, options.folder / name, is_trained=options.trained)
        print(row_of(name, found), flush=True)


if __name__ == "__main__":
    main()
