"""The choice of links for inserted items in plain Python: what the op `Nann>ChooseLinks` is compared with.

docs/live.md#the-choice-of-links has the algorithm. This version is for small graphs.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.export.index.files import GraphIndex

Near = tuple[float, int]  # distance and position: sorted, the nearest is first
# As in ops/core/live/link_builder.cc.
COPIES_PER_COPY = 2
LONGEST_LIST = 2


class LinkOracle:
    """A graph that items are inserted into.

    embs:          [N, D], the vectors of the graph's items.
    m:             links at each level above 0; twice as many at level 0.
    inner_product: half of the links lead to large inner products, half to near items.

    Example:
      >>> graph = read_index("RUN/index")
      >>> oracle = LinkOracle(graph, read_items("RUN").embs, m=8, ef_construction=40)
      >>> oracle.insert(np.zeros(8, np.float32), level=0)
      500
    """

    def __init__(
        self,
        graph: GraphIndex,
        embs: npt.NDArray[Any],
        *,
        m: int,
        ef_construction: int,
        inner_product: bool = False,
    ) -> None:
        self._vectors = [np.asarray(row, np.float32) for row in embs]
        self.lists = [
            [level.values[a:b].tolist() for a, b in zip(level.row_splits, level.row_splits[1:], strict=False)]
            for level in graph.levels
        ]
        self._enter_points = graph.enter_points.tolist()
        self._m, self._ef = m, ef_construction
        self._metrics = ["l2", "ip"] if inner_product else ["l2"]
        self._open: dict[int, deque[int]] = {}
        self.dead: set[int] = set()
        self._copies = {p for p in range(len(self._vectors)) if self._hangs(p)} - set(self._enter_points)
        self.changed: list[set[int]] = [set() for _ in self.lists]

    def delete(self, position: int) -> None:
        """No link is chosen that leads to this item from now on."""
        self.dead.add(position)

    def insert(self, vector: npt.NDArray[np.float32], *, level: int) -> int:
        """Add an item, link it, and return its position."""
        level = min(level, len(self.lists) - 1)
        of_metric = [self._candidates(vector, metric, level) for metric in self._metrics]
        added = len(self._vectors)
        self._vectors.append(np.asarray(vector, np.float32))
        for lists in self.lists:
            lists.append([])
        nearest = of_metric[0][0][0][1]
        if nearest not in self.dead and self._equal(nearest, added):
            self._hang(nearest, added)
            return added
        for each in range(level, -1, -1):
            selected = self._select_all([candidates[each] for candidates in of_metric], each)
            self._set(each, added, selected)
            for position in selected:
                self._link(each, position, added)
        if self._in_degree(added) == 0:
            self._set(0, nearest, [*self.lists[0][nearest], added])
        return added

    def _set(self, level: int, position: int, neighbors: list[int]) -> None:
        self.lists[level][position] = neighbors
        self.changed[level].add(position)

    def _in_degree(self, position: int) -> int:
        return sum(position in neighbors for neighbors in self.lists[0])

    def _equal(self, a: int, b: int) -> bool:
        return bool((self._vectors[a] == self._vectors[b]).all())

    def _hangs(self, position: int) -> bool:
        neighbors = self.lists[0][position]
        return bool(neighbors) and all(self._equal(position, other) for other in neighbors)

    def _distance(self, metric: str, a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
        return float(-(a @ b)) if metric == "ip" else float(((a - b) ** 2).sum())

    def _near(self, metric: str, query: npt.NDArray[np.float32], positions: Iterable[int]) -> list[Near]:
        return [(self._distance(metric, query, self._vectors[p]), p) for p in positions]

    def _search(
        self,
        query: npt.NDArray[np.float32],
        starts: Sequence[Near],
        *,
        metric: str,
        level: int,
        ef: int,
        with_dead: bool,
    ) -> list[Near]:
        waiting = list(starts)
        heapq.heapify(waiting)
        found = sorted(near for near in starts if with_dead or near[1] not in self.dead)[:ef]
        visited = {position for _, position in starts}
        while waiting:
            nearest = heapq.heappop(waiting)
            if len(found) == ef and found[-1] < nearest:
                break
            fresh = [p for p in dict.fromkeys(self.lists[level][nearest[1]]) if p not in visited]
            visited.update(fresh)
            for near in self._near(metric, query, (p for p in fresh if p not in self._copies)):
                if len(found) == ef and found[-1] < near:
                    continue
                heapq.heappush(waiting, near)
                if with_dead or near[1] not in self.dead:
                    found = sorted([*found, near])[:ef]
        return found

    def _candidates(self, query: npt.NDArray[np.float32], metric: str, level: int) -> list[list[Near]]:
        candidates: list[list[Near]] = [[] for _ in range(level + 1)]
        starts = self._near(metric, query, self._enter_points)
        for each in range(len(self.lists) - 1, -1, -1):
            if each > level:
                starts = self._search(query, starts, metric=metric, level=each, ef=1, with_dead=True)
                continue
            found = self._search(query, starts, metric=metric, level=each, ef=self._ef, with_dead=False)
            if not found:
                found = self._search(query, starts, metric=metric, level=each, ef=self._ef, with_dead=True)
            candidates[each] = starts = found
        return candidates

    def _most(self, level: int) -> int:
        return 2 * self._m if level == 0 else self._m

    def _select_all(self, candidates: Sequence[Sequence[Near]], level: int) -> list[int]:
        most = self._most(level) // len(self._metrics)
        chosen: list[int] = []
        for metric, of_metric in zip(self._metrics, candidates, strict=True):
            selected: list[int] = []
            for distance, position in of_metric:
                if len(selected) == most:
                    break
                others = (self._distance(metric, self._vectors[position], self._vectors[s]) for s in selected)
                if all(other >= distance for other in others):
                    selected.append(position)
            chosen += [position for position in selected if position not in chosen]
        return chosen

    def _link(self, level: int, source: int, target: int) -> None:
        neighbors = self.lists[level][source]
        for place, position in enumerate(neighbors):
            if position in self.dead and self._equal(position, target):
                self._set(level, source, [*neighbors[:place], target, *neighbors[place + 1 :]])
                return
        if sum(position not in self._copies for position in neighbors) >= self._most(level):
            self._prune(level, source, target)
        else:
            self._set(level, source, [*neighbors, target])

    def _prune(self, level: int, owner: int, added: int) -> None:
        neighbors = self.lists[level][owner]
        candidates = {added}
        for position in neighbors:
            if position in self.dead:
                beyond = self.lists[level][position]
                candidates |= {p for p in beyond if p not in self.dead and p != owner}
            elif position not in self._copies:
                candidates.add(position)
        vector = self._vectors[owner]
        near = [sorted(self._near(metric, vector, candidates)) for metric in self._metrics]
        pruned = self._select_all(near, level)
        self._copies -= set(pruned)
        for position in neighbors:
            if position in pruned:
                continue
            last = (
                level == 0
                and position not in self.dead
                and self._in_degree(position) == 1
                and len(pruned) < LONGEST_LIST * self._most(level)
            )
            if position in self._copies or last:
                pruned.append(position)
        self._set(level, owner, pruned)

    def _hang(self, representative: int, copy: int) -> None:
        neighbors = self.lists[0][representative]
        self._copies.add(copy)
        copies = [position for position in neighbors if position in self._copies]
        for position in copies:
            if position in self.dead:
                self._set(0, copy, list(self.lists[0][position]))
                self._open.pop(representative, None)
                place = neighbors.index(position)
                self._set(0, representative, [*neighbors[:place], copy, *neighbors[place + 1 :]])
                return
        self._set(0, copy, [representative])
        waiting = self._open_copies(representative)
        if len(copies) < self._most(0) or not waiting:
            self._set(0, representative, [*neighbors, copy])
        else:
            parent = waiting[0]
            self._set(0, parent, [*self.lists[0][parent], copy])
            if len(self.lists[0][parent]) >= 1 + COPIES_PER_COPY:
                waiting.popleft()
        waiting.append(copy)

    def _open_copies(self, representative: int) -> deque[int]:
        waiting = self._open.setdefault(representative, deque())
        if waiting:
            return waiting
        reached, met = deque([representative]), {representative}
        while reached:
            position = reached.popleft()
            neighbors = self.lists[0][position]
            if position != representative and len(neighbors) < 1 + COPIES_PER_COPY:
                waiting.append(position)
            fresh = [p for p in neighbors if p in self._copies and p not in met]
            met.update(fresh)
            reached.extend(fresh)
        return waiting
