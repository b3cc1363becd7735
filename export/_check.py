"""What an export would do with a model, in seconds and without writing anything."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import NannError
from nann.export._assets import check_vocabulary, vocabulary_files
from nann.export._built import build_by_calls
from nann.export._encoder import by_ids_of
from nann.export._inputs import check_dimension, named_model
from nann.export._model_checks import check_scores, check_user_side
from nann.export._model_specs import check_model_specs
from nann.export._options import ExportOptions
from nann.export._raw_rows import row_warnings
from nann.export._samples import Sample
from nann.export._user_side import UserSide, rewrite_user_side
from nann.export._users import known_users, requests_of_run
from nann.export.attributes import check_attributes
from nann.export.items import Items, items_of_model, read_items
from nann.export.scorer import Scorer, choose_executor, freeze_scorer, split_scorer
from nann.export.scorer.cost import microseconds_per_item
from nann.ops import DEFAULT_TILE_ROWS, load_library
from nann.run import RetrievalModel, features_of, item_state_of

_TILES = 64  # of a measurement: with tiles of 128 as many items as one request scores
_REPEATS = 5

# Why the native executor does not run a scorer -> what its author can change; the first that is found counts.
_ADVICE = {
    "bool": "Keep the mask as float32 (1 or 0) in the user's state, and compare it inside score.",
    "not float32|float16|bfloat16|float64": "Compute the scorer in float32.",
    "rank 3": "Sum over the events by a product (tf.matmul, tf.einsum), without a tensor per item and event.",
    "loop": "Unroll the loop, or move it into embed_user.",
    "state|random": "Call layers with training=False.",
    "table|resource": "Look keys up in embed_user.",
    "sorted=False": "Call tf.math.top_k with sorted=True.",
    "arithmetic of integers|comparison of two integers": "Cast integers to float32 before they are computed "
    "with, where they are below 2^24.",
}
# The names of a model's nodes may hold any of these words.
_NODE = re.compile(r"^node \S+ \(\w+\): ")
_NO_ADVICE = "The scores are right, and cost more. Write the operation by products, activations and softmax."


def check_run(
    run_dir: str | Path, options: ExportOptions | None = None, *, model: RetrievalModel | None = None
) -> dict[str, Any]:
    """What `export_model` would do with the model of a run; the run needs no index.

    Returns `accepted` and, where it is False, `reason`; else `warnings`, the user, the item and the tile part
    with their shapes and FLOPs, who runs the scorer and why, and the microseconds that an item takes on one
    core: of the native executor by its cost model, of TensorFlow measured.

    Example:

    >>> found = check_run("RUN")
    >>> found["accepted"], found["executor"]
    (True, 'native')
    """
    run_dir, options = Path(run_dir), options or ExportOptions()
    load_library()
    try:
        return {"run": str(run_dir), "accepted": True, "reason": None, **_checked(run_dir, options, model)}
    except NannError as error:
        return {"run": str(run_dir), "accepted": False, "reason": str(error)}


def _checked(run_dir: Path, options: ExportOptions, given: RetrievalModel | None) -> dict[str, Any]:
    model = named_model(run_dir, given).model
    check_model_specs(model)
    build_by_calls(model)
    items = read_items(run_dir)
    check_dimension(model, items)
    items = items_of_model(items, item_state_of(model))
    check_attributes(run_dir, items.ids)
    tile_rows = options.tile_rows or DEFAULT_TILE_ROWS
    frozen = freeze_scorer(model, tile_rows=tile_rows, max_constant_bytes=options.max_constant_bytes)
    user_side = None
    if model.user_features:
        user_side = rewrite_user_side(
            model, table_bytes=options.table_bytes, max_constant_bytes=options.max_constant_bytes
        )
    vocabularies = _vocabularies(model, run_dir)

    sample = known_users(model, vocabularies, requests_of_run(run_dir, options.requests), count=2)
    check_user_side(model, vocabularies, sample)
    check_scores(frozen, sample, items)
    scorer = split_scorer(
        frozen,
        num_items=items.num_items,
        item_table_bytes=options.item_table_bytes,
        keep_effects=options.tuning.executor == "tensorflow",
    )
    # Only the type of the embeddings counts here; the other tables do not exist yet.
    chosen = choose_executor(
        scorer, options.tuning.executor, dict.fromkeys(scorer.item_tables, items.embs_path)
    )
    raw_integers = [
        name
        for name, spec in model.user_features.items()
        if spec.dtype.is_integer and name not in vocabularies
    ]
    rows = {} if user_side is None else user_side.raw_rows
    found = row_warnings(
        rows,
        raw_integers,
        vocabularies,
        items.ids,
        run_dir=run_dir,
        features=features_of(model),
    )
    encoder = by_ids_of(model, user_side, chosen, options).to_json()
    report = _report(model, chosen, frozen, sample, items, user_side, raw_integers)
    return {"warnings": found, "encoder": encoder, **report}


def _vocabularies(model: RetrievalModel, run_dir: Path) -> dict[str, npt.NDArray[np.int64]]:
    files = vocabulary_files(run_dir, model)
    for path in files.values():
        check_vocabulary(path)
    return {feature: np.load(path, mmap_mode="r") for feature, path in files.items()}


def _report(
    model: RetrievalModel,
    scorer: Scorer,
    frozen: Scorer,
    sample: Sample,
    items: Items,
    user_side: UserSide | None,
    raw_integers: list[str],
) -> dict[str, Any]:
    split = scorer.report
    assert split is not None
    native = scorer.executor == "native"
    tables, rows = ({}, {}) if user_side is None else (user_side.tables, user_side.raw_rows)
    flops, width = split.flops_per_item, split.bytes_per_item
    return {
        "num_items": items.num_items,
        "user": {
            "features": {name: _spec(spec) for name, spec in model.user_features.items()},
            "raw_integers": raw_integers,
            "raw_rows": rows,
            "mapped_tables": {name: each.shape.as_list() for name, each in tables.items()},
            "state": {name: _spec(spec) for name, spec in model.user_state.items()},
            "tensors": split.user_tensors,
            "flops": split.user_flops,
        },
        "item": {
            "dim": items.dim,
            "columns": split.item_columns,
            "table_bytes": 4 * split.table_width * items.num_items,
        },
        "tile": {"rows": scorer.tile_rows, "flops_per_item": flops, "bytes_per_item": width},
        "split_reason": split.reason,
        "executor": scorer.executor,
        "executor_reason": scorer.executor_reason,
        "left_out": list(scorer.left_out),
        "advice": None if native else _advice(scorer.executor_reason),
        "microseconds_per_item": microseconds_per_item(flops["after"], width["after"])
        if native and flops
        else _measured(frozen, sample, items),
    }


def _spec(spec: Any) -> str:
    return f"{spec.dtype.name} {spec.shape.as_list()}"


def _advice(reason: str | None) -> str:
    why = _NODE.sub("", reason or "")
    return next((text for words, text in _ADVICE.items() if re.search(words, why)), _NO_ADVICE)


def _measured(scorer: Scorer, sample: Sample, items: Items) -> float:
    """The microseconds that TensorFlow takes for an item, in a graph as a search calls it."""
    state = [tf.constant(value[0]) for value in sample.state.values()]
    rows = np.arange(_TILES * scorer.tile_rows) % items.num_items
    tiles = np.asarray(items.rows[rows], np.float32).reshape(_TILES, scorer.tile_rows, -1)
    spec = tf.TensorSpec([scorer.tile_rows], tf.float32)

    def score_tile(tile: tf.Tensor) -> tf.Tensor:
        return tf.reshape(scorer.function(*state, tile), [scorer.tile_rows])

    score = tf.function(
        lambda x: tf.map_fn(score_tile, x, fn_output_signature=spec),
        autograph=False,
    )
    inputs = tf.constant(tiles)
    score(inputs)
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        score(inputs)
        seconds.append(time.perf_counter() - start)
    return round(min(seconds) / rows.size * 1e6, 3)
