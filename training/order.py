"""A random order of any number of things, of which any part can be computed without the rest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

# Four rounds make a pseudo-random permutation of a pseudo-random function (Luby and Rackoff, "How to
# construct pseudorandom permutations from pseudorandom functions", SIAM Journal on Computing 17(2), 1988).
_ROUNDS = 4


class RandomOrder:
    """A permutation of 0..count - 1, chosen by `seed`, in memory that does not depend on `count`.

    It is a Feistel network over the next power of four; numbers beyond `count` are encrypted again until they
    fall inside it ("cycle walking"), which takes fewer than four times on average.

    Example: `RandomOrder(10, seed=(0, 3))[2:5]`, the third to fifth of ten things in order number 3.
    """

    def __init__(self, count: int, *, seed: tuple[int, ...]) -> None:
        self._count = count
        self._half = np.uint64(max(1, (max(1, count - 1).bit_length() + 1) // 2))
        self._mask = np.uint64((1 << int(self._half)) - 1)
        self._keys = np.random.default_rng(seed).integers(0, 2**64, _ROUNDS, dtype=np.uint64)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, places: slice) -> IntArray:
        """int64 [n]: the numbers at a slice of the order's places."""
        numbers = self._encrypt(np.arange(*places.indices(self._count), dtype=np.uint64))
        while (beyond := np.flatnonzero(numbers >= self._count)).size:
            numbers[beyond] = self._encrypt(numbers[beyond])
        return numbers.astype(np.int64)

    def _encrypt(self, numbers: Words) -> Words:
        left, right = numbers >> self._half, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right + key) & self._mask)
        mixed: Words = (left << self._half) | right
        return mixed


def _mixed(words: Words) -> Words:
    """SplitMix64's finalizer (Steele, Lea and Flood, 2014): each bit of a word changes all of the result."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words
