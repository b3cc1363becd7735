"""Features of items from which the proxy walk guesses scores (docs/design.md, "The search").

The scores of some sample users over all items are decomposed: an item's row is its mean score and its share
in the directions in which users differ most. A user's scores are then nearly a linear function of these rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.export._assets import Assets, item_table_file, user_table_file
from nann.export._samples import Sample
from nann.export.decomposition import decompose
from nann.export.index.proxy_oracle import ProxyTables
from nann.export.proxy_samples import FEATURES, SAMPLES, proxy_samples
from nann.export.scorer import Scorer
from nann.files import write_array_in_chunks
from nann.ops import IndexResource, ProxyWalk, score_items

# Users whose scores are decomposed. With 128 a walk scores a fifth more items; more gain nothing.
SAMPLE_USERS = 256
# Columns of an item's row: its mean and 63 features, two cache lines in float16. With 32 a walk scores a
# fifth more items, and an unusual user may be lost.
COLUMNS = 64
# Items per call: 256 users' scores of them take 16 MB.
_ITEMS_AT_ONCE = 16_384


def add_proxy(
    assets: Assets,
    index: IndexResource,
    scorer: Scorer,
    sample: Sample,
    *,
    columns: int = COLUMNS,
    decomposition: Path | None = None,
    on_progress: Callable[[int, int], None],
) -> ProxyWalk:
    """Write the tables that the proxy walk reads into `assets`, and describe the walk.

    sample:        users that take no part in any other choice or measurement of the export.
    decomposition: file to write for those who compute the rows of items that are inserted later.

    Raises InvalidInputError when the scores of all users are constant.
    """
    embs = np.load(assets.item_tables["item_embs"], mmap_mode="r")
    with tempfile.TemporaryFile(dir=assets.folder) as file:
        shape = (len(embs), sample.users)
        scores = np.memmap(file, np.float32, "w+", shape=shape)
        for start, block in _score_all(index, scorer, sample, len(embs)):
            scores[start : start + len(block)] = block
            on_progress(start + len(block), len(embs))
        decomposed = decompose(lambda: _chunks(scores), len(embs), columns)
        if decomposition is not None:
            decomposed.save(decomposition, sample.state)
        path = item_table_file(assets.folder, FEATURES)
        rows = (decomposed.rows(chunk) for chunk in _chunks(scores))
        write_array_in_chunks(path, rows, dtype=np.float16, shape=(len(embs), columns))
    assets.item_tables[FEATURES] = path
    assets.user_tables[SAMPLES] = user_table_file(assets.folder, SAMPLES)
    np.save(assets.user_tables[SAMPLES], proxy_samples(embs))
    return ProxyWalk(features=FEATURES, samples=SAMPLES, noise=decomposed.noise)


def remove_proxy(assets: Assets) -> None:
    """Delete what `add_proxy` has added."""
    assets.item_tables.pop(FEATURES).unlink()
    assets.user_tables.pop(SAMPLES).unlink()


def open_proxy_tables(walk: ProxyWalk, assets_dir: Path) -> ProxyTables:
    """The tables of an export's proxy walk, mapped."""
    features = np.load(item_table_file(assets_dir, walk.features), mmap_mode="r")
    return ProxyTables(walk, features, np.load(user_table_file(assets_dir, walk.samples)))


def _score_all(
    index: IndexResource, scorer: Scorer, sample: Sample, num_items: int
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """(first position, scores float32 [<= _ITEMS_AT_ONCE, T]) of all items."""
    state = [tf.constant(value) for value in sample.state.values()]
    for start in range(0, num_items, _ITEMS_AT_ONCE):
        positions = np.arange(start, min(start + _ITEMS_AT_ONCE, num_items), dtype=np.int32)
        rows = np.broadcast_to(positions, (sample.users, positions.size))
        yield start, score_items(index, state, rows, **scorer.scoring_options()).numpy().T


def _chunks(scores: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    for start in range(0, len(scores), _ITEMS_AT_ONCE):
        yield np.asarray(scores[start : start + _ITEMS_AT_ONCE])
