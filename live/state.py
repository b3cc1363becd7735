"""Base and segments: what a server that has applied them holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError
from nann.live._checks import SegmentChecker
from nann.live.base import Base
from nann.live.segment import Segment, read_segment, segment_numbers, segment_path

Array = npt.NDArray[Any]
# Of a position whose list is that of the base.
_OF_BASE = -1


class State:
    """The items of a base and of the segments that were applied to it, in order.

    Example:
      >>> state = State(open_base(Path("MODELS/nann/1")))
      >>> state.num_live, state.applied
      (500, 0)
      >>> state.position_of(7) is None
      True
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.segments: list[Segment] = []
        size = base.num_items + base.capacity
        self._base_ids = np.asarray(base.ids)[base.id_order]
        self._added: dict[int, int] = {}  # id -> its newest position
        self._dead = np.zeros(size, np.bool_)
        # Where the list of a position is: (segment, place in it) for each level.
        self._list_of = [np.full((size, 2), _OF_BASE, np.int32) for _ in range(base.num_levels)]

    @property
    def num_positions(self) -> int:
        """Positions, those of deleted items included."""
        return self.segments[-1].positions_after if self.segments else self.base.num_items

    @property
    def num_deleted(self) -> int:
        """Positions of deleted items and of former versions of changed ones."""
        return int(np.count_nonzero(self._dead))

    @property
    def num_live(self) -> int:
        """Items that can be results."""
        return self.num_positions - self.num_deleted

    @property
    def applied(self) -> int:
        """The number of the last segment; 0: the base."""
        return self.segments[-1].number if self.segments else 0

    @property
    def room(self) -> int:
        """New items that there is room for."""
        return self.base.num_items + self.base.capacity - self.num_positions

    def is_deleted(self, position: int) -> bool:
        """Whether the item at `position` was deleted or changed."""
        return bool(self._dead[position])

    @property
    def live(self) -> npt.NDArray[np.int64]:
        """The positions of the live items, ascending."""
        return np.flatnonzero(~self._dead[: self.num_positions])

    @property
    def deleted(self) -> npt.NDArray[np.int32]:
        """The other positions, ascending."""
        deleted: npt.NDArray[np.int32] = np.flatnonzero(self._dead[: self.num_positions]).astype(np.int32)
        return deleted

    def position_of(self, item_id: int) -> int | None:
        """The position of the live item of this id; None where there is none."""
        position = self._added.get(item_id)
        if position is None:
            at = int(np.searchsorted(self._base_ids, item_id))
            if at == self._base_ids.size or self._base_ids[at] != item_id:
                return None
            position = int(self.base.id_order[at])
        return None if self._dead[position] else position

    def segment_of(self, position: int) -> int:
        """The number of the segment that added `position`; 0: it is of the base."""
        after = (each.number for each in self.segments if position < each.positions_after)
        return 0 if position < self.base.num_items else next(after)

    def apply(self, segment: Segment, name: str) -> None:
        """Apply the next segment; `name` stands in messages.

        Raises InvalidFileError, and changes nothing, when it does not follow or does not fit the base.
        """
        SegmentChecker(self, segment, name).check()
        self.segments.append(segment)
        self._dead[segment.column("deleted", "<i4")] = True
        for place, item_id in enumerate(segment.column("ids", "<i8").tolist()):
            self._added[item_id] = segment.positions_before + place
        for level, list_of in enumerate(self._list_of):
            positions = segment.column(f"links/{level}/positions", "<i4")
            list_of[positions, 0] = len(self.segments) - 1
            list_of[positions, 1] = np.arange(positions.size)

    def neighbors(self, level: int, position: int) -> npt.NDArray[np.int32]:
        """The neighbours of a position, int32 [n]."""
        number, place = self._list_of[level][position].tolist()
        if number == _OF_BASE:
            if position >= self.base.num_items:
                return np.zeros(0, np.int32)
            lists = self.base.graph.levels[level]
            return lists.neighbors(position)
        segment = self.segments[number]
        splits = segment.column(f"links/{level}/row_splits", "<i8")
        values: npt.NDArray[np.int32] = segment.column(f"links/{level}/values", "<i4")
        return values[splits[place] : splits[place + 1]]

    def rows(self, table: str, positions: npt.NDArray[np.int64]) -> Array:
        """Rows of an item table, [n, width]."""
        return self._gather(self.base.tables[table], f"table/{table}", positions)

    def state_rows(self, name: str, positions: npt.NDArray[np.int64]) -> Array:
        """Rows of an item state, [n, ...]."""
        return self._gather(self.base.state[name], f"state/{name}", positions)

    def ids(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The item ids at positions, int64 [n]."""
        return self._gather(self.base.ids, "ids", positions)

    def _gather(self, of_base: Array, column: str, positions: npt.NDArray[np.int64]) -> Array:
        found = np.empty((positions.size, *of_base.shape[1:]), of_base.dtype)
        in_base = positions < self.base.num_items
        found[in_base] = of_base[positions[in_base]]
        befores = [segment.positions_before for segment in self.segments]
        segment_of = np.searchsorted(befores, positions, side="right") - 1
        for number in np.unique(segment_of[~in_base]):
            # A segment without new items begins where the next one begins: the last of them has the item.
            mine = ~in_base & (segment_of == number)
            segment = self.segments[number]
            rows = segment.columns[column][positions[mine] - segment.positions_before]
            found[mine] = rows.view(of_base.dtype).reshape(found[mine].shape)
        return found


def replay(state: State, folder: Path) -> Iterator[Segment]:
    """Apply the segments of `folder` that follow, and yield each when it is applied.

    Raises InvalidFileError for the first that cannot be applied.
    """
    for number in segment_numbers(folder):
        if number > state.applied:
            path = segment_path(folder, number)
            segment = read_segment(path)
            state.apply(segment, str(path))
            yield segment


def check_room(state: State, new: int, name: str) -> None:
    """Raise InvalidFileError when the overlay has no room for `new` items."""
    if new > state.room:
        raise InvalidFileError(
            f"{name}: expected room for {new} new items, found {state.room} of {state.base.capacity}. Make a "
            f"new base: nann compact --model {state.base.model_dir}."
        )
