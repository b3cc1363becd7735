"""The narrowest beams that reach a wanted agreement with scoring every item."""

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
from nann.ops.index_meta import IndexMeta

_SCORED_AT_ONCE = 1 << 16
_MAX_BEAM = 65_536


@dataclass(frozen=True)
class CalibrationReport:
    """The beams found.

    agreement:    share of the brute force's top k that the walk found, mean over `users`.
    items_scored: mean over `users`.
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
    """Widen or narrow the beams of level 0 until `target` is just reached; the others and k stay.

    Raises InvalidInputError when even the widest beams do not reach it.
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

    return narrowest(measure, target, min(item_ids.size, _MAX_BEAM))


def with_level_0_beam(meta: IndexMeta, level_topn: Sequence[int], width: int) -> list[int]:
    """`level_topn` with every beam of level 0 at `width`."""
    beams = [int(beam) for beam in level_topn]
    hops = meta.hops_per_level[0]
    beams[-1 - hops : -1] = [width] * hops
    return beams


def narrowest(measure: Callable[[int], CalibrationReport], target: float, widest: int) -> CalibrationReport:
    """Doubling, then bisection to within a twentieth: the least width whose agreement reaches `target`."""
    low, high = 0, 16
    best = measure(min(high, widest))
    while best.agreement < target:
        if high >= widest:
            raise InvalidInputError(
                f"target_agreement: expected one that a walk reaches, found that beams of {widest:,} reach "
                f"{best.agreement:.3f}, less than {target}. Build a denser graph (nann index --m), or ask "
                f"for less."
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
    """Ids [B, k] of the best of all items, -1 where there are fewer; ties go to the smaller id."""
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
