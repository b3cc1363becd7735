"""Finding the narrowest beams with which a walk agrees with scoring every item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._clock import ANY_WORK
from nann.export._samples import Sample
from nann.export.agreement import shares, worst_share
from nann.export.scorer import Scorer
from nann.ops import IndexResource, ProxyWalk, beam_search
from nann.ops.index_meta import MAX_BEAM, IndexMeta, level_0_beam, with_level_0_beam

# Beams that are tried first: no walk finds much with less.
_LEAST_BEAM = 16
# Requests ask for other k than the default one. A short list is not always found as well as a long one.
_OTHER_K = (10, 50)
# Where the mean user misses 2 %, the worst 5 % of users may miss 10 %.
_WORST_MISS = 5.0
# The same of the users that beams are chosen by: others are served a little worse.
_WORST_MISS_TUNED = 3.0
# And the least served of them: of other users, the least one may then miss ten times as much as the mean one.
_LEAST_MISS_TUNED = 8.0
# Of the proxy walk: widths of the survey, as multiples of the beam of level 0, and deviations.
_SURVEYS = (2, 4, 8, 16)
# Whether there are probes, and the patience of the rounds before them; the last one where the others do not
# reach the target. Where features explain nearly everything, the survey has all of the best: patience finds
# them, and slack does not.
_ROUNDS = (((False, 2), (True, 8)), ((True, 32),))
_SLACKS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
# Wider beams follow where these are not enough. Of one million items the widest survey from a beam of 200
# left a user with 0.89 of the best 200. Large scorers that were trained little need the widest beams; the
# adaptive walk then scores a hundred times as many items.
_BEAM_FACTORS = (2, 4, 8)
# A wider survey is worth a measurement where it scores less than this share of the items.
_FEWER = 0.95
# The last steps of slack score many items for little. Where the target is out of reach, agreement that is
# worse by up to this share of what the target lets a walk miss is as near.
_NEAR = 1 / 3
_AUTO = "Let the export choose the walk (--walk auto), or lower the target."
# Standard errors by which the mean must exceed the target: that of other users is then above it, mostly.
_STANDARD_ERRORS = 2.0
# Shares are quotients: (k - 1) / k may be less than 1 - 1 / k by a bit.
_ROUNDING = 1e-9
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

    @property
    def least(self) -> float:
        """That of the user who is served least, for the k that is found least."""
        return min(float(of_users.min()) for of_users in self.shares.values())

    def reaches(self, target: float) -> bool:
        """Whether the mean reaches `target`, and the worst 5 % of users miss at most five times as much."""
        return self.mean >= target and self.worst >= 1 - _WORST_MISS * (1 - target)

    def surplus(self, target: float) -> float:
        """By how much other users will reach `target`; below 0 they probably will not.

        Users that beams are chosen by are served a little better than others.
        """
        return min(_surplus(k, of_users, target) for k, of_users in self.shares.items())


def _surplus(k: int, of_users: npt.NDArray[np.float64], target: float) -> float:
    """`Agreement.surplus` of the best k alone, whose shares of users are given.

    One item of a short list is a large share: the user who is served least may miss one, and so may half of
    the worst users, as far as the target itself allows.
    """
    miss, one = 1 - target, 1 / k + _ROUNDING
    error = _STANDARD_ERRORS * float(of_users.std()) / float(np.sqrt(of_users.size))
    worst_miss = max(_WORST_MISS_TUNED * miss, min(_WORST_MISS * miss, one / 2))
    least_miss = max(_LEAST_MISS_TUNED * miss, one)
    return min(
        float(of_users.mean()) - error - target,
        worst_share(of_users) - (1 - worst_miss),
        float(of_users.min()) - (1 - least_miss),
    )


# What the proxy walk found with some setting.
Setting = tuple[Agreement, ProxyWalk]


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
        parts, self._items_scored = [], 0.0
        for start in range(0, sample.users, _USERS_AT_ONCE):
            users = sample.part(slice(start, start + _USERS_AT_ONCE))
            found = _search(index, exact, users, level_topn)
            parts.append(found.ids.numpy())
            self._items_scored += float(np.sum(found.items_scored)) / sample.users
            on_progress(min(start + _USERS_AT_ONCE, sample.users), sample.users)
        self._expected = np.concatenate(parts)

    def measure(self, scorer: Scorer, level_topn: Sequence[int]) -> Agreement:
        """The agreement of this walk with these beams, whose k is the truth's."""
        if scorer.score_all and scorer.precision == "float32" and not scorer.walk_tables:
            # The truth itself: of a million items and a large scorer it takes minutes.
            ids, items_scored = self._expected, self._items_scored
        else:
            found = _search(self._index, scorer, self._sample, level_topn)
            ids, items_scored = found.ids.numpy(), float(np.mean(found.items_scored))
        k = int(level_topn[-1])
        # Of no walk does the way depend on k: what it finds for a smaller k is the beginning of this.
        of_k = {each: shares(ids[:, :each], self._expected[:, :each]) for each in {*_OTHER_K, k} if each <= k}
        return Agreement([int(beam) for beam in level_topn], of_k, items_scored)


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
    truth: Truth, scorer: Scorer, meta: IndexMeta, level_topn: Sequence[int], target: float
) -> tuple[list[Setting], TargetOutOfReachError | None]:
    """Find the settings of the proxy walk that are worth a measurement of time.

    The narrowest survey that reaches `target` comes first. Each wider one that follows scores fewer items,
    but looks at more guesses: which is faster depends on what a score costs. Probes and patience need less
    slack, which may score fewer items or more. The beams stay, unless the widest survey is too narrow. Where
    nothing reaches the target: what comes near it, and an error.
    """
    walk = scorer.proxy
    assert walk is not None

    def measure(proxy: ProxyWalk, beams: Sequence[int]) -> Setting:
        return truth.measure(replace(scorer, proxy=proxy), beams), proxy

    found: list[Setting] = []
    widest: list[Setting] = []
    for beams, survey in _beams_and_surveys(meta, level_topn):
        widely = replace(walk, survey=survey, slack=_SLACKS[-1])
        reaching: list[Setting] = []
        for rounds in _ROUNDS:
            if not reaching:
                tried = [measure(replace(widely, probes=each, patience=most), beams) for each, most in rounds]
                widest += tried
                reaching = [each for each in tried if each[0].surplus(target) >= 0]
        reaching = [_least_slack(measure, each, target, 0.0) for each in reaching]
        if reaching:
            fewest = min(reaching, key=lambda each: each[0].items_scored)
            if found and fewest[0].items_scored > _FEWER * found[-1][0].items_scored:
                break
            found.append(fewest)
    if found:
        return found, None
    best = max(widest, key=lambda each: each[0].surplus(target))
    least_surplus = best[0].surplus(target) - _NEAR * (1 - target)
    nearest = _least_slack(measure, best, target, least_surplus)
    message = _out_of_reach(target, "the widest survey reaches", best[0], _AUTO)
    return [nearest], TargetOutOfReachError(message, nearest[0])


