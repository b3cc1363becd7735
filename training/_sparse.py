"""A made-up corpus of short histories, of any size: what shops and review sites have."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from nann.training._building import split_dataset
from nann.training._checks import check_options
from nann.training._dataset import Dataset
from nann.training._splits import SplitOptions
from nann.training._synthetic import parse_options

Ints = npt.NDArray[np.int64]

_FOLLOWERS = 3
_INTERESTS = 2
# Users generated at a time; each block has a random generator of its own, and some 100 MB.
_BLOCK_USERS = 2**16


@dataclass(frozen=True)
class SparseOptions:
    """`synthetic-sparse:items=20000,users=40000,events=8,seed=0,...`.

    Items lie in clusters (their categories); the popularity inside a cluster is Zipf's. Every item has three
    followers, popular items of a cluster that goes with its own. A user has two clusters of interest. The
    next event is with probability `follow` a follower of the last one, with `interest` an item of a cluster
    of interest, else an item of any cluster, each drawn by popularity. No user meets an item twice.

    Attributes:
      items: size of the corpus.
      users: number of users.
      events: mean number of events of a user; lengths are 3 at least, with an exponential tail, 10 times the
        mean at most.
      categories: number of clusters; 0 chooses about one for 100 items, at least 4.
      follow, interest: see above; their sum is at most 1.
      seed: the same options give the same data.
    """

    items: int = 20_000
    users: int = 40_000
    events: int = 8
    categories: int = 0
    follow: float = 0.4
    interest: float = 0.4
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> SparseOptions:
        """Read `name=value,name=value`."""
        options = parse_options(cls, text, source="synthetic-sparse")
        options.check()
        return options

    def check(self) -> None:
        """Raise InvalidInputError when a value is out of range."""
        expectations = {
            "users of 1 and above": self.users >= 1,
            "events of 4 and above": self.events >= 4,
            "items of at least 20 times the events": self.items >= 20 * self.events,
            "categories between 0 and items / 10": 0 <= self.categories <= self.items // 10,
            "follow and interest of 0 and above, their sum at most 1": (
                self.follow >= 0 and self.interest >= 0 and self.follow + self.interest <= 1
            ),
            "seed of 0 and above": self.seed >= 0,
        }
        check_options("source synthetic-sparse", expectations, self)


def sparse_dataset(options: SparseOptions, *, split: SplitOptions | None = None) -> Dataset:
    """Generate the corpus that `options` describes (see `SparseOptions`)."""
    world = _World(options)
    blocks = range(0, options.users, _BLOCK_USERS)
    made = [world.block(start, min(_BLOCK_USERS, options.users - start)) for start in blocks]
    lengths = np.concatenate([lengths for lengths, _ in made])
    return split_dataset(
        source="synthetic-sparse:" + ",".join(f"{name}={value}" for name, value in asdict(options).items()),
        # Ids that are not rows, so that a mix-up of the two shows.
        item_ids=np.arange(options.items, dtype=np.int64) * 3 + 1_000_001,
        cate_ids=np.arange(world.clusters, dtype=np.int64) * 7 + 5_001,
        item_cates=np.concatenate([[0], world.cluster_of_item + 1]).astype(np.int64),
        user_ids=np.arange(1, options.users + 1, dtype=np.int64),
        events=np.concatenate([events for _, events in made]),
        row_splits=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        options=split,
    )


class _World:
    """Clusters of items, and how users move."""

    def __init__(self, options: SparseOptions) -> None:
        rng = np.random.default_rng(options.seed)
        self._options = options
        self.clusters = options.categories or max(4, options.items // 100)
        # Places are items ordered by cluster and popularity; real items are numbered in another order.
        ends = np.linspace(0, options.items, self.clusters + 1).astype(np.int64)
        self._starts, self._sizes = ends[:-1], np.diff(ends)
        cluster_of_place = np.repeat(np.arange(self.clusters), self._sizes)
        self._item_of_place = rng.permutation(options.items)
        self.cluster_of_item = np.empty(options.items, np.int64)
        self.cluster_of_item[self._item_of_place] = cluster_of_place
        going_with = rng.integers(0, self.clusters, self.clusters)[cluster_of_place]
        self._followers = self._popular(np.repeat(going_with[:, None], _FOLLOWERS, axis=1), rng)

    def _popular(self, clusters: Ints, rng: np.random.Generator) -> Ints:
        """A place in each of `clusters`, by popularity: the chance of rank r is about 1 / r."""
        sizes = self._sizes[clusters]
        ranks = ((sizes + 1.0) ** rng.random(clusters.shape) - 1.0).astype(np.int64)
        places: Ints = self._starts[clusters] + np.minimum(ranks, sizes - 1)
        return places

    def block(self, first_user: int, users: int) -> tuple[Ints, npt.NDArray[np.int32]]:
        """Lengths int64 [users] and the item rows of the users' events, user after user, oldest first."""
        options = self._options
        rng = np.random.default_rng((options.seed, first_user))
        lengths = 3 + np.minimum(rng.geometric(1 / (options.events - 2), users) - 1, 10 * options.events - 3)
        # The longest first: those who still walk stand in front.
        order = np.argsort(-lengths, kind="stable")
        interests = rng.integers(0, self.clusters, (users, _INTERESTS))
        walked = np.full((users, int(lengths.max())), -1, np.int64)
        for step in range(walked.shape[1]):
            walking = int((lengths > step).sum())
            walked[:walking, step] = self._step(walked[:walking, :step], interests[:walking], rng)
        rows = np.empty_like(walked)
        rows[order] = np.where(walked >= 0, self._item_of_place[walked] + 1, 0)
        return lengths, rows[rows > 0].astype(np.int32)

    def _step(self, before: Ints, interests: Ints, rng: np.random.Generator) -> Ints:
        """The next place of each user, who has been at `before` [users, step]."""
        places = self._draw(before[:, -1:], interests, rng)
        while (met := np.flatnonzero((before == places[:, None]).any(axis=1))).size:
            # A met item gives way to one of any cluster: the followers of an item may all be met.
            places[met] = self._popular(rng.integers(0, self.clusters, len(met)), rng)
        return places

    def _draw(self, last: Ints, interests: Ints, rng: np.random.Generator) -> Ints:
        users = len(interests)
        kind = rng.random(users)
        chosen = interests[np.arange(users), rng.integers(0, _INTERESTS, users)]
        anywhere = rng.integers(0, self.clusters, users)
        wanted = kind < self._options.follow + self._options.interest
        places = self._popular(np.where(wanted, chosen, anywhere), rng)
        if last.shape[1]:
            follows = np.flatnonzero(kind < self._options.follow)
            number = rng.integers(0, _FOLLOWERS, len(follows))
            places[follows] = self._followers[last[follows, 0], number]
        return places
