"""What a scorer with item state reads of each item, as columns of float32 in which no bit is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# float32 holds whole numbers up to 2^24: an integer of 32 or 64 bits is three parts of 22 bits and fewer.
PART_BITS = 22


class ItemRows:
    """What a scorer with item state reads of each item: float32 [N, D + W], the embedding and then the state.

    embs:  [N, D], mapped. state: name -> [N, ...], mapped. Rows are made where they are read.
    """

    def __init__(self, embs: Array, state: Mapping[str, Array]) -> None:
        self._arrays = [embs, *state.values()]
        width = sum(columns_of(array.dtype.name, array.shape[1:]) for array in state.values())
        self.shape = (embs.shape[0], embs.shape[1] + width)

    def __getitem__(self, rows: slice | Array) -> npt.NDArray[np.float32]:
        return np.concatenate([_columns(np.asarray(array[rows])) for array in self._arrays], axis=1)


def _columns(array: Array) -> npt.NDArray[np.float32]:
    flat = array.reshape(array.shape[0], -1)
    if parts_of(array.dtype.name) == 1:
        return flat.astype(np.float32)
    whole, mask = flat.astype(np.int64), 2**PART_BITS - 1
    parts = [whole & mask, whole >> PART_BITS & mask, whole >> 2 * PART_BITS]
    return np.concatenate(parts, axis=1).astype(np.float32)


def columns_of(dtype: str, shape: Sequence[int]) -> int:
    """Columns of one item."""
    return math.prod(shape) * parts_of(dtype)


def parts_of(dtype: str) -> int:
    """Columns of one value."""
    return 3 if dtype in ("int32", "int64", "uint32") else 1
