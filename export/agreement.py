"""Comparing retrieved lists with what scoring every item finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

# Ids in one `score` request: enough tiles for every thread, and half a megabyte for each user.
_IDS_PER_REQUEST = 65_536

Arrays = Mapping[str, npt.NDArray[Any]]


def overlap(found: Any, expected: Any) -> float:
    """Mean over rows of the share of the ids of `expected` [B, k] that the row of `found` [B, k] holds.

    -1 pads a row and does not count; a row without ids counts as 1.
    """
    shares = []
    for row, wanted in zip(found, expected, strict=True):
        known = wanted[wanted != -1]
        shares.append(float(np.isin(known, row).mean()) if len(known) else 1.0)
    return float(np.mean(shares))


def score_every_item(
    run: Callable[[str, Any], Arrays], state: Arrays, item_ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Scores float32 [B, N] of B users for the items `item_ids` [N], by the export's signature `score`.

    run:   (signature, inputs) -> outputs of the export, for example `LoadedModel.run`.
    state: the state inputs of `score`, [B, values of one user] each.
    """
    users = len(next(iter(state.values())))
    parts = []
    for start in range(0, len(item_ids), _IDS_PER_REQUEST):
        ids = np.tile(item_ids[start : start + _IDS_PER_REQUEST], (users, 1))
        parts.append(run("score", {**state, "item_ids": ids})["scores"])
    return np.concatenate(parts, axis=1)
