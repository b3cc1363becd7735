"""One corpus as S exports with disjoint items, each the model of a server of its own."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.export._savedmodel import export_model
from nann.export.index.build import build_index
from nann.export.items import Items, read_items, write_part_of_run
from nann.export.manifest import read_manifest
from nann.files import link_or_copy, staged_directory
from nann.ops.index_meta import INDEX_JSON, IndexMeta, default_level_topn, read_meta
from nann.progress import OnProgress
from nann.run import RetrievalModel, load_model

MAX_SHARDS = 10_000
ASSIGNMENT = "splitmix64(item_id) mod count"


def shard_of_items(item_ids: npt.ArrayLike, shards: int) -> npt.NDArray[np.int64]:
    """The shard of each item id: splitmix64(id) mod `shards`.

    It depends on nothing but the id, so an item stays in its shard from version to version. The hash is
    the published SplitMix64 (Steele, Lea, Flood 2014) of the id as 64 bits: six operations in any
    language, and ids with a pattern spread evenly. An item of shard s of S is in s or s + S of 2 S.
    """
    mixed: npt.NDArray[np.uint64] = np.asarray(item_ids, np.int64).astype(np.uint64)
    with np.errstate(over="ignore"):
        mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    shard: npt.NDArray[np.int64] = ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(shards)).astype(np.int64)
    return shard


def shard_dirs(out_dir: str | Path, shards: int) -> list[Path]:
    """The version folders of the shards of MODELS/nann/1: MODELS/nann-0-of-4/1, ... in order."""
    base, version = Path(out_dir).parent, Path(out_dir).name
    if base.name in ("", ".."):
        raise InvalidInputError(
            f"{out_dir}: expected a version folder below the folder of a model, such as MODELS/nann/1, found "
            f"no name of a model. Name both."
        )
    return [base.with_name(f"{base.name}-{shard}-of-{shards}") / version for shard in range(shards)]


def shard_level_topn(meta: IndexMeta, shards: int) -> list[int]:
    """The default beams of one of `shards` shards: the usual ones, divided so that all shards together do
    the work of one walk. k, the last, stays."""
    beams = default_level_topn(meta)
    beams[:-1] = -(-beams[:-1] // shards)
    return [int(beam) for beam in beams]


def export_shards(
    run_dir: str | Path,
    out_dir: str | Path,
    *,
    shards: int,
    model: RetrievalModel | None = None,
    level_topn: Sequence[int] | None = None,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Export the run `run_dir` as `shards` SavedModels whose items are disjoint and together all.

    out_dir:    names the set, such as MODELS/nann/1; the shards are MODELS/nann-0-of-4/1 and so on.
    level_topn: the beams recorded as default in each shard; None is `shard_level_topn`.
    threads:    of faiss; 1 makes the graphs repeatable, None is all processors.
    options:    further options of `export_model`, but not `overwrite`: so many folders cannot be replaced
                in one step.

    Each shard has an HNSW graph of its own, with the parameters, levels and hops of RUN/index, so that a
    request has as many beams as one for the whole corpus. Tables of the user side are the same files in
    all shards. All shards are written and verified before the first appears; the first shard appears
    last. Returns a summary. Raises what `export_model` raises.
    """
    run_dir, targets = Path(run_dir), shard_dirs(out_dir, shards)
    _check_options(targets, options)
    items = read_items(run_dir, on_progress=on_progress)
    meta = _read_parameters(run_dir)
    rows_of_shard = _split(items, shards)
    model = load_model(run_dir) if model is None else model
    beams = shard_level_topn(meta, shards) if level_topn is None else level_topn
    export_id = uuid.uuid4().hex
    summaries = []
    with contextlib.ExitStack() as stack:
        # Unwound from the last to the first: what publishes shard 0 runs when all others are in place.
        staged = [stack.enter_context(staged_directory(target, replace=False)) for target in targets]
        for shard, rows in enumerate(rows_of_shard):
            if on_progress is not None:
                on_progress("export shards", shard, shards)
            with tempfile.TemporaryDirectory(dir=staged[shard].parent, prefix=".run-") as part:
                write_part_of_run(Path(part), run_dir, items, rows)
                _build_graph(Path(part), meta, threads, on_progress)
                summary = export_model(
                    part,
                    staged[shard],
                    model=model,
                    level_topn=beams,
                    shard={
                        "index": shard,
                        "count": shards,
                        "assignment": ASSIGNMENT,
                        "num_items_of_all": items.num_items,
                        "export_id": export_id,
                    },
                    on_progress=on_progress,
                    **options,
                )
            summaries.append(summary)
            if shard > 0:
                _share_user_tables(staged[0], staged[shard])
    if on_progress is not None:
        on_progress("export shards", shards, shards)
    return _summary(targets, items, export_id, summaries)


