"""Checkpoint + embeddings + index -> one SavedModel that needs no Python."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidFileError, InvalidInputError
from nann.export._assets import ITEM_ID_ORDER, ITEM_IDS, Assets, gather_assets
from nann.export._item_table import check_split, write_item_table
from nann.export._samples import Sample, random_sample, sample_from_model
from nann.export._signatures import SignatureBuilder, check_names
from nann.export._tuning import Tuned, Tuning, tune
from nann.export._user_side import TABLE_BYTES, UserSide, rewrite_user_side
from nann.export._verify import ExpectedWalk, check_answers, scorer_of_export, scorer_of_model
from nann.export._warmup import write_warmup
from nann.export.constants import MAX_CONSTANT_BYTES
from nann.export.index.files import GraphIndex, check_graph_fits, read_index
from nann.export.index.reorder import reordered_run
from nann.export.items import Items, read_items
from nann.export.loaded import loaded
from nann.export.manifest import check_sums, read_manifest, write_manifest
from nann.export.scorer import SCORER_TABLE, Scorer, freeze_scorer, split_scorer
from nann.files import staged_directory
from nann.ops import DEFAULT_MAX_WORK, DEFAULT_TILE_ROWS, IndexResource, load_library
from nann.ops.index_meta import check_level_topn, default_level_topn
from nann.progress import OnProgress, ignore_progress
from nann.run import RetrievalModel, load_model, read_run
from nann.version import __version__

ITEM_TABLE_BYTES = 4 * 2**30


def export_model(
    run_dir: str | Path,
    out_dir: str | Path,
    *,
    model: RetrievalModel | None = None,
    level_topn: Sequence[int] | None = None,
    tile_rows: int = DEFAULT_TILE_ROWS,
    max_work: int = DEFAULT_MAX_WORK,
    table_bytes: int = TABLE_BYTES,
    max_constant_bytes: int = MAX_CONSTANT_BYTES,
    split: bool = True,
    item_table_bytes: int = ITEM_TABLE_BYTES,
    reorder: bool = False,
    tuning: Tuning | None = None,
    overwrite: bool = False,
    shard: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Export the run `run_dir` as the SavedModel `out_dir`, a version folder such as MODELS/nann/1.

    model:      the trained model; None is the one that run.json names.
    level_topn: the beams recorded as default and used for warm-up and verification; requests bring
                their own. None is 100 entry points, 200 a hop, 200 results.
    tile_rows:  items that the scorer is run on at once.
    max_work:   cap of one request: batch x sum of its beams.
    table_bytes: tables of the user side of at least this size become mapped files.
    max_constant_bytes: largest variable that may become a constant of the graph.
    split:      run the user's part of the scorer once a request, and take the items' part from a table that
                is computed here (docs/scorer-split.md); False leaves the scorer as the model has it.
    item_table_bytes: largest size of that table; 0: none.
    reorder:    give near items near positions, for the processor's caches (docs/measured.md); the corpus and
                the index are then written anew in place of links to the run's files.
    tuning:     who runs the scorer, in what precision, by which walk, and what is measured to choose; None
                is `Tuning()`.
    overwrite:  replace an export that is there, in one step.
    shard:      which part of a corpus the run is, for the manifest; see `export_shards`.

    The export is written beside, checked against the NumPy oracle scored by the original model, and then
    renamed. Returns a summary. Raises InvalidFileError and InvalidInputError for what goes in,
    VerificationError when the answers differ.
    """
    out_dir = Path(out_dir)
    report = on_progress if on_progress is not None else ignore_progress
    _check_out_dir(out_dir, overwrite)
    load_library()
    with contextlib.ExitStack() as stack:
        source = Path(run_dir)
        if reorder:
            model = load_model(source) if model is None else model
            source = stack.enter_context(
                reordered_run(source, out_dir.resolve().parent, on_progress=on_progress)
            )
        inputs = _read_inputs(source, model, level_topn, on_progress)
        _check_work(inputs.beams, tile_rows, max_work)
        staged = stack.enter_context(staged_directory(out_dir, replace=overwrite))
        report("write model", 0, 1)
        frozen = freeze_scorer(inputs.model, tile_rows=tile_rows, max_constant_bytes=max_constant_bytes)
        scorer = frozen
        if split:
            scorer = split_scorer(frozen, num_items=inputs.items.num_items, item_table_bytes=item_table_bytes)
        user_side = _user_side(inputs.model, table_bytes, max_constant_bytes)
        tables = {} if user_side is None else user_side.tables
        assets = gather_assets(
            staged / "assets", inputs.run_dir, inputs.items, inputs.graph, inputs.model, tables
        )
        if scorer.item_function is not None:
            assets.item_tables[SCORER_TABLE] = assets.folder / f"item_table_{SCORER_TABLE}.npy"
            write_item_table(
                assets.item_tables[SCORER_TABLE],
                inputs.items,
                scorer,
                lambda done, total: report("compute item table", done, total),
            )
        vocabularies = {
            feature: _mapped(assets.user_tables[table]) for feature, table in assets.vocabularies.items()
        }
        tuned = tune(
            scorer,
            tuning if tuning is not None else Tuning(),
            assets=assets,
            level_topn=inputs.beams.tolist(),
            sample_users=lambda users: sample_from_model(inputs.model, vocabularies, users=users),
            on_progress=report,
        )
        scorer, inputs = tuned.scorer, replace(inputs, beams=np.asarray(tuned.level_topn, np.int32))
        work = _check_work(inputs.beams, tile_rows, max_work)
        _save(staged, inputs.model, scorer, user_side, assets, max_work)
        sample = sample_from_model(inputs.model, vocabularies, users=2 if 2 * work <= max_work else 1)
        item_tables = {name: _mapped(path) for name, path in assets.item_tables.items()}
        difference = check_split(frozen, scorer, sample, inputs.items, item_tables)
        write_warmup(staged, out_dir.resolve().parent.name, sample, inputs.beams.tolist())
        report("write model", 1, 1)
        verified = _compare_with_oracle(staged, inputs, sample, tuned, report)
        content = _manifest(inputs, tuned, assets, max_work)
        if scorer.report is not None:
            content["scorer"]["split"]["largest_relative_difference"] = difference
        content["shard"] = None if shard is None else dict(shard)
        write_manifest(staged, content, lambda done, total: report("sum files", done, total))
    return {"model": str(out_dir), **_summary(content, inputs.items), "verified": verified}


