"""`verify_model`: checks an export on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import VerificationError
from nann.export._apart import loaded_apart
from nann.export._assets import ITEM_IDS
from nann.export._inputs import Inputs
from nann.export._proxy import open_proxy_tables
from nann.export._samples import Arrays, Sample, random_sample
from nann.export._tuning import Tuned
from nann.export._users import known_users, requests_of_run
from nann.export._verify import (
    ExpectedWalk,
    ScorerOfUser,
    check_answers,
    check_vocabulary_ends,
    scorer_of_export,
    scorer_of_model,
)
from nann.export.attributes import attributes_of_manifest
from nann.export.index.files import read_index
from nann.export.loaded import loaded
from nann.export.manifest import check_sums, read_manifest
from nann.export.scorer.scorer import RELATIVE_TOLERANCE
from nann.ops import AttributeFiles, ProxyWalk, evaluate_filter
from nann.progress import OnProgress, ignore_progress
from nann.run import RetrievalModel, load_model

_USERS = 2  # One as it asks, and one that lacks some events.


def verify_model(
    model_dir: str | Path, *, run_dir: str | Path | None = None, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Check an export: the checksum of every file, that it loads, and its answers.

    run_dir: a run whose model scores the reference search that the answers are compared with; None scores it
             by the export's own signature `score`, which checks the walk alone.

    Returns a summary. Raises InvalidFileError for a folder that is no export, VerificationError for changed
    files or wrong answers.

    Example:
      >>> result = verify_model("MODELS/nann/1", run_dir="RUN")
      >>> result["verified"]["largest_relative_difference"] < 1e-5
      True
    """
    model_dir = Path(model_dir)
    report = on_progress or ignore_progress
    manifest = read_manifest(model_dir)
    check_sums(model_dir, manifest, partial(report, "sum files"))
    attributes = attributes_of_manifest(model_dir, manifest)
    graph = read_index(model_dir / "assets")
    item_ids = np.load(model_dir / "assets" / ITEM_IDS, mmap_mode="r")
    _check_attributes(attributes, item_ids.size)
    with loaded(model_dir) as exported:
        if run_dir is None:
            states = {
                name: (spec["shape"], spec["dtype"]) for name, spec in manifest["model"]["user_state"].items()
            }
            sample, scorer = random_sample(states), scorer_of_export(exported, item_ids)
        else:
            model = load_model(run_dir)
            known = _vocabularies(model_dir, manifest)
            sample = known_users(model, known, requests_of_run(Path(run_dir)), count=_USERS)
            scorer = _scorer_of_run(model, model_dir, manifest)
        verified = check_answers(
            exported,
            graph,
            item_ids,
            sample,
            manifest["level_topn"],
            scorer,
            _expected_walk(manifest["scorer"], model_dir),
            partial(report, "verify"),
        )
        vocabularies = _vocabularies(model_dir, manifest)
        features = sample.features or _random_features(manifest, vocabularies)
        check_vocabulary_ends(exported, features, vocabularies, manifest["level_topn"])
    return {"model": str(model_dir), "files": len(manifest["files"]), "verified": verified}


def _check_attributes(attributes: list[AttributeFiles], num_items: int) -> None:
    """Raise VerificationError where a file of an attribute does not fit the others."""
    try:
        evaluate_filter(attributes, "TRUE", num_rows=num_items)
    except tf.errors.InvalidArgumentError as error:
        raise VerificationError(f"{error.message}. Export again.") from error


def compare_with_model(
    model_dir: Path,
    inputs: Inputs,
    tuned: Tuned,
    sample: Sample,
    vocabularies: Mapping[str, npt.NDArray[np.int64]],
    on_progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Compare the answers of a new export with the reference search, scored by the original model.

    vocabularies: of the features that have one; the first and the last id of each are asked too.
    """
    with loaded_apart(model_dir) as exported:
        verified = check_answers(
            exported,
            inputs.graph,
            inputs.items.ids,
            sample,
            inputs.beams.tolist(),
            scorer_of_model(
                inputs.model.model, inputs.items.embs, inputs.items.state, tuned.scorer.tile_rows
            ),
            _expected_walk(
                {
                    "walk": tuned.scorer.walk,
                    "expand": tuned.scorer.expand,
                    "proxy": tuned.scorer.proxy and dataclasses.asdict(tuned.scorer.proxy),
                    "precision": dataclasses.asdict(tuned.precision),
                    "tolerance": tuned.scorer.tolerance,
                },
                model_dir,
            ),
            on_progress,
        )
        check_vocabulary_ends(exported, sample.features, vocabularies, inputs.beams.tolist())
        return verified


def _scorer_of_run(model: RetrievalModel, model_dir: Path, manifest: dict[str, Any]) -> ScorerOfUser:
    """Scores of the run's model for the items of the export."""
    tables = manifest["tables"]
    embs = np.load(model_dir / tables["item"]["item_embs"]["file"], mmap_mode="r")
    state = {
        name: np.load(model_dir / entry["file"], mmap_mode="r")
        for name, entry in tables.get("item_state", {}).items()
    }
    return scorer_of_model(model, embs, state, manifest["scorer"]["tile_rows"])


def _vocabularies(model_dir: Path, manifest: dict[str, Any]) -> dict[str, npt.NDArray[np.int64]]:
    files = manifest["tables"]["user"]
    return {
        feature: np.load(model_dir / files[table]["file"], mmap_mode="r")
        for feature, table in manifest["model"]["vocabularies"].items()
    }


def _random_features(
    manifest: dict[str, Any], vocabularies: Mapping[str, npt.NDArray[np.int64]]
) -> Arrays | None:
    """Features of one user, without the model: ids of the vocabularies, else zeros."""
    random = np.random.default_rng(0)
    features: Arrays = {}
    for name, spec in manifest["model"]["user_features"].items():
        shape = (1, *(1 if size is None else size for size in spec["shape"]))
        if name in vocabularies:
            features[name] = random.choice(vocabularies[name], shape).astype(spec["dtype"])
        elif spec["dtype"] == "string":
            features[name] = np.full(shape, b"", object)
        else:
            features[name] = np.zeros(shape, spec["dtype"])
    return features or None


def _expected_walk(scorer: Mapping[str, Any], model_dir: Path) -> ExpectedWalk:
    """`scorer`: as in a manifest. Old ones lack some of it, and name the precision alone."""
    precision: Any = scorer.get("precision")
    narrow = isinstance(precision, dict) and precision["precision"] != "float32"
    proxy = scorer.get("proxy")
    return ExpectedWalk(
        walk=scorer.get("walk", ""),
        expand=scorer.get("expand", 0),
        proxy=None if proxy is None else open_proxy_tables(ProxyWalk(**proxy), model_dir / "assets"),
        accuracy=precision["accuracy"] if narrow else None,
        tolerance=scorer.get("tolerance", RELATIVE_TOLERANCE),
    )