def _check_options(targets: Sequence[Path], options: dict[str, Any]) -> None:
    if not 1 <= len(targets) <= MAX_SHARDS:
        raise InvalidInputError(
            f"shards: expected 1..{MAX_SHARDS}, found {len(targets)}. Choose one in this range."
        )
    if options.get("overwrite"):
        raise InvalidInputError(
            "overwrite: expected none for shards, which cannot all be replaced in one step. Export to the "
            "next version."
        )
    for target in targets:
        if target.exists() and any(target.iterdir()):
            raise InvalidInputError(
                f"{target}: expected no such folder, found one. Export to the next version, or delete "
                f"the folders of all shards."
            )


def _read_parameters(run_dir: Path) -> IndexMeta:
    """The parameters of RUN/index; its graph is not needed."""
    meta = read_meta(run_dir / "index")
    if meta.ef_construction == 0:
        raise InvalidFileError(
            f"{run_dir / 'index' / INDEX_JSON}: expected the ef_construction to build the shards' graphs "
            f"with, found 0, unknown, as in an imported index. Build the index with `nann index`."
        )
    return meta


def _split(items: Items, shards: int) -> list[npt.NDArray[np.int64]]:
    """The rows of each shard, in the order of the run."""
    shard_of = shard_of_items(items.ids, shards)
    counts = np.bincount(shard_of, minlength=shards)
    if counts.min() == 0:
        raise InvalidInputError(
            f"shards: expected at least one item in each, found none in shard {int(counts.argmin())} of "
            f"{shards} ({items.num_items} items in all). Choose fewer shards."
        )
    return np.split(np.argsort(shard_of, kind="stable"), np.cumsum(counts)[:-1])


def _build_graph(part: Path, meta: IndexMeta, threads: int | None, on_progress: OnProgress | None) -> None:
    build_index(
        part,
        m=meta.m,
        ef_construction=meta.ef_construction,
        start_level=meta.start_level,
        hops_per_level=meta.hops_per_level,
        threads=threads,
        on_progress=on_progress,
    )


def _share_user_tables(first: Path, other: Path) -> None:
    """Make the user tables of `other` the files of `first` where their sums are equal."""
    ours, manifest = read_manifest(first)["files"], read_manifest(other)
    for entry in manifest["tables"]["user"].values():
        name = entry["file"]
        # A vocabulary is the run's file in both; renaming one link over another would leave both names.
        if ours.get(name) != manifest["files"][name] or os.path.samefile(first / name, other / name):
            continue
        beside = other / f"{name}.shared"
        link_or_copy(first / name, beside)
        os.replace(beside, other / name)


def _summary(
    targets: Sequence[Path], items: Items, export_id: str, summaries: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    worst = max(summary["verified"]["largest_relative_difference"] for summary in summaries)
    return {
        "models": [str(target) for target in targets],
        "num_items": items.num_items,
        "items_of_shard": [summary["num_items"] for summary in summaries],
        "dim": items.dim,
        # A request sends the same to all. They differ only where they were measured for each shard.
        "level_topn": np.max([summary["level_topn"] for summary in summaries], axis=0).tolist(),
        "user_tables": summaries[0]["user_tables"],
        "export_id": export_id,
        "verified": {**summaries[0]["verified"], "largest_relative_difference": worst},
    }
