"""How much of one list of results another one holds."""

from __future__ import annotations

from typing import Any

import numpy as np


def overlap(found: Any, expected: Any) -> float:
    """Mean share of the ids of each row of `expected` [B, k] that the row of `found` [B, k] holds too.

    Negative ids pad a row and do not count; of a row without ids all were found.
    """
    shares = []
    for row, wanted in zip(found, expected, strict=True):
        known = wanted[wanted >= 0]
        shares.append(float(np.isin(known, row).mean()) if len(known) else 1.0)
    return float(np.mean(shares))