def verify_model(
    model_dir: str | Path, *, run_dir: str | Path | None = None, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Check an export: the sum of every file, that it loads, and its answers.

    With `run_dir` the answers are compared with the reference search scored by the run's own model,
    else scored by the export's own `score`. Raises InvalidFileError, VerificationError.
    """
    model_dir = Path(model_dir)
    report = on_progress if on_progress is not None else ignore_progress
    manifest = read_manifest(model_dir)
    check_sums(model_dir, manifest, lambda done, total: report("sum files", done, total))
    graph = read_index(model_dir / "assets")
    item_ids = _mapped(model_dir / "assets" / ITEM_IDS)
    with loaded(model_dir) as exported:
        if run_dir is None:
            states = {
                name: (spec["shape"], spec["dtype"]) for name, spec in manifest["model"]["user_state"].items()
            }
            sample, scorer = random_sample(states), scorer_of_export(exported, item_ids)
        else:
            model = load_model(run_dir)
            sample = _sample_of_export(model, model_dir, manifest)
            embs = _mapped(model_dir / manifest["tables"]["item"]["item_embs"]["file"])
            scorer = scorer_of_model(model, embs, manifest["scorer"]["tile_rows"])
        verified = check_answers(
            exported,
            graph,
            item_ids,
            sample,
            manifest["level_topn"],
            scorer,
            _expected_walk(manifest["scorer"].get("expand", 0), manifest["scorer"].get("precision")),
            lambda done, total: report("verify", done, total),
        )
    return {"model": str(model_dir), "files": len(manifest["files"]), "verified": verified}


def _sample_of_export(model: RetrievalModel, model_dir: Path, manifest: dict[str, Any]) -> Sample:
    files = manifest["tables"]["user"]
    vocabularies = {
        feature: _mapped(model_dir / files[table]["file"])
        for feature, table in manifest["model"]["vocabularies"].items()
    }
    return sample_from_model(model, vocabularies)


def _expected_walk(expand: int, precision: Any) -> ExpectedWalk:
    # Manifests before bfloat16 name the precision alone.
    narrow = isinstance(precision, dict) and precision["precision"] != "float32"
    return ExpectedWalk(expand, precision["accuracy"] if narrow else None)


def _check_work(beams: npt.NDArray[np.int32], tile_rows: int, max_work: int) -> int:
    """The work of one row; InvalidInputError when it is more than a request may ask for."""
    work = int(beams.sum())
    if tile_rows < 1 or max_work < work:
        raise InvalidInputError(
            f"expected tile_rows of at least 1 and max_work of at least {work}, the sum of level_topn, found "
            f"{tile_rows} and {max_work}. Correct them."
        )
    return work


def _check_out_dir(out_dir: Path, overwrite: bool) -> None:
    if out_dir.exists() and not (out_dir.is_dir() and (overwrite or not any(out_dir.iterdir()))):
        raise InvalidInputError(
            f"{out_dir}: expected no such folder, found one. Export to the next version, or pass --overwrite."
        )


@dataclass(frozen=True)
class _Inputs:
    """What an export is made of, read and checked."""

    run_dir: Path
    class_name: str
    model: RetrievalModel
    items: Items
    graph: GraphIndex
    beams: npt.NDArray[np.int32]


def _read_inputs(
    run_dir: Path,
    model: RetrievalModel | None,
    level_topn: Sequence[int] | None,
    on_progress: OnProgress | None,
) -> _Inputs:
    if model is None:
        class_name, model = read_run(run_dir).model, load_model(run_dir)
    else:
        class_name = f"{type(model).__module__}:{type(model).__qualname__}"
    check_names(model)
    items = read_items(run_dir, on_progress=on_progress)
    graph = read_index(run_dir / "index")
    check_graph_fits(run_dir / "index", graph, items)
    if model.embedding_dim != items.dim:
        raise InvalidFileError(
            f"{items.embs_path}: expected dimension {model.embedding_dim} as the model's, found {items.dim}. "
            f"Run `nann embed` with this model."
        )
    beams = check_level_topn(default_level_topn(graph.meta) if level_topn is None else level_topn, graph.meta)
    return _Inputs(run_dir, class_name, model, items, graph, beams)


def _compare_with_oracle(
    staged: Path, inputs: _Inputs, sample: Sample, tuned: Tuned, report: OnProgress
) -> dict[str, Any]:
    with loaded(staged) as exported:
        return check_answers(
            exported,
            inputs.graph,
            inputs.items.ids,
            sample,
            inputs.beams.tolist(),
            scorer_of_model(inputs.model, inputs.items.embs, tuned.scorer.tile_rows),
            _expected_walk(tuned.scorer.expand, dataclasses.asdict(tuned.precision)),
            lambda done, total: report("verify", done, total),
        )


def _user_side(model: RetrievalModel, table_bytes: int, max_constant_bytes: int) -> UserSide | None:
    if not model.user_features:
        return None
    return rewrite_user_side(model, table_bytes=table_bytes, max_constant_bytes=max_constant_bytes)


def _save(
    staged: Path,
    model: RetrievalModel,
    scorer: Scorer,
    user_side: UserSide | None,
    assets: Assets,
    max_work: int,
) -> None:
    module = tf.Module()
    # TensorFlow's saver copies assets into `assets/` unless they are there: these are.
    module.index = IndexResource(
        index_dir=assets.folder,
        item_ids=assets.folder / ITEM_IDS,
        id_order=assets.folder / ITEM_ID_ORDER,
        item_tables=assets.item_tables,
        user_tables=assets.user_tables,
    )
    builder = SignatureBuilder(model, scorer, user_side, module.index, assets.vocabularies, max_work=max_work)
    # Serving takes no gradients, and saving the custom ones (of silu, say) fails in a frozen function.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(staged), signatures=builder.signatures(), options=options)


def _mapped(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    return array


def _manifest(inputs: _Inputs, tuned: Tuned, assets: Assets, max_work: int) -> dict[str, Any]:
    model, graph, scorer = inputs.model, inputs.graph, tuned.scorer
    calibration = tuned.calibration

    def specs(tensors: Any) -> dict[str, Any]:
        return {name: {"dtype": s.dtype.name, "shape": s.shape.as_list()} for name, s in tensors.items()}

    def files(tables: dict[str, Path]) -> dict[str, Any]:
        return {name: _table_entry(path) for name, path in tables.items()}

    return {
        "nann_version": __version__,
        "tensorflow_version": tf.__version__,
        "numpy_version": np.__version__,
        "model": {
            "class": inputs.class_name,
            "embedding_dim": model.embedding_dim,
            "user_state": specs(model.user_state),
            "user_features": specs(model.user_features),
            "vocabularies": assets.vocabularies,
        },
        "index": {**dataclasses.asdict(graph.meta), "enter_points": int(graph.enter_points.size)},
        "scorer": {
            "executor": scorer.executor,
            "executor_reason": scorer.executor_reason,
            "jit": scorer.jit,
            "precision": dataclasses.asdict(tuned.precision),
            "expand": scorer.expand,
            "calibration": None if calibration is None else dataclasses.asdict(calibration),
            "tile_rows": scorer.tile_rows,
            "item_tables": list(scorer.item_tables),
            "max_work": max_work,
            "split": None if scorer.report is None else scorer.report.to_json(),
        },
        "tables": {"item": files(assets.item_tables), "user": files(assets.user_tables)},
        "level_topn": inputs.beams.tolist(),
    }


def _table_entry(path: Path) -> dict[str, Any]:
    array = _mapped(path)
    return {"file": f"assets/{path.name}", "dtype": array.dtype.name, "shape": list(array.shape)}


def _summary(content: dict[str, Any], items: Items) -> dict[str, Any]:
    return {
        "num_items": items.num_items,
        "dim": items.dim,
        "level_topn": content["level_topn"],
        "user_tables": sorted(content["tables"]["user"]),
        **{
            name: content["scorer"][name]
            for name in ("split", "executor", "executor_reason", "jit", "precision", "expand", "calibration")
        },
    }
