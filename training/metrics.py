"""Figures of merit of retrieved lists."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Hits = npt.NDArray[np.bool_]
Ids = npt.NDArray[np.int64]

_RESAMPLES_AT_ONCE = 500


def top_k(scores: npt.NDArray[np.floating], ids: Ids, k: int, excluded: Hits) -> Ids:
    """The ids of the k best of `scores` [n], best first, without the `excluded` and NaN ones.

    Ties: the smaller id first, as in the walk. Fewer than k are returned when there are no more.
    """
    kept = np.flatnonzero(~excluded & ~np.isnan(scores))
    if len(kept) > k:
        # Everything at least as good as the k-th best, ties included, then in order.
        threshold = np.partition(scores[kept], len(kept) - k)[len(kept) - k]
        kept = kept[scores[kept] >= threshold]
    order = np.lexsort((ids[kept], -scores[kept]))[:k]
    return ids[kept[order]]


def ndcg(places: Floats) -> Floats:
    """The NDCG of lists [U] with one item to find: 1 / log2(2 + place), place from 0; 0 where it is infinite.

    Example:
      >>> ndcg(np.array([0.0, 2.0, np.inf])).tolist()
      [1.0, 0.5, 0.0]
    """
    return 1.0 / np.log2(2.0 + places)


def mean_interval(
    values: Floats, *, seed: int = 0, resamples: int = 10_000, confidence: float = 0.95
) -> tuple[float, float, float]:
    """The mean of `values` [U] and its percentile bootstrap interval over users.

    Returns:
      mean, lower end, upper end.
    """
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            values[
                rng.integers(0, len(values), (min(_RESAMPLES_AT_ONCE, resamples - start), len(values)))
            ].mean(axis=1)
            for start in range(0, resamples, _RESAMPLES_AT_ONCE)
        ]
    )
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(values.mean()), float(low), float(high)


def paired_ratio_interval(
    first: Hits, second: Hits, *, seed: int = 0, resamples: int = 10_000, confidence: float = 0.95
) -> tuple[float, float, float]:
    """mean(first) / mean(second) and its percentile bootstrap interval over users.

    Both are bool [U] of the same users; each resample draws U users with replacement and takes both values of
    each, so that what makes a user easy or hard for both cancels. A resample without any hit of `second`
    counts as infinite.

    Returns:
      ratio, lower end, upper end; NaN three times when there are no hits at all.
    """
    if not first.any() and not second.any():
        return np.nan, np.nan, np.nan
    pairs = np.stack([first, second], axis=1).astype(np.float64)
    ratios = _ratio(_resampled_sums(pairs, resamples, np.random.default_rng(seed)))
    tail = (1.0 - confidence) / 2
    # "lower" and "higher" never interpolate between a finite value and infinity.
    low, high = np.quantile(ratios, tail, method="lower"), np.quantile(ratios, 1.0 - tail, method="higher")
    return float(_ratio(pairs.sum(axis=0)[np.newaxis])[0]), float(low), float(high)


def _resampled_sums(pairs: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """[U, 2] -> [R, 2]: the sums of U rows drawn with replacement."""
    parts = [
        pairs[rng.integers(0, len(pairs), (min(_RESAMPLES_AT_ONCE, resamples - start), len(pairs)))].sum(
            axis=1
        )
        for start in range(0, resamples, _RESAMPLES_AT_ONCE)
    ]
    return np.concatenate(parts)


def _ratio(sums: Floats) -> Floats:
    """[R, 2] -> [R]; infinite where the second is 0 and the first is not, 1 where both are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = sums[:, 0] / sums[:, 1]
    return np.where(np.isnan(ratios), 1.0, ratios)
