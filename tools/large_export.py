#!/usr/bin/env python3
"""Export and load a large corpus, and print what it took as JSON.

    .venv/bin/python tools/large_export.py --items 10000000 --folder build/large

Export and load run in processes of their own, whose anonymous memory (RssAnon: what is not a mapped file) is
sampled. Needs some 9 kB of disk an item under --folder. `nann bench table --only load` measures it in rounds.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click

from nann.bench.table.large_model import export_large, load_large, watched_in_new_process, write_large_run


@click.command()
@click.option("--items", default=10_000_000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True)
def main(items: int, folder: Path) -> None:
    """Write, export and load a corpus of random items."""
    shutil.rmtree(folder, ignore_errors=True)
    write_large_run(folder / "run", items)
    model_dir = folder / "models/large/1"
    exported, export_peak = watched_in_new_process(export_large, folder / "run", model_dir, items)
    shutil.rmtree(folder / "run")
    loaded, _ = watched_in_new_process(load_large, model_dir)
    largest = max(path.stat().st_size for path in (model_dir / "assets").iterdir())
    report = {"items": items, **exported, "export_peak_anon_bytes": export_peak, **loaded}
    print(json.dumps({**report, "largest_array_bytes": largest}, indent=2))


if __name__ == "__main__":
    main()
