"""Choosing the precision that steers the walk, by measuring how many of float32's results it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from nann.errors import InvalidInputError, VerificationError
from nann.export._assets import item_table_file
from nann.export._clock import ANY_WORK, EQUAL_TIMES, milliseconds
from nann.export._narrow_rows import NARROW, Narrow, check_fits, narrow_name, narrow_rows, narrow_shape
from nann.export._options import ACCURACY, WantedPrecision
from nann.export._samples import Sample
from nann.export.agreement import overlap
from nann.export.items import CHUNK_ROWS
from nann.export.scorer import ITEM_ROWS, Scorer
from nann.files import write_array_in_chunks
from nann.ops import IndexResource, Precision, beam_search

# By the bytes that a walk reads. Of precisions that take as long, the narrowest leaves the most memory.
_BY_SIZE = ("int8", "bfloat16", "float16", "float32")
_STORED = {"bfloat16": np.uint16, "float16": np.float16, "int8": np.uint8}


@dataclass(frozen=True)
class PrecisionReport:
    """The chosen precision and the measurements behind it.

    precision:    of the walk: "bfloat16" for tables and products, "float16" for tables, "int8" for tables
                  with products of bfloat16, or "float32".
    agreements:   for each narrow precision that was tried, the share of float32's results that it found, mean
                  over `users`.
    users:        sample users.
    accuracy:     least share that was accepted.
    milliseconds: of a request of one user, by each precision that "auto" chose from.
    """

    precision: str
    agreements: dict[str, float] = field(default_factory=dict)
    users: int = 0
    accuracy: float = ACCURACY
    milliseconds: dict[str, float] = field(default_factory=dict)


def write_narrow_table(source: Path, target: Path, precision: Narrow) -> None:
    """Write a float table [N, W] as `narrow_rows` of `precision`, in chunks.

    Raises InvalidInputError, and writes nothing, when a number is too large for `precision`.
    """
    table = np.load(source, mmap_mode="r")
    chunks = [table[start : start + CHUNK_ROWS] for start in range(0, len(table), CHUNK_ROWS)]
    if precision != "bfloat16":
        for chunk in chunks:
            check_fits(chunk, precision)
    narrow = (narrow_rows(chunk, precision) for chunk in chunks)
    shape = narrow_shape(table.shape, precision)
    write_array_in_chunks(target, narrow, dtype=_STORED[precision], shape=shape)


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
    products: Precision = "float32" if precision == "float16" else "bfloat16"
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

    "auto" takes the fastest by the clock of float32 and those that find `accuracy` of float32's results.
    Raises InvalidInputError when the wanted precision is not possible for this scorer, VerificationError when
    it finds less than `accuracy` of float32's results.
    """
    can_be_narrow = (
        scorer.executor == "native" and not scorer.in_place and ITEM_ROWS not in scorer.item_tables
    )
    if wanted == "float32" or (wanted == "auto" and not can_be_narrow):
        return scorer, PrecisionReport("float32", accuracy=accuracy)
    trial = _Trial(scorer, accuracy, tables, make_index, sample, level_topn)
    return trial.auto() if wanted == "auto" else trial.one(wanted)


def fastest_precision(milliseconds: Mapping[str, float]) -> str:
    """The precision of the least time; of those as good as equal, the one whose rows are the smallest.

    Example:
      >>> fastest_precision({"float32": 1.0, "bfloat16": 0.7, "int8": 0.71})
      'int8'
    """
    limit = EQUAL_TIMES * min(milliseconds.values())
    return next(name for name in _BY_SIZE if milliseconds.get(name, limit + 1) <= limit)


def in_float32(scorer: Scorer) -> Scorer:
    """The scorer of a narrow walk, with a walk over the wide tables."""
    return replace(scorer, precision="float32", walk_tables=())


def remove_narrow(scorer: Scorer, tables: dict[str, Path]) -> None:
    """Delete the narrow tables of `scorer` from the disk and from `tables`."""
    _remove({name: tables.pop(name) for name in scorer.walk_tables})


@dataclass
class _Trial:
    """Walks in narrow precisions; `written` are the tables of those that are accurate enough."""

    scorer: Scorer
    accuracy: float
    tables: dict[str, Path]
    make_index: Callable[[Mapping[str, Path]], IndexResource]
    sample: Sample
    level_topn: Any
    agreements: dict[str, float] = field(default_factory=dict)
    written: dict[str, dict[str, Path]] = field(default_factory=dict)

    def one(self, precision: Narrow) -> tuple[Scorer, PrecisionReport]:
        """The scorer in this precision."""
        if self._finds_enough(precision):
            return self._choose(precision, {})
        raise VerificationError(
            f"precision: expected {precision} to find {self.accuracy:.1%} of float32's results, found "
            f"{self.agreements[precision]:.1%} for {self.sample.users} sample users. Lower --accuracy, or "
            f"export with --precision auto."
        )

    def auto(self) -> tuple[Scorer, PrecisionReport]:
        """The scorer in the fastest precision that is accurate enough."""
        accurate = list(filter(self._may_take, NARROW))
        if not accurate:
            return self._choose("float32", {})
        times = self._milliseconds("float32", *accurate)
        return self._choose(fastest_precision(times), times)

    def _may_take(self, precision: Narrow) -> bool:
        try:
            return self._finds_enough(precision)
        except InvalidInputError:
            return False

    def _finds_enough(self, precision: Narrow) -> bool:
        narrow = narrowed(self.scorer, precision)
        added = self._write(precision)
        index = self.make_index({**self.tables, **added})
        self.agreements[precision] = _agreement(index, self.scorer, narrow, self.sample, self.level_topn)
        if self.agreements[precision] >= self.accuracy:
            self.written[precision] = added
            return True
        _remove(added)
        return False

    def _write(self, precision: Narrow) -> dict[str, Path]:
        """Write the scorer's tables in `precision` beside the wide ones; returns them by name."""
        added = {}
        for table in self.scorer.item_tables:
            name = narrow_name(table, precision)
            added[name] = item_table_file(self.tables[table].parent, name)
            write_narrow_table(self.tables[table], added[name], precision)
        return added

    def _milliseconds(self, *precisions: str) -> dict[str, float]:
        added = {name: path for each in self.written.values() for name, path in each.items()}
        walks = {each: (self._scorer_in(each), self.level_topn) for each in precisions}
        return milliseconds(self.make_index({**self.tables, **added}), self.sample, walks)

    def _scorer_in(self, precision: Any) -> Scorer:
        return self.scorer if precision == "float32" else narrowed(self.scorer, precision)

    def _choose(self, precision: str, times: dict[str, float]) -> tuple[Scorer, PrecisionReport]:
        for each, added in self.written.items():
            if each == precision:
                self.tables.update(added)
            else:
                _remove(added)
        report = PrecisionReport(precision, self.agreements, self.sample.users, self.accuracy, times)
        return self._scorer_in(precision), report


def _remove(tables: Mapping[str, Path]) -> None:
    for path in tables.values():
        path.unlink()


def _agreement(index: IndexResource, wide: Scorer, narrow: Scorer, sample: Sample, level_topn: Any) -> float:
    state = [tf.constant(value) for value in sample.state.values()]
    beams = np.asarray(level_topn, np.int32)
    expected, found = (
        beam_search(index, state, beams, max_work=ANY_WORK, **scorer.search_options())
        for scorer in (wide, narrow)
    )
    return overlap(found.ids.numpy(), expected.ids.numpy())
