"""The parameters of the proxy walk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Items that are scored at once, and the survey's width in beams: 800 for the default beam of 200.
DEFAULT_BATCH, DEFAULT_SURVEY = 48, 4


@dataclass(frozen=True, kw_only=True)
class ProxyWalk:
    """How a search guesses scores before it scores (docs/design.md, "The search").

    features: item table, float16 or float32 [N, C], C a multiple of 16: column 0 is an item's mean
              standardized score, the others are its features.
    samples:  int64 table, ascending: group x N + position of the items that are looked at first. Group 0 are
              the anchors, which are all scored. Each other group is a cluster of items, of which the best by
              the first guess is scored.
    noise:    variance of a standardized score that the features do not explain, above 0.
    survey:   width of the survey, as a multiple of the widest beam of level 0.
    slack:    how many deviations the guess for a neighbour may lie below the k-th score, and the neighbour is
              still scored.
    batch:    items that are scored at once.
    patience: rounds end where fewer than one of so many scores is a result; with probes or a filter, than one
              of 8 or more.
    probes:   whether searches without a filter go on longer, and score items far from all that were scored,
              as those with a filter do; all surveys then start from all samples.

    Example:
      >>> ProxyWalk(features="proxy_features", samples="proxy_samples", noise=0.01).batch
      48
    """

    features: str
    samples: str
    noise: float
    survey: int = DEFAULT_SURVEY
    slack: float = 1.0
    batch: int = DEFAULT_BATCH
    patience: int = 2
    probes: bool = False

    def attributes(self) -> dict[str, Any]:
        """Attributes of the op `Nann>BeamSearch`."""
        return {
            "proxy_features": self.features,
            "proxy_samples": self.samples,
            "proxy_noise": self.noise,
            "proxy_survey": self.survey,
            "proxy_slack": self.slack,
            "proxy_batch": self.batch,
            "proxy_patience": self.patience,
            "proxy_probes": self.probes,
        }
