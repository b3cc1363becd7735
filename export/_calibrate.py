"""Finding the narrowest beams with which a walk agrees with scoring every item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._precision import ANY_WORK
from nann.export._samples import Sample
from nann.export.agreement import shares, worst_share
from nann.export.scorer import Scorer
from nann.ops import IndexResource, ProxyWalk, beam_search
from nann.ops.index_meta import MAX_BEAM, IndexMeta, with_level_0_beam

# Beams that are tried first: no walk finds much with less.
_LEAST_BEAM = 16
# Requests ask for other k than the default one. A short list is not always found as well as a long one.
_OTHER_K = (10, 50)
# Where the mean user misses 2 %, the worst 5 % of users may miss 10 %.
_WORST_MISS = 5.0
# The same of the users that beams are chosen by: others are served a little worse.
_WORST_MISS_TUNED = 3.0
# Of the proxy walk: widths of the survey, as multiples of the beam of level 0, and deviations.
_SURVEYS = (2, 4, 8, 16)
_SLACKS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
_AUTO = "Let the export choose the walk (--walk auto), or lower the target."
# Standard errors by which the mean must exceed the target: that of other users is then above it, mostly.
_STANDARD_ERRORS = 2.0
# Users at a time that every item is scored for: the cores share them, and progress is seen.
_USERS_AT_ONCE = 8


@dataclass(frozen=True)
class Agreement:
    """How well a walk with some beams agrees with scoring every item, for a group of B users.

    shares:       for each k, the share of the best k of each user that the walk finds, [B].
    items_scored: items scored per request, mean over users.
    """

    level_topn: list[int]
    shares: dict[int, npt.NDArray[np.float64]]
    items_scored: float

    @property
    def mean(self) -> float:
        """Mean over users, for the k that is found least."""
        return min(float(of_users.mean()) for of_users in self.shares.values())

    @property
    def worst(self) -> float:
        """Mean over the worst 5 % of users, for the k that is found least."""
        return min(worst_share(of_users) for of_users in self.shares.values())

    def reaches(self, target: float) -> bool:
        """Whether the mean reaches `target`, and the worst 5 % of users miss at most five times as much."""
        return self.mean >= target and self.worst >= 1 - _WORST_MISS * (1 - target)

    def surplus(self, target: float) -> float:
        """By how much other users will reach `target`; below 0 they probably will not.

        Users that beams are chosen by are served a little better than others.
        """
        cautious = min(float(each.mean() - _standard_errors(each)) for each in self.shares.values())
        return min(cautious - target, self.worst - (1 - _WORST_MISS_TUNED * (1 - target)))


def _standard_errors(of_users: npt.NDArray[np.float64]) -> float:
    return _STANDARD_ERRORS * float(of_users.std()) / float(np.sqrt(of_users.size))


class TargetOutOfReachError(InvalidInputError):
    """No beams reach the target. `best` are those that came nearest."""

    def __init__(self, message: str, best: Agreement) -> None:
        super().__init__(message)
        self.best = best


class Truth:
    """Measures walks for a group of users, against the best of all items, which are scored once.

    scorer: its float32 scores are the truth.
    """

    def __init__(
        self,
        index: IndexResource,
        scorer: Scorer,
        sample: Sample,
        level_topn: Sequence[int],
        on_progress: Callable[[int, int], None],
    ) -> None:
        self._index, self._sample = index, sample
        exact = replace(scorer, walk_tables=(), precision="float32", score_all=True)
        parts = []
        for start in range(0, sample.users, _USERS_AT_ONCE):
            users = sample.part(slice(start, start + _USERS_AT_ONCE))
            parts.append(_search(index, exact, users, level_topn).ids.numpy())
            on_progress(min(start + _USERS_AT_ONCE, sample.users), sample.users)
        self._expected = np.concatenate(parts)

    def measure(self, scorer: Scorer, level_topn: Sequence[int]) -> Agreement:
        """The agreement of this walk with these beams, whose k is the truth's."""
        found = _search(self._index, scorer, self._sample, level_topn)
        ids, k = found.ids.numpy(), int(level_topn[-1])
        # Of no walk does the way depend on k: what it finds for a smaller k is the beginning of this.
        of_k = {each: shares(ids[:, :each], self._expected[:, :each]) for each in {*_OTHER_K, k} if each <= k}
        return Agreement([int(beam) for beam in level_topn], of_k, float(np.mean(found.items_scored)))