def _beams_and_surveys(meta: IndexMeta, level_topn: Sequence[int]) -> list[tuple[Sequence[int], int]]:
    """What the proxy walk is tried with: wider and wider surveys, at last with wider beams."""
    tried = [(level_topn, survey) for survey in _SURVEYS]
    beam, most = level_0_beam(meta, level_topn), min(meta.num_items, MAX_BEAM)
    widths = dict.fromkeys(min(factor * beam, most) for factor in _BEAM_FACTORS)
    return [*tried, *((with_level_0_beam(meta, level_topn, width), _SURVEYS[-1]) for width in widths)]


def _least_slack(
    measure: Callable[[ProxyWalk, Sequence[int]], Setting], best: Setting, target: float, least_surplus: float
) -> Setting:
    """The least of `_SLACKS` that leaves so much surplus, by bisection; the slack of `best` does."""
    low, high = -1, _SLACKS.index(best[1].slack)
    while high - low > 1:
        middle = (low + high) // 2
        found = measure(replace(best[1], slack=_SLACKS[middle]), best[0].level_topn)
        if found[0].surplus(target) >= least_surplus:
            high, best = middle, found
        else:
            low = middle
    return best


def _out_of_reach(target: float, widest: str, found: Agreement, advice: str) -> str:
    if found.mean < target:
        reached = f"{found.mean:.3f}, less than {target}"
    else:
        reached = (
            f"{found.mean:.3f}, too little above it, {found.worst:.3f} for the worst 5 % of users, and "
            f"{found.least:.3f} for the worst one"
        )
    return (
        f"target_agreement: expected {target} to be within reach of the walk, found that {widest} "
        f"{reached}. {advice}"
    )


def narrowest(
    measure: Callable[[int], Agreement], target: float, widest: int, advice: str = "Lower the target."
) -> Agreement:
    """The least width whose agreement reaches `target`, within a twentieth, by doubling and bisection."""
    low, high = 0, min(_LEAST_BEAM, widest)
    best = nearest = measure(high)
    while best.surplus(target) < 0:
        if high >= widest:
            message = _out_of_reach(target, f"beams of {widest:,} reach", best, advice)
            raise TargetOutOfReachError(message, nearest)
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
