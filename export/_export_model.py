"""`export_model`: a trained model, item embeddings and an index become one SavedModel."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidInputError, NannWarning, VerificationError
from nann.export._apart import start_process
from nann.export._assets import Assets, gather_assets, link_titles
from nann.export._description import describe, summarize
from nann.export._encoder import ByIds, by_ids_of, by_tensorflow
from nann.export._inputs import Inputs, NamedModel, check_work, named_model, read_inputs
from nann.export._item_table import add_item_table, check_split
from nann.export._model_checks import check_scores, check_user_side
from nann.export._open_lengths import equal_lengths
from nann.export._options import ExportOptions
from nann.export._raw_rows import row_warnings
from nann.export._samples import Arrays, Sample, empty_sample, sample_from_model
from nann.export._savedmodel import write_savedmodel
from nann.export._split_model import freeze_and_split
from nann.export._tuning import Tuned, tune
from nann.export._user_side import UserSide, rewrite_user_side
from nann.export._users import as_embedded, gather_users, known_users, requests_of_run
from nann.export._verify_model import compare_with_model
from nann.export._warmup import write_warmup
from nann.export.item_side import write_item_side
from nann.export.manifest import write_manifest
from nann.export.overlay import reserve_overlay
from nann.export.scorer import Scorer
from nann.files import staged_directory
from nann.ops import load_library
from nann.progress import OnProgress, ignore_progress
from nann.run import RetrievalModel, features_of


def export_model(
    run_dir: str | Path,
    out_dir: str | Path,
    options: ExportOptions | None = None,
    *,
    model: RetrievalModel | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Export the run `run_dir` as the SavedModel `out_dir`, a version folder such as MODELS/nann/1.

    options:   None is `ExportOptions()`.
    model:     the trained model; None is the one that run.json names.
    overwrite: replace an export that is there, in one step.

    The export is written beside `out_dir`, its answers are compared with a reference search in NumPy that is
    scored by the original model, and then it is renamed to `out_dir`.

    Returns a summary. Its "warnings", such as of ids that are taken for rows, are also given as NannWarning.
    Raises InvalidFileError for a damaged or incomplete run, InvalidInputError for a model
    or options that cannot be exported, VerificationError when the answers differ.

    Example:
      >>> options = ExportOptions(level_topn=[50, 100, 100, 100, 100, 20])
      >>> result = export_model("RUN", "MODELS/nann/2", options)
      >>> result["num_items"], result["level_topn"]
      (500, [50, 100, 100, 100, 100, 20])
      >>> result["verified"]["signatures"]
      ['retrieve', 'retrieve_by_ids', 'score', 'serving_default']
    """
    run_dir, out_dir = Path(run_dir), Path(out_dir)
    check_out_dir(out_dir, overwrite)
    result = export_run(
        run_dir,
        out_dir,
        named_model(run_dir, model),
        options or ExportOptions(),
        overwrite=overwrite,
        on_progress=on_progress or ignore_progress,
    )
    warn_of(result)
    return result


def warn_of(result: Mapping[str, Any]) -> None:
    """Warn the caller of the public function that calls this of what an export's summary warns of."""
    for text in result["warnings"]:
        warnings.warn(text, NannWarning, stacklevel=3)


def export_run(
    run_dir: Path,
    out_dir: Path,
    model: NamedModel,
    options: ExportOptions,
    *,
    overwrite: bool = False,
    shard: Mapping[str, Any] | None = None,
    on_progress: OnProgress,
) -> dict[str, Any]:
    """`export_model` for a model that is loaded already.

    shard: the manifest's entry for one of several shards; None for a whole corpus.
    """
    load_library()
    start_process()  # imports TensorFlow while the export is made
    # The real path, so that this is the name of a folder and not "..".
    models_dir = Path(os.path.realpath(out_dir)).parent
    with contextlib.ExitStack() as stack:
        inputs = stack.enter_context(
            read_inputs(run_dir, model, options, beside=models_dir, on_progress=on_progress)
        )
        staged = stack.enter_context(staged_directory(out_dir, replace=overwrite))
        on_progress("write model", 0, 1)
        requests = requests_of_run(run_dir, options.requests)
        parts = _parts_of_model(staged, inputs, options, requests, on_progress, of_part=shard is not None)
        tuned = tune(
            parts.scorer,
            options,
            assets=parts.assets,
            level_topn=inputs.beams.tolist(),
            users=lambda count: gather_users(model.model, parts.vocabularies, requests, count=count),
            on_progress=on_progress,
        )
        inputs = replace(inputs, beams=np.asarray(tuned.level_topn, np.int32))
        overlay = reserve_overlay(inputs.items.num_items, options.overlay_share)
        write = partial(
            write_savedmodel,
            *(staged, model.model, tuned.scorer),
            assets=parts.assets,
            max_work=options.max_work,
            overlay=overlay,
            equal_lengths=equal_lengths(model.model, parts.known_values),
        )
        by_ids = by_ids_of(model.model, parts.user_side, tuned.scorer, options)
        write(by_ids=by_ids)
        sample, difference = _write_beside(staged, inputs, parts, tuned, options, name=models_dir.name)
        on_progress("write model", 1, 1)
        by_ids, verified = _verified(
            by_ids,
            by_tensorflow(parts.user_side, tuned.scorer, "its answers differed from the model's"),
            lambda: compare_with_model(
                staged, inputs, tuned, sample, parts.vocabularies, partial(on_progress, "verify")
            ),
            lambda other: write(by_ids=other),
        )
        content = describe(
            inputs, tuned, by_ids, parts.assets, options, split_difference=difference, shard=shard
        )
        if overlay is not None:
            content["overlay"] = {**overlay.to_json(), "stream_offset": options.stream_offset}
            write_item_side(staged, tuned.scorer, model.model, inputs.folder)
        write_manifest(staged, content, partial(on_progress, "sum files"))
    summary = summarize(content)
    rows = {} if parts.user_side is None else parts.user_side.raw_rows
    found = row_warnings(
        rows,
        summary["raw_integers"],
        parts.vocabularies,
        inputs.items.ids,
        run_dir=run_dir,
        features=features_of(model.model),
    )
    return {"model": str(out_dir), **summary, "raw_rows": rows, "warnings": found, "verified": verified}


