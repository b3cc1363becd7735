"""Scores of a small random corpus by the op that scores items."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import nann.ops
from nann.export.scorer import SplitScorer
from support.graphs import random_corpus

TILE_ROWS, ITEMS = 7, 24


def scores_of(
    result: SplitScorer,
    state: list[Any],
    program: bytes,
    order: Sequence[int] = range(ITEMS),
    *,
    function: Any = None,
) -> Any:
    """Scores [users, items] of a split scorer, by the op that runs its functions or a program.

    state: tensors of some users, [users, ...] each.
    program: empty: its functions.
    order: of the items.
    function: what TensorFlow computes before the program; None: the whole scorer, in place of it.
    """
    corpus = random_corpus(1, num_items=ITEMS, degree=3, sparsity=0.0)
    width = (
        result.item_function.inputs[0].shape[1]
        if result.item_function
        else result.function.inputs[-1].shape[1]
    )
    embs = np.random.default_rng(2).normal(size=(ITEMS, width)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        files = corpus.write(Path(folder))
        tables = {"item_embs": embs}
        if result.item_function is not None:
            tiles = np.concatenate([embs, embs])[: -(-ITEMS // TILE_ROWS) * TILE_ROWS].reshape(
                -1, TILE_ROWS, width
            )
            tables["scorer"] = np.concatenate(
                [np.asarray(result.item_function(tf.constant(t))) for t in tiles]
            )[:ITEMS]
        for name, table in tables.items():
            np.save(Path(folder) / f"{name}.npy", table)
        files["item_tables"] = {name: Path(folder) / f"{name}.npy" for name in tables}
        return nann.ops.score_items(
            nann.ops.IndexResource(**files),
            state,
            np.tile(np.asarray(order, np.int32), (2, 1)),
            scorer=function or result.function,
            user_functions=[] if result.user_function is None else [result.user_function],
            item_tables=result.item_tables,
            tile_rows=TILE_ROWS,
            program=program,
        ).numpy()