def _search(index: IndexResource, scorer: Scorer, sample: Sample, level_topn: Sequence[int]) -> Any:
    state = [tf.constant(value) for value in sample.state.values()]
    beams = np.asarray(level_topn, np.int32)
    return beam_search(index, state, beams, max_work=ANY_WORK, **scorer.search_options())


def calibrate(
    truth: Truth, scorer: Scorer, meta: IndexMeta, level_topn: Sequence[int], *, target: float, advice: str
) -> Agreement:
    """Find the narrowest beams of level 0 that reach `target`; the other beams and k stay.

    Raises TargetOutOfReachError, which ends with `advice`, when the widest beams do not reach it.
    """

    def measure(width: int) -> Agreement:
        return truth.measure(scorer, with_level_0_beam(meta, level_topn, width))

    return narrowest(measure, target, min(meta.num_items, MAX_BEAM), advice)


def calibrate_proxy(
    truth: Truth, scorer: Scorer, level_topn: Sequence[int], target: float
) -> tuple[Agreement, ProxyWalk, TargetOutOfReachError | None]:
    """Find the cheapest survey that reaches `target`, and what else scores the fewest items; the beams stay.

    With probes less slack is needed, which may score fewer items or more. Returns the nearest setting and an
    error where none reaches the target.
    """
    assert scorer.proxy is not None
    nearest: tuple[Agreement, ProxyWalk] | None = None
    for survey in _SURVEYS:
        reaching = []
        for probes in (False, True):
            proxy = replace(scorer.proxy, survey=survey, slack=_SLACKS[-1], probes=probes)
            found = truth.measure(replace(scorer, proxy=proxy), level_topn)
            if found.surplus(target) >= 0:
                reaching.append(_least_slack(truth, scorer, proxy, level_topn, target, found))
            if nearest is None or found.surplus(target) > nearest[0].surplus(target):
                nearest = found, proxy
        if reaching:
            return *min(reaching, key=lambda each: each[0].items_scored), None
    assert nearest is not None
    text = f"found that its widest survey reaches {nearest[0].mean:.3f}"
    message = f"target_agreement: expected {target} to be within reach of the proxy walk, {text}. {_AUTO}"
    return *nearest, TargetOutOfReachError(message, nearest[0])


def _least_slack(
    truth: Truth, scorer: Scorer, proxy: ProxyWalk, level_topn: Sequence[int], target: float, best: Agreement
) -> tuple[Agreement, ProxyWalk]:
    """The least of `_SLACKS` that reaches `target`, by bisection; the proxy's own reaches it with `best`."""
    low, high = -1, _SLACKS.index(proxy.slack)
    while high - low > 1:
        middle = (low + high) // 2
        tried = replace(proxy, slack=_SLACKS[middle])
        found = truth.measure(replace(scorer, proxy=tried), level_topn)
        if found.surplus(target) >= 0:
            high, best, proxy = middle, found, tried
        else:
            low = middle
    return best, proxy


def _out_of_reach(target: float, widest: int, found: Agreement, advice: str) -> str:
    if found.mean < target:
        reached = f"{found.mean:.3f}, less than {target}"
    else:
        reached = f"{found.mean:.3f}, too little above it, and {found.worst:.3f} for the worst 5 % of users"
    return (
        f"target_agreement: expected {target} to be within reach of the walk, found that beams of {widest:,} "
        f"reach {reached}. {advice}"
    )


def narrowest(
    measure: Callable[[int], Agreement], target: float, widest: int, advice: str = "Lower the target."
) -> Agreement:
    """The least width whose agreement reaches `target`, within a twentieth, by doubling and bisection."""
    low, high = 0, min(_LEAST_BEAM, widest)
    best = nearest = measure(high)
    while best.surplus(target) < 0:
        if high >= widest:
            raise TargetOutOfReachError(_out_of_reach(target, widest, best, advice), nearest)
        low, high = high, min(2 * high, widest)
        best = measure(high)
        if best.surplus(target) > nearest.surplus(target):
            nearest = best
    while high - low > max(1, high // 20):
        middle = (low + high) // 2
        agreement = measure(middle)
        if agreement.surplus(target) >= 0:
            high, best = middle, agreement
        else:
            low = middle
    return best
