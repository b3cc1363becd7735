"""This project's walks, measured as the other libraries are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nann.bench.corpus import Corpus, Metric, Vectors
from nann.bench.exports import export_vectors
from nann.bench.peers.libraries import MOST_EFFORT, Positions
from nann.bench.requests import Request, retrieve_request
from nann.bench.targets import SavedModelTarget
from nann.export.manifest import read_manifest

BEAM_SEARCH = "Nann>BeamSearch"


@dataclass(frozen=True)
class Walk:
    """One of this project's walks.

    Attributes:
      tuning: fields of `nann.export.Tuning`.
      upper: beam of the entry points and of the levels above 0; the effort is the beam of level 0.
    """

    tuning: dict[str, Any]
    upper: int


WALKS = {
    # Three hops at level 0 reach little from few places: they start from more of them.
    "fixed beams": Walk({"walk": "fixed"}, 16),
    "adaptive walk": Walk({"walk": "adaptive"}, 4),
}


class NannPeer:
    """One of `WALKS`: an export over the graph of `Corpus.run`, in a session of this process."""

    def efforts(self, k: int) -> tuple[int, int]:
        return 1, MOST_EFFORT

    def __init__(
        self, corpus: Corpus, metric: Metric, walk: str = "fixed beams", *, m: int, ef_construction: int
    ) -> None:
        model_dir = export_vectors(
            corpus, metric, m=m, ef_construction=ef_construction, tuning=WALKS[walk].tuning
        )
        self.name = f"nann, {walk}"
        self._walk = WALKS[walk]
        self._target = SavedModelTarget(model_dir)
        self._hops_per_level = read_manifest(model_dir)["index"]["hops_per_level"]

    def search(self, queries: Vectors, k: int, effort: int) -> Positions:
        ids = self._target.outputs(self._request(queries, k, effort))["top_k"]
        # The corpus's ids are 3 x position + 7; the padding of -1 stays -1.
        return np.where(ids < 0, -1, (ids - 7) // 3)

    def kernel_seconds(self, queries: Vectors, k: int, effort: int) -> float:
        """Time inside the walk's op in one run."""
        return self._target.op_seconds(self._request(queries, k, effort), BEAM_SEARCH)

    def items_scored(self, queries: Vectors, k: int, effort: int) -> float:
        """Mean per query."""
        return float(self._target.outputs(self._request(queries, k, effort))["items_scored"].mean())

    def _request(self, queries: Vectors, k: int, effort: int) -> Request:
        above, level_0 = 1 + sum(self._hops_per_level[1:]), self._hops_per_level[0]
        beams = [self._walk.upper] * above + [effort] * level_0 + [k]
        return retrieve_request({"query": queries}, beams)
