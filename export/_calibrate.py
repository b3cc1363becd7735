"""Finding the narrowest beams that reach a target agreement with scoring every item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._precision import ANY_WORK
from nann.export._samples import Sample
from nann.export.agreement import overlap
from nann.export.scorer import Scorer
from nann.ops import IndexResource, beam_search, score_items
from nann.ops.index_meta import MAX_BEAM, IndexMeta

# Items per call: enough tiles for every thread, and a quarter of a megabyte of scores for each user.
_SCORED_AT_ONCE = 1 << 16
# Beams that are tried first: no walk finds much with less.
_LEAST_BEAM = 16


@dataclass(frozen=True)
class CalibrationReport:
    """The calibrated beams and what was measured with them.

    target:       the agreement that was asked for.
    agreement:    share of brute force's top k that the walk finds, mean over `users` sample users.
    items_scored: items scored per request, mean over `users`.
    """

    level_topn: list[int]
    target: float
    agreement: float
    items_scored: float
    users: int


def calibrate(
    index: IndexResource,
    scorer: Scorer,
    sample: Sample,
    level_topn: Sequence[int],
    *,
    target: float,
    item_ids: npt.NDArray[np.int64],
    on_progress: Callable[[int, int], None],
) -> CalibrationReport:
    """Find the narrowest beams of level 0 that reach `target`; the other beams and k stay.

    Raises InvalidInputError when the widest beams do not reach it.
    """
    expected = _brute_force(index, scorer, sample, int(level_topn[-1]), item_ids, on_progress)

    def measure(width: int) -> CalibrationReport:
        beams = with_level_0_beam(index.meta, level_topn, width)
        state = [tf.constant(value) for value in sample.state.values()]
        found = beam_search(
            index, state, np.asarray(beams, np.int32), max_work=ANY_WORK, **scorer.search_options()
        )
        agreement = overlap(found.ids.numpy(), expected)
        return CalibrationReport(beams, target, agreement, float(np.mean(found.items_scored)), sample.users)

    return narrowest(measure, target, min(item_ids.size, MAX_BEAM))


def with_level_0_beam(meta: IndexMeta, level_topn: Sequence[int], width: int) -> list[int]:
    """`level_topn` with every beam of level 0 at `width`."""
    beams = [int(beam) for beam in level_topn]
    hops = meta.hops_per_level[0]
    beams[-1 - hops : -1] = [width] * hops
    return beams


def narrowest(measure: Callable[[int], CalibrationReport], target: float, widest: int) -> CalibrationReport:
    """The least width whose agreement reaches `target`, within a twentieth, by doubling and bisection."""
    low, high = 0, _LEAST_BEAM
    best = measure(min(high, widest))
    while best.agreement < target:
        if high >= widest:
            raise InvalidInputError(
                f"target_agreement: expected {target} to be within reach of the walk, found that beams of "
                f"{widest:,} reach {best.agreement:.3f}, less than {target}. Build a denser graph "
                f"(nann index --m), or lower the target."
            )
        low, high = high, min(2 * high, widest)
        best = measure(high)
    while high - low > max(1, high // 20):
        middle = (low + high) // 2
        report = measure(middle)
        if report.agreement >= target:
            high, best = middle, report
        else:
            low = middle
    return best


def _brute_force(
    index: IndexResource,
    scorer: Scorer,
    sample: Sample,
    k: int,
    item_ids: npt.NDArray[np.int64],
    on_progress: Callable[[int, int], None],
) -> npt.NDArray[np.int64]:
    """Ids [B, k] of the best of all items, -1 where there are fewer; of equal scores the smaller id first."""
    state: list[Any] = [tf.constant(value) for value in sample.state.values()]
    best = np.zeros((sample.users, 0), np.int32)
    best_scores = np.zeros((sample.users, 0), np.float32)
    for start in range(0, item_ids.size, _SCORED_AT_ONCE):
        positions = np.arange(start, min(start + _SCORED_AT_ONCE, item_ids.size), dtype=np.int32)
        rows = np.broadcast_to(positions, (sample.users, positions.size))
        scores = score_items(index, state, rows, **scorer.scoring_options()).numpy()
        best = np.concatenate([best, rows], axis=1)
        best_scores = np.concatenate([best_scores, np.where(np.isnan(scores), -np.inf, scores)], axis=1)
        order = np.lexsort((item_ids[best], -best_scores), axis=1)[:, :k]
        best = np.take_along_axis(best, order, axis=1)
        best_scores = np.take_along_axis(best_scores, order, axis=1)
        on_progress(int(positions[-1]) + 1, item_ids.size)
    found: npt.NDArray[np.int64] = np.where(np.isneginf(best_scores), -1, item_ids[best])
    return found
