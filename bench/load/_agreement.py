"""Agreement of the walk's answers with brute force by the same scorer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nann.bench.requests import BEAMS, EXCLUDED, NO_ID, SCORE, Arrays, Request
from nann.bench.targets import Target
from nann.errors import InvalidInputError
from nann.export.agreement import overlap, score_every_item
from nann.training.metrics import top_k

Ids = npt.NDArray[np.int64]


class BruteForce:
    """The best items for the users of some requests, by the model's signature `score`."""

    def __init__(self, target: Target, requests: Sequence[Request], item_ids: Ids) -> None:
        """Score all `item_ids` for every user; holds users x N scores.

        Requests that score given items are left out.
        """
        self._target = target
        self._requests = [request for request in requests if request.signature != SCORE]
        self._item_ids = np.asarray(item_ids)
        self._scores = [self._every_score(request) for request in self._requests]

    def agreement(self, level_topn: Sequence[int]) -> float:
        """Mean share of brute force's top k that the walk with these beams finds too."""
        found: list[Ids] = []
        best: list[Ids] = []
        for request, scores in zip(self._requests, self._scores, strict=True):
            found.extend(self._target.outputs(request.with_beams(level_topn))["top_k"])
            excluded = request.inputs.get(EXCLUDED, np.full((len(scores), 1), NO_ID))
            for scores_of_user, excluded_ids in zip(scores, excluded, strict=True):
                left_out = np.isin(self._item_ids, excluded_ids)
                best.append(top_k(scores_of_user, self._item_ids, level_topn[-1], left_out))
        return overlap(found, best)

    def _every_score(self, request: Request) -> npt.NDArray[np.float32]:
        specs = self._target.specs(SCORE)
        expected = set(specs) - {"item_ids"}
        state = {name: array for name, array in request.inputs.items() if name not in (BEAMS, EXCLUDED)}
        if set(state) != expected:
            raise InvalidInputError(
                f"agreement: expected requests with the inputs {sorted(expected)} of the signature score, "
                f"found {sorted(state)}. Use the signature retrieve or serving_default."
            )
        state = {name: array.astype(specs[name].dtype, copy=False) for name, array in state.items()}
        return score_every_item(self._run, state, self._item_ids)

    def _run(self, signature: str, inputs: Arrays) -> Arrays:
        return self._target.outputs(Request(signature, inputs))
