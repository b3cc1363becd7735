"""Which events of which users are examples to train on, to validate and to test with.

An example is a user and a cut: event number `cut` (from 0) is the target, the events before it are the
history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidInputError
from nann.training._checks import check_options

IntArray = npt.NDArray[np.int64]

LEAVE_ONE_OUT: Literal["leave-one-out"] = "leave-one-out"
USERS: Literal["users"] = "users"

MIN_EVENTS = 3
"""A user needs one event to learn from, one for validation and one for the test."""

# Apart from the seeds of training, so that one number given to both draws nothing twice.
_HELD_OUT_USERS = 11


@dataclass(frozen=True)
class SplitOptions:
    """How examples are divided. The lengths and numbers of users are the original NANN's.

    Attributes:
      kind: `leave-one-out`: each user's last event is the test, the one before the validation, and all
        earlier prefixes are training examples. `users`, the original's: some users are kept for validation
        and test with one example each, in the middle of their events; the prefixes of all others are training
        examples.
      train_min_length: of `users`: events before the first target of a training user. A user's last event is
        no target, as in the original.
      test_min_length: of `users`: users with more events than this are kept. The target of a held-out user
        of n events is event number test_min_length + (n - test_min_length) // 2.
      validation_users, test_users: of `users`: how many are held out, drawn at random.
      seed: of the draw.
    """

    kind: Literal["leave-one-out", "users"] = LEAVE_ONE_OUT
    train_min_length: int = 10
    test_min_length: int = 7
    validation_users: int = 10_000
    test_users: int = 10_000
    seed: int = 0

    def check(self) -> None:
        """Raise InvalidInputError when a value is out of range."""
        expectations = {
            f"kind {LEAVE_ONE_OUT} or {USERS}": self.kind in (LEAVE_ONE_OUT, USERS),
            "train_min_length of 1 and above": self.train_min_length >= 1,
            "test_min_length of 1 and above": self.test_min_length >= 1,
            "validation_users of 0 and above": self.validation_users >= 0,
            "test_users of 0 and above": self.test_users >= 0,
            "seed of 0 and above": self.seed >= 0,
        }
        check_options("split", expectations, self)

    @property
    def min_events(self) -> int:
        """Users with fewer events are left out."""
        return MIN_EVENTS if self.kind == LEAVE_ONE_OUT else self.test_min_length + 1


@dataclass(frozen=True)
class Examples:
    """Held-out examples: the event number `cuts` of each of `users` is the target.

    Attributes:
      users: int64 [n], positions in `Dataset.user_ids`, ascending.
      cuts: int64 [n].
    """

    users: IntArray
    cuts: IntArray

    def __len__(self) -> int:
        return len(self.users)

    def pairs(self) -> list[tuple[int, int]]:
        """User and cut of each."""
        return list(zip(self.users.tolist(), self.cuts.tolist(), strict=True))


@dataclass(frozen=True)
class Split:
    """The division of a data set.

    Attributes:
      kind: as in `SplitOptions`.
      first_target: the cut of each user's first training example.
      train_splits: int64 [U + 1]; user u has train_splits[u + 1] - train_splits[u] training examples, with
        the cuts first_target, first_target + 1 and so on.
      validation, test: the held-out examples.
    """

    kind: Literal["leave-one-out", "users"]
    first_target: int
    train_splits: IntArray
    validation: Examples
    test: Examples

    def train_examples(self, numbers: IntArray) -> Examples:
        """The training examples `numbers`, int64 [n] of 0..train_splits[-1] - 1, in the same order."""
        users = np.searchsorted(self.train_splits, numbers, side="right") - 1
        return Examples(users, self.first_target + numbers - self.train_splits[users])

    def train_lengths(self, lengths: IntArray) -> IntArray:
        """int64 [U]: how many of each user's `lengths` events training sees, from the first one."""
        if self.kind == LEAVE_ONE_OUT:
            return lengths - 2
        seen = lengths - 1
        seen[self.validation.users] = 0
        seen[self.test.users] = 0
        return seen


def split_users(lengths: IntArray, options: SplitOptions, *, source: str) -> Split:
    """Divide users with `lengths` events, int64 [U], each at least `options.min_events`.

    Raises:
      InvalidInputError: fewer users than are to be held out.
    """
    if options.kind == LEAVE_ONE_OUT:
        users = np.arange(len(lengths), dtype=np.int64)
        validation, test = Examples(users, lengths - 2), Examples(users, lengths - 1)
        return Split(LEAVE_ONE_OUT, 1, _splits(lengths - MIN_EVENTS), validation, test)
    held_out = options.test_users + options.validation_users
    if len(lengths) <= held_out:
        raise InvalidInputError(
            f"{source}: expected more than {held_out} users with more than {options.test_min_length} events, "
            f"{options.validation_users} for validation, {options.test_users} for the test and the others to "
            f"train on, found {len(lengths)}. Hold out fewer users, or split by {LEAVE_ONE_OUT}."
        )
    drawn = np.random.default_rng((options.seed, _HELD_OUT_USERS)).permutation(len(lengths))[:held_out]
    counts = np.maximum(lengths - 1 - options.train_min_length, 0)
    counts[drawn] = 0

    def examples(users: IntArray) -> Examples:
        shortest = options.test_min_length
        return Examples(users, shortest + (lengths[users] - shortest) // 2)

    return Split(
        USERS,
        options.train_min_length,
        _splits(counts),
        examples(np.sort(drawn[options.test_users :])),
        examples(np.sort(drawn[: options.test_users])),
    )


def _splits(counts: IntArray) -> IntArray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
