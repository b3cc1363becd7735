"""A corpus in shards: exports with disjoint items, one for each server."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.export._export_model import export_run, warn_of
from nann.export._inputs import NamedModel, named_model
from nann.export._options import ExportOptions
from nann.export.attributes import check_attributes
from nann.export.index.build import DEFAULT_SEED, build_index
from nann.export.items import Items, read_items, write_part_of_run
from nann.export.manifest import read_manifest
from nann.files import link_or_copy, staged_directory
from nann.ops.index_meta import INDEX_JSON, IndexMeta, default_level_topn, read_meta
from nann.progress import OnProgress, ignore_progress
from nann.run import RetrievalModel

# More folders than any deployment has; a mistyped number is refused before they are made.
MAX_SHARDS = 10_000
ASSIGNMENT = "splitmix64(item_id) mod count"


def shard_of_items(item_ids: npt.ArrayLike, shards: int) -> npt.NDArray[np.int64]:
    """The shard of each item id, int64 [...]: SplitMix64(id) mod `shards`.

    It depends on the id alone, so an item stays in its shard from version to version. The hash is SplitMix64
    (Steele, Lea, Flood 2014) of the id as 64 bits: six operations in any language, and ids with a pattern
    are spread evenly. An item of shard s of S is in shard s or s + S of 2 S.

    Example:
      >>> shard_of_items([0, 1234567], shards=4)
      array([3, 1])
    """
    mixed: npt.NDArray[np.uint64] = np.asarray(item_ids, np.int64).astype(np.uint64)
    with np.errstate(over="ignore"):
        mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    shard: npt.NDArray[np.int64] = ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(shards)).astype(np.int64)
    return shard


def shard_dirs(out_dir: str | Path, shards: int) -> list[Path]:
    """The version folders of the shards of `out_dir`, in order.

    Raises InvalidInputError when `out_dir` does not name a model and a version.

    Example:
      >>> [str(folder) for folder in shard_dirs("MODELS/nann/1", shards=2)]
      ['MODELS/nann-0-of-2/1', 'MODELS/nann-1-of-2/1']
    """
    folder = Path(os.path.normpath(out_dir))
    base, version = folder.parent, folder.name
    if base.name in ("", ".."):
        raise InvalidInputError(
            f"{out_dir}: expected a version folder below the folder of a model, such as MODELS/nann/1, found "
            f"no name of a model. Give both names."
        )
    return [base.with_name(f"{base.name}-{shard}-of-{shards}") / version for shard in range(shards)]


def shard_level_topn(meta: IndexMeta, shards: int) -> list[int]:
    """The default beams of a shard: those of a whole corpus, divided by `shards`, except the last, k.

    All shards together then do the work of one walk over the whole corpus.

    Example:
      >>> shard_level_topn(index.meta, shards=4)
      [25, 50, 50, 50, 50, 200]
    """
    beams = default_level_topn(meta)
    beams[:-1] = -(-beams[:-1] // shards)
    return [int(beam) for beam in beams]


def export_shards(
    run_dir: str | Path,
    out_dir: str | Path,
    options: ExportOptions | None = None,
    *,
    shards: int,
    model: RetrievalModel | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Export the run `run_dir` as `shards` SavedModels whose items are disjoint and together all.

    out_dir:   the name of the set, such as MODELS/nann/1; the shards are MODELS/nann-0-of-4/1 and so on.
    options:   of each shard; None is `ExportOptions()`. `level_topn` None is `shard_level_topn`.
    model:     the trained model; None is the one that run.json names.
    threads:   threads of faiss; 1 makes the graphs repeatable, None is all processors.
    overwrite: refused, because several folders cannot be replaced in one step.

    Each shard has its own HNSW graph, built with metric, parameters, levels, hops and seed of RUN/index; a
    request has as many beams as one for the whole corpus. Tables of the user side are the same files in all
    shards. All shards are written and verified before the first appears; shard 0 appears last.

    Returns a summary. Raises the errors of `export_model`.

    Example:
      >>> result = export_shards("RUN", "MODELS/nann/1", shards=2)
      >>> result["models"], result["items_of_shard"]
      (['MODELS/nann-0-of-2/1', 'MODELS/nann-1-of-2/1'], [263, 237])
    """
    run_dir, targets = Path(run_dir), shard_dirs(out_dir, shards)
    report = on_progress or ignore_progress
    _check_targets(targets, overwrite)
    items = read_items(run_dir, on_progress=report)
    check_attributes(run_dir, items.ids)
    meta = _read_parameters(run_dir)
    rows_of_shard = _split(items, shards)
    options = options or ExportOptions()
    if options.level_topn is None:
        options = replace(options, level_topn=shard_level_topn(meta, shards))
    source = _Source(run_dir, items, meta, named_model(run_dir, model), options, threads)
    export_id = uuid.uuid4().hex
    entry = {
        "count": shards,
        "assignment": ASSIGNMENT,
        "num_items_of_all": items.num_items,
        "export_id": export_id,
    }
    summaries = []
    with contextlib.ExitStack() as stack:
        # The stack unwinds from the last to the first: shard 0 is published when all others are in place.
        staged = [stack.enter_context(staged_directory(target, replace=False)) for target in targets]
        for shard, rows in enumerate(rows_of_shard):
            report("export shards", shard, shards)
            summaries.append(source.export(rows, staged[shard], {"index": shard, **entry}, report))
            if shard > 0:
                _share_user_tables(staged[0], staged[shard])
    report("export shards", shards, shards)
    summary = _summary(targets, items, export_id, summaries)
    warn_of(summary)
    return summary


