"""The item table of a split scorer: computing it over the corpus, and checking that scores stay the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import VerificationError
from nann.export._assets import Assets
from nann.export._samples import Sample
from nann.export._verify import RELATIVE_TOLERANCE, relative_difference
from nann.export.items import Items
from nann.export.scorer import SCORER_TABLE, Scorer
from nann.files import write_array_in_chunks

# Tiles per call of TensorFlow: with tiles of 128 items and 256 floats per item a call returns 16 MB.
_TILES_AT_ONCE = 128
# Spread over the corpus: enough to notice a wrong part of the table, few enough to take no time.
_COMPARED_ITEMS = 1024


def add_item_table(
    assets: Assets, items: Items, scorer: Scorer, on_progress: Callable[[int, int], None]
) -> None:
    """Compute the item table of a scorer that has one into `assets`, a chunk of items at a time."""
    if scorer.item_function is None:
        return
    width = scorer.item_function.outputs[0].shape[1]
    compute = _over_tiles(scorer, items.dim)
    rows = _TILES_AT_ONCE * scorer.tile_rows

    def chunks() -> Iterator[npt.NDArray[np.float32]]:
        tiles = np.zeros((rows, items.dim), np.float32)
        for start, chunk in items.chunks(rows):
            tiles[: len(chunk)] = chunk
            computed = compute(tiles.reshape(_TILES_AT_ONCE, scorer.tile_rows, items.dim)).numpy()
            yield computed.reshape(rows, width)[: len(chunk)]
            on_progress(start + len(chunk), items.num_items)

    path = assets.folder / f"item_table_{SCORER_TABLE}.npy"
    write_array_in_chunks(path, chunks(), dtype=np.float32, shape=(items.num_items, width))
    assets.item_tables[SCORER_TABLE] = path


def check_split(
    before: Scorer, after: Scorer, sample: Sample, items: Items, tables: dict[str, npt.NDArray[Any]]
) -> float:
    """Compare scores before and after the split, for sample users and items from the whole corpus.

    Returns the largest difference, relative to the largest score. Raises VerificationError when it is larger
    than rounding in float32 explains.
    """
    positions = np.unique(np.linspace(0, items.num_items - 1, _COMPARED_ITEMS).astype(np.int64))
    worst = 0.0
    for user in range(sample.users):
        state = [tf.constant(value[user]) for value in sample.state.values()]
        expected = _scores(before, state, positions, {before.item_tables[0]: items.embs})
        found = _scores(after, state, positions, tables)
        worst = max(worst, relative_difference(found, expected))
    if worst > RELATIVE_TOLERANCE:
        raise VerificationError(
            f"score: expected the split scorer to score as the model, found a difference of "
            f"{worst:.1e} of the largest score. Export with --no-split, and report this with the model."
        )
    return worst


def _over_tiles(scorer: Scorer, dim: int) -> Any:
    """The item function over tiles [_TILES_AT_ONCE, tile_rows, D], several of them in parallel."""
    item_function = scorer.item_function
    assert item_function is not None
    tiles = tf.TensorSpec([_TILES_AT_ONCE, scorer.tile_rows, dim], tf.float32)
    rows = tf.TensorSpec(item_function.outputs[0].shape, tf.float32)
    return tf.function(
        lambda x: tf.map_fn(item_function, x, fn_output_signature=rows),
        input_signature=[tiles],
        autograph=False,
    )


def _scores(
    scorer: Scorer, state: list[tf.Tensor], positions: npt.NDArray[np.int64], tables: dict[str, Any]
) -> npt.NDArray[np.float32]:
    """Scores of items, in the tiles that a search would use for them."""
    user = state if scorer.user_function is None else scorer.user_function(*state)
    scores = np.empty(positions.size, np.float32)
    for start in range(0, positions.size, scorer.tile_rows):
        part = positions[start : start + scorer.tile_rows]
        tiles = []
        for name in scorer.item_tables:
            tile = np.zeros((scorer.tile_rows, tables[name].shape[1]), np.float32)
            tile[: part.size] = tables[name][part]
            tiles.append(tf.constant(tile))
        scores[start : start + part.size] = np.asarray(scorer.function(*user, *tiles)).reshape(-1)[
            : part.size
        ]
    return scores
