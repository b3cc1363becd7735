"""What every row of the table of docs/performance.md is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nann.bench._statistics import Ratio, Seconds

_FEWEST_ITEMS = 3000


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """How the rows are measured.

    Attributes:
      work: folder in which corpora, graphs and exports are kept; a later run finds them there.
      scale: share of the rows' numbers of items, to try the command; figures of less than 1 mean nothing.
      rounds: measurements of each candidate, interleaved.
      requests: requests in a measurement.
      m, ef_construction: of the graphs.
      seed: of the corpora and requests.
    """

    work: Path
    scale: float = 1.0
    rounds: int = 15
    requests: int = 20
    m: int = 32
    ef_construction: int = 100
    seed: int = 0

    def items(self, full: int) -> int:
        """How many items a row takes that asks for `full`."""
        return full if self.scale >= 1.0 else max(_FEWEST_ITEMS, round(full * self.scale))

    @property
    def graph(self) -> dict[str, int]:
        """Arguments of a graph."""
        return {"m": self.m, "ef_construction": self.ef_construction}


@dataclass(frozen=True)
class Check:
    """One figure and what was asked of it.

    Attributes:
      what: in words.
      value, low, high: the figure and its 95 % interval; without one all are the same.
      bound: what was asked for.
      at_least: whether the figure must reach the bound, or must not exceed it.
      unit: "x" for a ratio, "%" for a share.
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
        """Whether the figure is as asked for."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}

    @classmethod
    def of(cls, what: str, ratio: Ratio, bound: float, *, at_least: bool = True) -> Check:
        """A check of a measured ratio."""
        return cls(what, ratio.value, bound, at_least, ratio.low, ratio.high)


@dataclass(frozen=True)
class Outcome:
    """What a row found.

    Attributes:
      checks: what was asked for.
      figures: everything else that was measured, by name: numbers and short texts.
    """

    checks: Sequence[Check]
    figures: Mapping[str, float | str] = field(default_factory=dict)


def medians_ms(seconds: Mapping[str, Seconds], calls: int) -> dict[str, float]:
    """Median ms of one call by candidate."""
    return {f"{name}, ms": float(np.median(values)) / calls * 1e3 for name, values in seconds.items()}
