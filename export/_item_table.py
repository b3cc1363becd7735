"""The item table of a split scorer: computing it over the corpus, and checking that scores stay the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import VerificationError
from nann.export._assets import Assets, item_table_file
from nann.export._samples import Sample
from nann.export._verify import relative_difference
from nann.export.items import Items
from nann.export.scorer import ITEM_ROWS, SCORER_TABLE, Scorer
from nann.files import write_array_in_chunks
from nann.run.as_written import as_written

# Tiles per call of TensorFlow: with tiles of 128 items and 256 floats per item a call returns 16 MB.
_TILES_AT_ONCE = 128
# Spread over the corpus: enough to notice a wrong part of the table, few enough to take no time.
_COMPARED_ITEMS = 1024


def add_item_table(
    assets: Assets, items: Items, scorer: Scorer, on_progress: Callable[[int, int], None]
) -> None:
    """Write the item tables that the scorer reads beside item_embs into `assets`, in chunks of items."""
    rows, source = _TILES_AT_ONCE * scorer.tile_rows, items.rows

    def chunks() -> Iterator[npt.NDArray[Any]]:
        for start in range(0, items.num_items, rows):
            yield np.asarray(source[start : start + rows])

    def write(name: str, width: int, computed: Iterator[npt.NDArray[Any]]) -> None:
        assets.item_tables[name] = item_table_file(assets.folder, name)
        shape = (items.num_items, width)
        write_array_in_chunks(assets.item_tables[name], computed, dtype=np.float32, shape=shape)

    if ITEM_ROWS in scorer.item_tables:
        write(ITEM_ROWS, source.shape[1], chunks())
    if scorer.item_function is None:
        return
    width = scorer.item_function.outputs[0].shape[1]
    compute = _over_tiles(scorer, source.shape[1])

    def computed() -> Iterator[npt.NDArray[np.float32]]:
        tiles, done = np.zeros((rows, source.shape[1]), np.float32), 0
        for chunk in chunks():
            tiles[: len(chunk)] = chunk
            with as_written():
                result = compute(tiles.reshape(_TILES_AT_ONCE, scorer.tile_rows, source.shape[1])).numpy()
            yield result.reshape(rows, width)[: len(chunk)]
            done += len(chunk)
            on_progress(done, items.num_items)

    write(SCORER_TABLE, width, computed())


def check_split(
    before: Scorer, after: Scorer, sample: Sample, items: Items, tables: dict[str, npt.NDArray[Any]]
) -> float:
    """Compare scores before and after the split, for sample users and items from the whole corpus.

    Raises VerificationError when it is more than the scorer's tolerance.
    """
    positions = np.unique(np.linspace(0, items.num_items - 1, _COMPARED_ITEMS).astype(np.int64))
    worst = 0.0
    for user in range(sample.users):
        state = [tf.constant(value[user]) for value in sample.state.values()]
        with as_written():
            expected = _scores(before, state, positions, {before.item_tables[0]: items.rows})
            found = _scores(after, state, positions, tables)
        worst = max(worst, relative_difference(found, expected))
    if worst > before.tolerance:
        raise VerificationError(
            f"score: expected the split scorer to score as the model, found a difference of "
            f"{worst:.1e} of the largest score. Export with --no-split, and report this with the model."
        )
    return worst


def _over_tiles(scorer: Scorer, width: int) -> Any:
    """The item function over [_TILES_AT_ONCE, tile_rows, width], some tiles at the same time."""
    item_function = scorer.item_function
    assert item_function is not None
    tiles = tf.TensorSpec([_TILES_AT_ONCE, scorer.tile_rows, width], tf.float32)
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
