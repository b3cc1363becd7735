"""Choosing the precision that steers the walk, by measuring how many of float32's results it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from nann.errors import InvalidInputError, VerificationError
from nann.export._assets import item_table_file
from nann.export._options import ACCURACY, WantedPrecision
from nann.export._samples import Sample
from nann.export.agreement import overlap
from nann.export.items import CHUNK_ROWS
from nann.export.scorer import ITEM_ROWS, Scorer
from nann.files import write_array_in_chunks
from nann.ops import IndexResource, Precision, beam_search

Narrow = Literal["bfloat16", "float16"]
# Tried by "auto" in this order, the fastest first.
_NARROW: tuple[Narrow, ...] = ("bfloat16", "float16")
# A measurement may take more work than an export allows a request.
ANY_WORK = 2**40


@dataclass(frozen=True)
class PrecisionReport:
    """The chosen precision and the measurements behind it.

    precision:  of the walk: "bfloat16" for tables and products, "float16" for tables, or "float32".
    agreements: for each narrow precision that was tried, the share of float32's results that it found, mean
                over `users`.
    accuracy:   least share that was accepted.
    """

    precision: str
    agreements: dict[str, float] = field(default_factory=dict)
    users: int = 0
    accuracy: float = ACCURACY


def narrow_name(table: str, precision: Narrow) -> str:
    """The name of the copy of `table` in `precision`."""
    return f"{table}_{precision}"


def write_narrow_table(source: Path, target: Path, precision: Narrow) -> None:
    """Write a float table [N, W] as float16, or as bfloat16 in uint16, rounded to nearest, in chunks.

    Raises InvalidInputError, and writes nothing, when a number is too large for float16.
    """
    table = np.load(source, mmap_mode="r")
    chunks = [table[start : start + CHUNK_ROWS] for start in range(0, len(table), CHUNK_ROWS)]
    if precision == "float16":
        _check_float16(max(float(np.abs(chunk).max()) for chunk in chunks))
        write_array_in_chunks(target, chunks, dtype=np.float16, shape=table.shape)
    else:
        narrow = (tf.bitcast(tf.cast(chunk, tf.bfloat16), tf.uint16).numpy() for chunk in chunks)
        write_array_in_chunks(target, narrow, dtype=np.uint16, shape=table.shape)


def _check_float16(largest: float) -> None:
    bound = float(np.finfo(np.float16).max)
    if largest > bound:
        raise InvalidInputError(
            f"precision: expected numbers up to {bound:,.0f} in the scorer's tables, which is what float16 "
            f"holds, found {largest:,.0f}. Export with --precision bfloat16 or float32."
        )


def narrowed(scorer: Scorer, precision: Narrow) -> Scorer:
    """The same scorer with a walk over narrow tables; its results are scored again in float32.

    Raises InvalidInputError when TensorFlow runs the scorer, because its bfloat16 is slower than its float32,
    and for a distance computed where the items lie, because it would need tiles to read a narrow table.
    """
    if scorer.in_place:
        raise InvalidInputError(
            "precision: expected a scorer that runs in tiles, found a distance, which is computed in float32 "
            "where items lie. Export with --precision float32."
        )
    if ITEM_ROWS in scorer.item_tables:
        raise InvalidInputError(
            "precision: expected item state that became part of the item table, found a scorer that reads it "
            "as it is, which narrow numbers would change. Export with --precision float32."
        )
    if scorer.executor != "native":
        raise InvalidInputError(
            f"precision: expected a scorer that the native executor runs, found "
            f"{scorer.executor_reason or 'executor tensorflow'}. Export with --precision float32."
        )
    walk_tables = tuple(narrow_name(table, precision) for table in scorer.item_tables)
    products: Precision = "bfloat16" if precision == "bfloat16" else "float32"
    return replace(scorer, precision=products, walk_tables=walk_tables)


def choose_precision(
    scorer: Scorer,
    wanted: WantedPrecision,
    *,
    accuracy: float,
    tables: dict[str, Path],
    make_index: Callable[[Mapping[str, Path]], IndexResource],
    sample: Sample,
    level_topn: Any,
) -> tuple[Scorer, PrecisionReport]:
    """Measure and choose; the narrow tables of the choice are written beside the wide ones, into `tables`.

    Raises InvalidInputError when the wanted precision is not possible for this scorer, VerificationError when
    it finds less than `accuracy` of float32's results.
    """
    can_be_narrow = (
        scorer.executor == "native" and not scorer.in_place and ITEM_ROWS not in scorer.item_tables
    )
    if wanted == "float32" or (wanted == "auto" and not can_be_narrow):
        return scorer, PrecisionReport("float32", accuracy=accuracy)
    agreements: dict[str, float] = {}
    for precision in _NARROW if wanted == "auto" else (wanted,):
        narrow = narrowed(scorer, precision)
        try:
            added = _write_narrow_tables(scorer, precision, tables)
        except InvalidInputError:
            if wanted != "auto":
                raise
            continue
        index = make_index({**tables, **added})
        agreements[precision] = _agreement(index, scorer, narrow, sample, level_topn)
        if agreements[precision] >= accuracy:
            tables.update(added)
            return narrow, PrecisionReport(precision, agreements, sample.users, accuracy)
        for path in added.values():
            path.unlink()
    if wanted == "auto":
        return scorer, PrecisionReport("float32", agreements, sample.users, accuracy)
    raise VerificationError(
        f"precision: expected {wanted} to find {accuracy:.1%} of float32's results, found "
        f"{agreements[wanted]:.1%} for {sample.users} sample users. Lower --accuracy, or export with "
        f"--precision auto."
    )


def _write_narrow_tables(scorer: Scorer, precision: Narrow, tables: Mapping[str, Path]) -> dict[str, Path]:
    """Write the scorer's tables in `precision` beside the wide ones; returns them by name."""
    added = {}
    for table in scorer.item_tables:
        name = narrow_name(table, precision)
        added[name] = item_table_file(tables[table].parent, name)
        write_narrow_table(tables[table], added[name], precision)
    return added


def _agreement(index: IndexResource, wide: Scorer, narrow: Scorer, sample: Sample, level_topn: Any) -> float:
    state = [tf.constant(value) for value in sample.state.values()]
    beams = np.asarray(level_topn, np.int32)
    expected, found = (
        beam_search(index, state, beams, max_work=ANY_WORK, **scorer.search_options())
        for scorer in (wide, narrow)
    )
    return overlap(found.ids.numpy(), expected.ids.numpy())