@dataclass(frozen=True)
class _Source:
    """What all shards are made from."""

    run_dir: Path
    items: Items
    meta: IndexMeta
    model: NamedModel
    options: ExportOptions
    threads: int | None

    def export(
        self, rows: npt.NDArray[np.int64], target: Path, shard: dict[str, Any], on_progress: OnProgress
    ) -> dict[str, Any]:
        """Export the items `rows` of the corpus: a temporary run with its own graph becomes the shard."""
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".run-") as folder:
            part = Path(folder)
            write_part_of_run(part, self.run_dir, self.items, rows)
            self._build_graph(part, on_progress)
            return export_run(part, target, self.model, self.options, shard=shard, on_progress=on_progress)

    def _build_graph(self, part: Path, on_progress: OnProgress) -> None:
        meta = self.meta
        build_index(
            part,
            metric=meta.metric,
            # An imported graph may have an odd M; links by inner product and by distance share an even one.
            m=meta.m + meta.m % 2 if meta.metric == "ip" else meta.m,
            ef_construction=meta.ef_construction,
            start_level=meta.start_level,
            choose=meta.chosen_entry_points,
            hops_per_level=meta.hops_per_level,
            seed=DEFAULT_SEED if meta.seed is None else meta.seed,
            threads=self.threads,
            on_progress=on_progress,
        )


def _check_targets(targets: Sequence[Path], overwrite: bool) -> None:
    if not 1 <= len(targets) <= MAX_SHARDS:
        raise InvalidInputError(
            f"shards: expected 1..{MAX_SHARDS}, found {len(targets)}. Choose one in this range."
        )
    if overwrite:
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
    """The parameters that RUN/index was built with."""
    meta = read_meta(run_dir / "index")
    if meta.ef_construction == 0:
        raise InvalidFileError(
            f"{run_dir / 'index' / INDEX_JSON}: expected the ef_construction to build the shards' graphs "
            f"with, found 0, which means unknown: the index was imported. Build it with `nann index`."
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


def _share_user_tables(first: Path, other: Path) -> None:
    """Replace the user tables of `other` by links to those of `first` where their checksums are equal."""
    ours, manifest = read_manifest(first)["files"], read_manifest(other)
    for entry in manifest["tables"]["user"].values():
        name = entry["file"]
        # A vocabulary is the run's file in both; renaming a link over the same file would leave both names.
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
        # A request sends the same beams to all shards; they differ only where each shard was calibrated.
        "level_topn": np.max([summary["level_topn"] for summary in summaries], axis=0).tolist(),
        "user_tables": summaries[0]["user_tables"],
        "export_id": export_id,
        "warnings": summaries[0]["warnings"],
        "verified": {**summaries[0]["verified"], "largest_relative_difference": worst},
    }
