"""Comparing retrieved lists with what scoring every item finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

# Ids in one `score` request: enough tiles for every thread, and half a megabyte for each user.
_IDS_PER_REQUEST = 65_536

# The least served users are the worst 5 %.
_USERS_PER_WORST = 20

Arrays = Mapping[str, npt.NDArray[Any]]


def shares(found: Any, expected: Any) -> npt.NDArray[np.float64]:
    """The share of the ids of each row of `expected` [B, k] that the row of `found` [B, k] holds, [B].

    -1 pads a row and does not count; a row without ids counts as 1.

    Example:
      >>> shares(np.array([[3, 1], [5, 4]]), np.array([[1, 2], [4, -1]])).tolist()
      [0.5, 1.0]
    """
    of_rows = []
    for row, wanted in zip(found, expected, strict=True):
        known = wanted[wanted != -1]
        of_rows.append(float(np.isin(known, row).mean()) if len(known) else 1.0)
    return np.array(of_rows)


def overlap(found: Any, expected: Any) -> float:
    """Mean over rows of `shares`.

    Example:
      >>> overlap(np.array([[3, 1], [5, 4]]), np.array([[1, 2], [4, -1]]))
      0.75
    """
    return float(np.mean(shares(found, expected)))


def worst_users(of_users: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The users of the least twentieth of these shares [B], worst first; at least one.

    Example:
      >>> worst_users(np.array([0.9, 0.8, 1.0])).tolist()
      [1]
    """
    worst: npt.NDArray[np.int64] = np.argsort(of_users, kind="stable")
    return worst[: -(-len(of_users) // _USERS_PER_WORST)]


def worst_share(of_users: npt.NDArray[np.float64]) -> float:
    """The mean share of `worst_users`.

    Example:
      >>> worst_share(np.array([0.9, 0.8, 1.0]))
      0.8
    """
    return float(of_users[worst_users(of_users)].mean())


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
