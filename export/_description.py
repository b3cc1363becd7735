"""The description of an export: the content of its manifest, and the summary that `export_model` returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from nann.export._assets import Assets
from nann.export._encoder import ByIds
from nann.export._inputs import Inputs
from nann.export._options import ExportOptions
from nann.export._tuning import Tuned
from nann.export.attributes import describe_attributes
from nann.run import item_features_of
from nann.version import __version__


def describe(
    inputs: Inputs,
    tuned: Tuned,
    by_ids: ByIds,
    assets: Assets,
    options: ExportOptions,
    *,
    split_difference: float,
    shard: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The content of the manifest, without the checksums of the files.

    split_difference: largest difference of a score by the split scorer, relative to the largest score.
    shard:            the entry for one of several shards; None for a whole corpus.
    """
    model, graph, scorer = inputs.model.model, inputs.graph, tuned.scorer
    calibration, split = tuned.calibration, scorer.report
    return {
        "nann_version": __version__,
        "tensorflow_version": tf.__version__,
        "numpy_version": np.__version__,
        "model": {
            "class": inputs.model.name,
            "embedding_dim": model.embedding_dim,
            "user_state": _specs(model.user_state),
            "user_features": _specs(model.user_features),
            "vocabularies": assets.vocabularies,
            **({"item_features": _specs(features)} if (features := item_features_of(model)) else {}),
        },
        "index": {**dataclasses.asdict(graph.meta), "enter_points": int(graph.enter_points.size)},
        "scorer": {
            "executor": scorer.executor,
            "executor_reason": scorer.executor_reason,
            "left_out": list(scorer.left_out),
            "jit": scorer.jit,
            "precision": dataclasses.asdict(tuned.precision),
            "tolerance": scorer.tolerance,
            "walk": scorer.walk,
            "expand": scorer.expand,
            "proxy": None if scorer.proxy is None else dataclasses.asdict(scorer.proxy),
            "filter_proxy": None if scorer.filter_proxy is None else dataclasses.asdict(scorer.filter_proxy),
            "calibration": None if calibration is None else dataclasses.asdict(calibration),
            "tile_rows": scorer.tile_rows,
            "item_tables": list(scorer.item_tables),
            "max_work": options.max_work,
            "split": None
            if split is None
            else {**split.to_json(), "largest_relative_difference": split_difference},
        },
        "encoder": by_ids.to_json(),
        "tables": {
            "item": _files(assets.item_tables),
            "user": _files(assets.user_tables),
            **({"item_state": _files(assets.item_state)} if assets.item_state else {}),
        },
        **({"attributes": describe_attributes(assets.attributes)} if assets.attributes else {}),
        "level_topn": inputs.beams.tolist(),
        "shard": None if shard is None else dict(shard),
    }


def _specs(tensors: Mapping[str, tf.TensorSpec]) -> dict[str, Any]:
    return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in tensors.items()}


def _files(tables: Mapping[str, Path]) -> dict[str, Any]:
    return {name: _table_entry(path) for name, path in tables.items()}


def _table_entry(path: Path) -> dict[str, Any]:
    array = np.load(path, mmap_mode="r")
    return {"file": f"assets/{path.name}", "dtype": array.dtype.name, "shape": list(array.shape)}


def summarize(content: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `describe`'s content that `export_model` returns.

    raw_integers: features that could have a vocabulary, and have none.
    """
    model = content["model"]
    return {
        "num_items": content["index"]["num_items"],
        "dim": content["index"]["dim"],
        "level_topn": content["level_topn"],
        "user_tables": sorted(content["tables"]["user"]),
        "attributes": {name: entry["type"] for name, entry in content.get("attributes", {}).items()},
        "raw_integers": [
            name
            for name, spec in model["user_features"].items()
            if tf.as_dtype(spec["dtype"]).is_integer and name not in model["vocabularies"]
        ],
        "encoder": content["encoder"],
        **{
            name: content["scorer"][name]
            for name in (
                "split",
                "executor",
                "executor_reason",
                "left_out",
                "jit",
                "precision",
                "tolerance",
                "walk",
                "expand",
                "proxy",
                "calibration",
            )
        },
    }
