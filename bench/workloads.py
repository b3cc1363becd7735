"""Options, checks and results that all rows of docs/performance.md share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nann.bench.statistics import Ratio, Seconds

# Fewer items have no second level to walk.
_FEWEST_ITEMS = 3000


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How the rows are measured.

    Attributes:
      work: folder that keeps corpora, graphs and exports for later runs.
      scale: factor of the rows' numbers of items, to try the command; figures at less than 1 mean nothing.
      rounds: measurements of each candidate, interleaved.
      requests: requests per measurement.
      m, ef_construction: parameters of the graphs.
      seed: seed of the corpora and requests.
    """

    work: Path
    scale: float = 1.0
    rounds: int = 15
    requests: int = 20
    m: int = 32
    ef_construction: int = 100
    seed: int = 0

    def items(self, full: int) -> int:
        """The number of items at this scale for a row with `full` items."""
        return full if self.scale >= 1.0 else max(_FEWEST_ITEMS, round(full * self.scale))

    @property
    def graph(self) -> dict[str, int]:
        """The graphs' parameters, as arguments of `Corpus.run`."""
        return {"m": self.m, "ef_construction": self.ef_construction}


@dataclass(frozen=True)
class Check:
    """One figure and its target.

    Attributes:
      what: the figure in words.
      value, low, high: the figure and its 95 % interval; low and high are None without an interval.
      bound: the target.
      at_least: whether `bound` is the least (True) or the largest (False) value that meets the target.
      unit: "x" for a ratio, "%" for a share, "" for a plain number.
    """

    what: str
    value: float
    bound: float
    at_least: bool = True
    low: float | None = None
    high: float | None = None
    unit: str = "x"

    @property
    def holds(self) -> bool:
        """Whether the figure meets its target."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**asdict(self), "holds": self.holds}

    @classmethod
    def of(cls, what: str, ratio: Ratio, bound: float, *, at_least: bool = True) -> Check:
        """A check of a measured ratio."""
        return cls(what, ratio.value, bound, at_least, ratio.low, ratio.high)


@dataclass(frozen=True)
class Outcome:
    """The result of a row.

    Attributes:
      checks: the figures with a target.
      figures: all other figures by name, as numbers and short texts.
    """

    checks: Sequence[Check]
    figures: Mapping[str, float | str] = field(default_factory=dict)


def medians_ms(seconds: Mapping[str, Seconds], calls: int) -> dict[str, float]:
    """Median ms per call by candidate, for measurements of `calls` calls each."""
    return {f"{name}, ms": float(np.median(values)) / calls * 1e3 for name, values in seconds.items()}
