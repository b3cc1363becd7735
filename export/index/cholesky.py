"""The solution of a small linear system, with every operation in a fixed order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def solve(normal: Doubles, right: Doubles) -> Doubles:
    """The solution of `normal` x = `right`, by Cholesky's decomposition, column by column."""
    left: Doubles = normal.copy()
    x: Doubles = right.copy()
    size = len(x)
    for j in range(size):
        left[j, j] = np.sqrt(left[j, j])
        left[j + 1 :, j] = left[j + 1 :, j] / left[j, j]
        left[j + 1 :, j + 1 :] -= np.outer(left[j + 1 :, j], left[j + 1 :, j])
    for j in range(size):
        x[j] = x[j] / left[j, j]
        x[j + 1 :] -= left[j + 1 :, j] * x[j]
    for j in reversed(range(size)):
        x[j] = x[j] / left[j, j]
        x[:j] -= left[j, :j] * x[j]
    return x