def check_out_dir(out_dir: Path, overwrite: bool) -> None:
    """Raise InvalidInputError where `out_dir` holds something that may not be replaced."""
    if out_dir.exists() and not (out_dir.is_dir() and (overwrite or not any(out_dir.iterdir()))):
        raise InvalidInputError(
            f"{out_dir}: expected no such folder, found one. Export to the next version, or pass --overwrite."
        )


@dataclass(frozen=True)
class _Parts:
    """What an export is made of.

    original:  the scorer as the model has it.
    scorer:    the one to export, split or not.
    user_side: None for a model without user features.
    requests:  a file of real users, if there is one.
    """

    model: RetrievalModel
    original: Scorer
    scorer: Scorer
    user_side: UserSide | None
    assets: Assets
    vocabularies: Mapping[str, npt.NDArray[np.int64]]
    requests: Path | None

    def made_up_users(self, users: int) -> Sample:
        """The same users each time, none of them real: the warm-up stays in the export.

        Where the model takes real users alone, whose strings are dates, a state of zeros.
        """
        try:
            return sample_from_model(self.model, self.vocabularies, users=users)
        except InvalidInputError:
            if self.requests is None:
                raise
        return empty_sample(self.model, users=users)

    def known_values(self) -> Arrays:
        """The features of one known user, as `embed_user` takes them."""
        return as_embedded(self.model, self.vocabularies, self.known_users(1).features or {})

    def known_users(self, users: int) -> Sample:
        return known_users(self.model, self.vocabularies, self.requests, count=users)


def _parts_of_model(
    staged: Path,
    inputs: Inputs,
    options: ExportOptions,
    requests: Path | None,
    on_progress: OnProgress,
    *,
    of_part: bool,
) -> _Parts:
    """Trace the model and fill `staged`/assets; the model's own faults are found here."""
    original, scorer = freeze_and_split(inputs, options)
    user_side = _user_side(inputs, options)
    tables = {} if user_side is None else user_side.tables
    assets = gather_assets(
        staged / "assets", inputs, tables, of_part=of_part, is_live=options.overlay_share > 0
    )
    add_item_table(assets, inputs.items, scorer, partial(on_progress, "compute item table"))
    model, vocabularies = inputs.model.model, assets.open_vocabularies()
    parts = _Parts(model, original, scorer, user_side, assets, vocabularies, requests)
    sample = parts.known_users(2)
    check_user_side(model, vocabularies, sample)
    check_scores(original, sample, inputs.items)
    return parts


def _verified(
    by_ids: ByIds, otherwise: ByIds, compare: Callable[[], dict[str, Any]], write: Callable[[ByIds], None]
) -> tuple[ByIds, dict[str, Any]]:
    """Compare what was written with the model; where an encoder in the program fails that, write `otherwise`.

    The same sums in another order may be too much for an encoder that enlarges small differences.
    """
    try:
        return by_ids, compare()
    except VerificationError:
        if by_ids.executor != "native":
            raise
    write(otherwise)
    return otherwise, compare()


def _write_beside(
    staged: Path, inputs: Inputs, parts: _Parts, tuned: Tuned, options: ExportOptions, *, name: str
) -> tuple[Sample, float]:
    """Write the warm-up and titles; return users to ask the export for, and how far the split moves a score.

    name: of the model for servers.
    """
    work = check_work(inputs.beams, options.max_work)
    assets, scorer = parts.assets, tuned.scorer
    users = 2 if 2 * work <= options.max_work else 1
    beams, item_id = inputs.beams.tolist(), int(inputs.items.ids[0])
    write_warmup(
        staged,
        name,
        parts.made_up_users(users),
        beams,
        item_id=item_id,
        max_work=options.max_work,
        with_filters=bool(assets.attributes),
    )
    link_titles(staged, inputs.folder)
    sample = parts.known_users(users)
    return sample, check_split(parts.original, scorer, sample, inputs.items, assets.open_item_tables())


def _user_side(inputs: Inputs, options: ExportOptions) -> UserSide | None:
    if not inputs.model.model.user_features:
        return None
    return rewrite_user_side(
        inputs.model.model, table_bytes=options.table_bytes, max_constant_bytes=options.max_constant_bytes
    )
