"""Whether a search may multiply in bfloat16: measured, not assumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from nann.errors import InvalidInputError, VerificationError
from nann.export._items import CHUNK_ROWS
from nann.export._samples import Sample
from nann.export._scorer import Scorer
from nann.ops._beam_search import beam_search
from nann.ops._index_resource import IndexResource

Wanted = Literal["auto", "float32", "bfloat16"]
ACCURACY = 0.99
ANY_WORK = 2**40  # A measurement may ask for more than a request.


@dataclass(frozen=True)
class PrecisionReport:
    """What was chosen and why.

    precision: of the walk's matrix products and tables.
    agreement: share of float32's results that bfloat16 found, mean over `users`; None: not measured.
    accuracy:  the least that was asked for.
    """

    precision: str
    agreement: float | None = None
    users: int = 0
    accuracy: float = ACCURACY


def narrow_name(table: str) -> str:
    """The name of a table's copy in bfloat16."""
    return f"{table}_bfloat16"


def write_narrow_table(source: Path, target: Path) -> None:
    """Write a float table [N, W] as bfloat16 in uint16, rounded to the nearest, a chunk at a time."""
    table = np.load(source, mmap_mode="r")
    file = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint16, shape=table.shape)
    for start in range(0, len(table), CHUNK_ROWS):
        chunk = tf.cast(np.asarray(table[start : start + CHUNK_ROWS]), tf.bfloat16)
        file[start : start + CHUNK_ROWS] = tf.bitcast(chunk, tf.uint16).numpy()
    file.flush()


def narrowed(scorer: Scorer) -> Scorer:
    """The scorer with products in bfloat16 over narrow tables, its results scored again in float32.

    Raises InvalidInputError when TensorFlow runs it, whose bfloat16 is slower than its float32.
    """
    if scorer.executor != "native":
        raise InvalidInputError(
            f"precision: expected a scorer that the native executor runs, found "
            f"{scorer.executor_reason or 'executor tensorflow'}. Export with --precision float32."
        )
    walk_tables = tuple(narrow_name(table) for table in scorer.item_tables)
    return replace(scorer, precision="bfloat16", walk_tables=walk_tables)


def choose_precision(
    scorer: Scorer,
    wanted: Wanted,
    *,
    accuracy: float,
    tables: dict[str, Path],
    make_index: Callable[[Mapping[str, Path]], IndexResource],
    sample: Sample,
    level_topn: Any,
) -> tuple[Scorer, PrecisionReport]:
    """Decide; with bfloat16 the narrow tables are added to `tables` and lie beside the wide ones.

    Raises InvalidInputError when bfloat16 is wanted and cannot be had, VerificationError when it finds less
    than `accuracy` of float32's results.
    """
    if wanted == "float32" or (wanted == "auto" and scorer.executor != "native"):
        return scorer, PrecisionReport("float32", accuracy=accuracy)
    narrow = narrowed(scorer)
    added = {
        narrow_name(table): tables[table].with_name(f"item_table_{narrow_name(table)}.npy")
        for table in scorer.item_tables
    }
    for table in scorer.item_tables:
        write_narrow_table(tables[table], added[narrow_name(table)])
    index = make_index({**tables, **added})
    agreement = _agreement(index, scorer, narrow, sample, level_topn)
    report = PrecisionReport("bfloat16", agreement, sample.users, accuracy)
    if agreement >= accuracy:
        tables.update(added)
        return narrow, report
    if wanted == "bfloat16":
        raise VerificationError(
            f"precision: expected bfloat16 to find {accuracy:.1%} of float32's results, found "
            f"{agreement:.1%} for {sample.users} sample users. Lower --accuracy, or export with "
            f"--precision auto."
        )
    for path in added.values():
        path.unlink()
    return scorer, replace(report, precision="float32")


def _agreement(index: IndexResource, wide: Scorer, narrow: Scorer, sample: Sample, level_topn: Any) -> float:
    state = [tf.constant(value) for value in sample.state.values()]
    beams = np.asarray(level_topn, np.int32)
    expected, found = (
        beam_search(index, state, beams, max_work=ANY_WORK, **each.search_options())
        for each in (wide, narrow)
    )
    return overlap(found.ids.numpy(), expected.ids.numpy())


def overlap(found: Any, expected: Any) -> float:
    """Mean share of the ids of each row of `expected` [B, k] that the row of `found` [B, k] holds too."""
    shares = [
        len(np.intersect1d(row, wanted[wanted >= 0])) / max((wanted >= 0).sum(), 1)
        for row, wanted in zip(found, expected, strict=True)
    ]
    return float(np.mean(shares))
