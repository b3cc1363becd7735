"""How far the walk's answers are those of brute force with the same scorer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nann.bench._requests import BEAMS, EXCLUDED, NO_ID, Arrays, Request
from nann.bench._targets import Target
from nann.errors import InvalidInputError
from nann.training.metrics import overlap, top_k

Ids = npt.NDArray[np.int64]
_IDS_A_CALL = 65_536
_SCORE = "score"


class BruteForce:
    """The best items of some requests' users, by the model's own `score` of every item."""

    def __init__(self, target: Target, requests: Sequence[Request], item_ids: Ids) -> None:
        """Score everything; takes users x N scores."""
        self._target = target
        self._requests = list(requests)
        self._item_ids = np.asarray(item_ids)
        specs = target.specs(_SCORE)
        self._scores = []
        for request in self._requests:
            state = {n: a for n, a in request.inputs.items() if n not in (BEAMS, EXCLUDED)}
            expected = set(specs) - {"item_ids"}
            if set(state) != expected:
                raise InvalidInputError(
                    f"agreement: expected requests with the inputs {sorted(expected)} of the signature "
                    f"{_SCORE}, found {sorted(state)}. Use the signature retrieve or serving_default."
                )
            self._scores.append(
                self._all_scores({n: a.astype(specs[n].dtype, copy=False) for n, a in state.items()})
            )

    def agreement(self, level_topn: Sequence[int]) -> float:
        """Mean share of brute force's top k that the walk with these beams finds too."""
        k = level_topn[-1]
        shares = []
        for request, scores in zip(self._requests, self._scores, strict=True):
            found = self._target.outputs(request.with_beams(level_topn))["top_k"]
            excluded = request.inputs.get(EXCLUDED, np.full((len(found), 1), NO_ID))
            for user in range(len(found)):
                is_excluded = np.isin(self._item_ids, excluded[user])
                shares.append(overlap(found[user], top_k(scores[user], self._item_ids, k, is_excluded)))
        return float(np.mean(shares))

    def _all_scores(self, state: Arrays) -> npt.NDArray[np.float32]:
        users = len(next(iter(state.values())))
        tiles = []
        for start in range(0, len(self._item_ids), _IDS_A_CALL):
            ids = np.tile(self._item_ids[start : start + _IDS_A_CALL], (users, 1))
            tiles.append(self._target.outputs(Request(_SCORE, {**state, "item_ids": ids}))["scores"])
        return np.concatenate(tiles, axis=1)
