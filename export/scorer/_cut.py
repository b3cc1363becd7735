"""Which item-only tensors to store: the cheapest cut between the corpus and the score.

What a tile needs of the items is either gathered from a table, or computed again out of something before it
that is gathered. Computing at export is free. The best choice is a minimum cut, found by maximum flow: exact,
whatever the graph.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Hashable, Sequence

from nann.export.scorer._cost import NS_PER_BYTE, work_of
from nann.export.scorer._ir import Needs, Node, Tensor, topological
from nann.export.scorer._lower import may_be_lowered
from nann.export.scorer._rows import RowAnalysis

_INFINITE = 10**15
_SCALE = 1e6  # femtoseconds: whole numbers, so that flows add up exactly
# What TensorFlow's part of a tile costs where the native executor does not know an operation: some 200 ns an
# item (zoo, tiles of 128).
_NS_UNKNOWN = 25_000
_ALIGNMENT = 16  # float32 in a cache line
_MAX_CUTS = 128
_EXPORT, _TILE = "export", "tile"


def cheapest_cut(output: Tensor, item: Tensor, rows: RowAnalysis, *, max_width: int) -> list[Tensor]:
    """The item-only tensors to gather, at most `max_width` floats wide beside `item` itself.

    output: the scores. item: the embeddings, which are there in any case.

    Where the best cut is too wide, one of its tensors must not be stored: the best cuts without each of them
    are tried in turn, the cheapest first, so that the first that fits is the best.
    """
    graph = _Graph(output, item, rows, max_width)
    cost, cut = graph.cut(frozenset())
    pending = [(cost, 0, cut, frozenset[Tensor]())]
    seen = {frozenset[Tensor]()}
    while True:
        _, _, cut, forbidden = heapq.heappop(pending)
        stored = [each for each in cut if each != item]
        if table_width(stored, item.shape[0]) <= max_width:
            return cut
        # After _MAX_CUTS tries, the widest tensor is dropped each time: a cut that fits, not always the best.
        hurried = len(seen) > _MAX_CUTS
        for each in [max(stored, key=lambda tensor: tensor.size)] if hurried else stored:
            without = forbidden | {each}
            if without not in seen:
                seen.add(without)
                cost, cut = graph.cut(without)
                heapq.heappush(pending, (0 if hurried else cost, len(seen), cut, without))


def table_width(stored: Sequence[Tensor], tile_rows: int) -> int:
    """Floats of one row that holds these columns, filled up so that every row starts a cache line."""
    return -(-sum(each.size // tile_rows for each in stored) // _ALIGNMENT) * _ALIGNMENT


class _Graph:
    """The item-only part of a scorer, and who reads it."""

    def __init__(self, output: Tensor, item: Tensor, rows: RowAnalysis, max_width: int) -> None:
        self._item, self._rows, self._max_width = item, rows, max_width
        self._costs: dict[Node, int] = {}  # of computing, for each tile
        self._readers: dict[Tensor, list[Hashable]] = {output: [_TILE]} if output.is_item_only else {}
        for node in topological([output]):
            is_item_only = node.needs == Needs.ITEM
            for tensor in node.inputs:
                if tensor.is_item_only:
                    self._readers.setdefault(tensor, []).append(node if is_item_only else _TILE)
            if is_item_only:
                self._costs[node] = self._cost_of_computing(node)

    def cut(self, forbidden: frozenset[Tensor]) -> tuple[int, list[Tensor]]:
        """The cost of the cheapest cut that gathers none of `forbidden`, and what it gathers.

        Nodes on the tile side are computed per tile. A tensor on the tile side whose node is on the export
        side is gathered.
        """
        network = _Network()
        for node, cost in self._costs.items():
            network.add(_EXPORT, node, cost)
        for tensor, readers in self._readers.items():
            cost = _INFINITE if tensor in forbidden else self._cost_of_gathering(tensor)
            network.add(tensor.node, tensor, cost)
            network.add(tensor, tensor.node, _INFINITE)
            for reader in readers:
                network.add(tensor, reader, _INFINITE)
        flow, at_export = network.minimum_cut(_EXPORT, _TILE)
        return flow, [
            tensor for tensor in self._readers if tensor.node in at_export and tensor not in at_export
        ]

    def _cost_of_computing(self, node: Node) -> int:
        if node is self._item.node:
            return _INFINITE
        ns = work_of([node]).ns
        if not all(may_be_lowered(Tensor(node, index)) for index in range(len(node.outputs))):
            ns += _NS_UNKNOWN
        return int(ns / self._item.shape[0] * _SCALE)

    def _cost_of_gathering(self, tensor: Tensor) -> int:
        width = self._rows.width(tensor)
        if width is None or (tensor != self._item and width > self._max_width):
            return _INFINITE
        return int(4 * width * NS_PER_BYTE * _SCALE)


class _Network:
    """Capacities between named places."""

    def __init__(self) -> None:
        self._capacity: dict[Hashable, dict[Hashable, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, start: Hashable, end: Hashable, capacity: int) -> None:
        self._capacity[start][end] += capacity
        self._capacity[end][start] += 0

    def minimum_cut(self, start: Hashable, end: Hashable) -> tuple[int, set[Hashable]]:
        """Its cost, and the places that it leaves with `start`: Edmonds-Karp, shortest paths first."""
        total = 0
        while True:
            before = self._reached(start)
            if end not in before:
                return total, set(before)
            path = [end]
            while path[-1] != start:
                path.append(before[path[-1]])
            steps = list(zip(path[1:], path[:-1], strict=True))
            flow = min(self._capacity[a][b] for a, b in steps)
            for a, b in steps:
                self._capacity[a][b] -= flow
                self._capacity[b][a] += flow
            total += flow

    def _reached(self, start: Hashable) -> dict[Hashable, Hashable]:
        """Each place that still can be reached -> the place before it."""
        before: dict[Hashable, Hashable] = {start: start}
        queue = deque([start])
        while queue:
            place = queue.popleft()
            for following, capacity in self._capacity[place].items():
                if capacity > 0 and following not in before:
                    before[following] = place
                    queue.append(following)
        return before
