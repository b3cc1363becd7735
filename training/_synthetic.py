"""A made-up corpus of any size with structure that a sequential model can learn."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidInputError
from nann.training._building import split_dataset
from nann.training._checks import check_options
from nann.training._dataset import Dataset
from nann.training._splits import SplitOptions

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Options = TypeVar("Options")

_PREFERRED_FOLLOWERS = 3
_FACTORS = 8


@dataclass(frozen=True)
class SyntheticOptions:
    """`synthetic:items=100000,users=20000,seed=0,...`.

    Every item belongs to a cluster (its category) and has a latent vector near the cluster's centre and a
    Zipf popularity inside it. A user has a taste vector, some favourite clusters, and walks: with probability
    `stay` the next event is of the cluster of the last one, with `follow` of one of the three clusters that
    tend to follow it (the sequential structure), otherwise of a favourite. Inside the cluster an item is
    drawn by popularity times exp(taste . item vector). No user meets an item twice.

    Attributes:
      items: size of the corpus.
      users: number of users.
      events: mean number of events of a user; lengths are uniform in [events / 2, 3 * events / 2].
      categories: number of clusters; 0 chooses about one for 100 items, at least 4.
      stay, follow: see above; their sum is at most 1.
      seed: the same options give the same data.
    """

    items: int = 10_000
    users: int = 2_000
    events: int = 40
    categories: int = 0
    stay: float = 0.45
    follow: float = 0.35
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> SyntheticOptions:
        """Read `name=value,name=value`."""
        options = parse_options(cls, text, source="synthetic")
        options.check()
        return options

    def check(self) -> None:
        """Raise InvalidInputError when a value is out of range."""
        expectations = {
            "items of 10 and above": self.items >= 10,
            "users of 1 and above": self.users >= 1,
            "events of 6 and above": self.events >= 6,
            "events at most a third of items": 3 * self.events <= self.items,
            "categories between 0 and items / 2": 0 <= self.categories <= self.items // 2,
            "stay and follow of 0 and above, their sum at most 1": (
                self.stay >= 0 and self.follow >= 0 and self.stay + self.follow <= 1
            ),
            "seed of 0 and above": self.seed >= 0,
        }
        check_options("source synthetic", expectations, self)


def parse_options(kind: type[Options], text: str, *, source: str) -> Options:
    """Read `name=value,name=value` into a dataclass of whole numbers and floats; `source` is for messages."""
    kinds = {field.name: int if field.type == "int" else float for field in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, int | float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in kinds:
            raise InvalidInputError(f"source {source}: expected options {', '.join(kinds)}; found {name!r}.")
        try:
            values[name] = kinds[name](value)
        except ValueError:
            raise InvalidInputError(
                f"source {source}: option {name}: expected {kinds[name].__name__}, found {value!r}."
            ) from None
    return kind(**values)


def synthetic_dataset(options: SyntheticOptions, *, split: SplitOptions | None = None) -> Dataset:
    """Generate the corpus that `options` describes (see `SyntheticOptions`)."""
    rng = np.random.default_rng(options.seed)
    clusters = options.categories or max(4, options.items // 100)
    cluster_of = _clusters_of_items(options.items, clusters, rng)
    world = _World(options, rng, cluster_of)
    lengths = rng.integers(options.events // 2, 3 * options.events // 2 + 1, options.users)
    rows = np.concatenate([world.walk(int(length)) for length in lengths]) + 1
    return split_dataset(
        source="synthetic:" + ",".join(f"{name}={value}" for name, value in asdict(options).items()),
        # Ids that are not rows, so that a mix-up of the two shows.
        item_ids=np.arange(options.items, dtype=np.int64) * 3 + 1_000_001,
        cate_ids=np.arange(clusters, dtype=np.int64) * 7 + 5_001,
        item_cates=np.concatenate([[0], cluster_of + 1]).astype(np.int64),
        user_ids=np.arange(1, options.users + 1, dtype=np.int64),
        events=rows.astype(np.int32),
        row_splits=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        options=split,
    )


def _clusters_of_items(items: int, clusters: int, rng: np.random.Generator) -> Ints:
    """int64 [items]: every cluster gets an item, then Zipf sizes, as real categories have."""
    weights = 1.0 / np.arange(1, clusters + 1) ** 0.6
    cluster_of = np.concatenate(
        [np.arange(clusters), rng.choice(clusters, items - clusters, p=weights / weights.sum())]
    )
    rng.shuffle(cluster_of)
    return cluster_of


class _World:
    """Clusters, items and how users move between them."""

    def __init__(self, options: SyntheticOptions, rng: np.random.Generator, cluster_of: Ints) -> None:
        self._options = options
        self._rng = rng
        self._clusters = clusters = int(cluster_of.max()) + 1
        self._centres = rng.normal(size=(clusters, _FACTORS))
        self._vectors = self._centres[cluster_of] + 0.5 * rng.normal(size=(len(cluster_of), _FACTORS))
        self._order = np.argsort(cluster_of, kind="stable")
        self._starts = np.searchsorted(cluster_of[self._order], np.arange(clusters + 1))
        self._log_popularity = [-np.log1p(rng.permutation(int(size))) for size in np.diff(self._starts)]
        self._followers = rng.integers(0, clusters, (clusters, _PREFERRED_FOLLOWERS))

    def walk(self, length: int) -> Ints:
        """int64 [length]: item positions in time order, each at most once."""
        rng = self._rng
        taste = rng.normal(size=_FACTORS) / np.sqrt(_FACTORS)
        # Favourites are clusters near the user's taste: the best of a random handful.
        pool = rng.integers(0, self._clusters, 40)
        favourites = pool[np.argsort(-self._centres[pool] @ taste)[:5]]
        probabilities: dict[int, Floats] = {}
        seen: set[int] = set()
        walked = np.empty(length, np.int64)
        cluster = int(rng.choice(favourites))
        for place in range(length):
            item = self._draw(cluster, taste, probabilities, seen)
            while item is None:
                cluster = int(rng.integers(self._clusters))
                item = self._draw(cluster, taste, probabilities, seen)
            walked[place] = item
            seen.add(item)
            cluster = self._next_cluster(cluster, favourites)
        return walked

    def _next_cluster(self, cluster: int, favourites: Ints) -> int:
        """The user follows, stays, or goes back to a favourite."""
        step = self._rng.random()
        if step < self._options.follow:
            return int(self._rng.choice(self._followers[cluster]))
        if step < self._options.follow + self._options.stay:
            return cluster
        return int(self._rng.choice(favourites))

    def _draw(
        self, cluster: int, taste: Floats, probabilities: dict[int, Floats], seen: set[int]
    ) -> int | None:
        """An item of `cluster` that the user has not met, or None after ten draws of met ones."""
        members = self._order[self._starts[cluster] : self._starts[cluster + 1]]
        if cluster not in probabilities:
            logits = self._log_popularity[cluster] + self._vectors[members] @ taste
            weights = np.exp(logits - logits.max())
            probabilities[cluster] = np.cumsum(weights / weights.sum())
        for uniform in self._rng.random(10):
            place = min(int(np.searchsorted(probabilities[cluster], uniform)), len(members) - 1)
            item = int(members[place])
            if item not in seen:
                return item
        return None
