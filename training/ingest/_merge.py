"""The third pass: the vocabularies of all partitions, and the users' events in one array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nann.training.ingest._partition import Partition, read_partition

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Items:
    """Items of some partitions: the arrays of `Partition`, and whose they are.

    Attributes:
      owners: int64 [v]: partition and position there (as `places`) of the row that `places` names.
    """

    items: Ints
    counts: Ints
    categories: Ints
    places: Ints
    owners: Ints


@dataclass(frozen=True)
class Users:
    """All users that have enough events.

    Attributes:
      users: int64 [U], sorted.
      row_splits: int64 [U + 1].
      ranks: for each partition, int64 [u]: the positions of its users in `users`.
    """

    users: Ints
    row_splits: Ints
    ranks: list[Ints]


def merge_items(folder: Path, partitions: int) -> Items:
    """The items of all partitions, of which one has a user.

    Two partitions' items are merged as soon as they can be: memory grows with the number of items.
    """
    runs: list[Items] = []
    for number in range(partitions):
        partition = read_partition(folder, number)
        if not len(partition.items):
            continue
        runs.append(_items(partition, number))
        # As digits of a binary counter: two runs of about one size become one.
        while len(runs) > 1 and len(runs[-2].items) < 2 * len(runs[-1].items):
            runs[-2:] = [_merged(*runs[-2:])]
    while len(runs) > 1:
        runs[-2:] = [_merged(*runs[-2:])]
    return runs[0]


def _items(partition: Partition, number: int) -> Items:
    owners = (np.int64(number) << np.int64(32)) + np.arange(len(partition.items))
    return Items(
        np.array(partition.items),
        np.array(partition.counts),
        np.array(partition.categories),
        np.array(partition.places),
        owners,
    )


def _merged(first: Items, second: Items) -> Items:
    items = np.concatenate([first.items, second.items])
    # By item and then place; a stable sort of two sorted runs takes linear time.
    order = np.argsort(items, kind="stable")
    items = items[order]
    new = np.concatenate([[True], items[1:] != items[:-1]])
    begins = np.flatnonzero(new)
    counts = np.add.reduceat(np.concatenate([first.counts, second.counts])[order], begins)
    places = np.concatenate([first.places, second.places])[order]
    # An item stands there once or twice: the later of the two places is that of the last row.
    following = np.minimum(begins + 1, len(items) - 1)
    later = np.where(~new[following] & (places[following] > places[begins]), following, begins)
    chosen = order[later]
    return Items(
        items[begins],
        counts,
        np.concatenate([first.categories, second.categories])[chosen],
        places[later],
        np.concatenate([first.owners, second.owners])[chosen],
    )


def merge_users(folder: Path, partitions: int) -> Users:
    """The users of all partitions, in order."""
    parts = [read_partition(folder, number) for number in range(partitions)]
    users = np.concatenate([part.users for part in parts])
    lengths = np.concatenate([part.lengths for part in parts])
    order = np.argsort(users, kind="stable")
    ranks = np.empty(len(users), np.int64)
    ranks[order] = np.arange(len(users))
    ends = np.cumsum([len(part.users) for part in parts])
    row_splits = np.concatenate([[0], np.cumsum(lengths[order])]).astype(np.int64)
    return Users(users[order], row_splits, np.split(ranks, ends[:-1]))


def write_events(
    path: Path, folder: Path, items: Ints, users: Users, *, on_done: Callable[[int], None]
) -> npt.NDArray[np.int32]:
    """Write the item rows of all events to `path`, .npy, and return them mapped.

    on_done: called with the number of partitions that are written.
    """
    total = int(users.row_splits[-1])
    for number, ranks in enumerate(users.ranks):
        # Mapped anew for each partition: what was written does not stay in this process's memory.
        mode = "w+" if number == 0 else "r+"
        events = np.lib.format.open_memmap(path, mode=mode, dtype=np.int32, shape=(total,))
        part = read_partition(folder, number)
        rows = (np.searchsorted(items, part.items) + 1).astype(np.int32)
        events[event_places(users, ranks, part.lengths)] = rows[part.codes]
        on_done(number + 1)
    mapped: npt.NDArray[np.int32] = np.load(path, mmap_mode="r").view(np.ndarray)
    return mapped


def event_places(users: Users, ranks: Ints, lengths: Ints) -> Ints:
    """int64 [events]: where the events of a partition's users stand among all."""
    own = np.cumsum(lengths) - lengths
    return np.repeat(users.row_splits[ranks] - own, lengths) + np.arange(lengths.sum())
