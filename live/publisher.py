"""Turning item events into segments: what holds the state of one version and writes its segments."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.export.item_side import ItemSide
from nann.files import only_process, read_json, write_json
from nann.live._attributes import attribute_columns
from nann.live._embedding import embedded
from nann.live._events import Event, EventReader, newest
from nann.live._links import Links
from nann.live.base import open_base
from nann.live.segment import (
    MAX_NUMBER,
    Segment,
    segment_numbers,
    segment_path,
    stored_type,
    updates_dir,
    write_segment,
)
from nann.live.state import State, check_room, replay
from nann.progress import OnProgress, ignore_progress

Array = npt.NDArray[Any]
Offset = Mapping[str, Any]
# The publisher's own file in the folder of segments: the largest number that it has used.
_NUMBERS = "publisher.json"
_LOCK = "publisher.lock"
_OFFSET = "publisher/offset"


@dataclass(frozen=True)
class Published:
    """What a call of `Publisher.publish` has done.

    segment: its number; None where the events changed nothing.
    new, deleted: positions that it adds, and that it deletes.
    refused: messages on events that are malformed.
    """

    segment: int | None
    new: int
    deleted: int
    refused: tuple[str, ...]


class Publisher:
    """The publisher of one version folder. It holds base and overlay; only one exists at a time.

    Raises InvalidInputError when another process publishes for this version, InvalidFileError for an export
    without an overlay, and for a segment that cannot be applied.

    Example:
      >>> with Publisher("MODELS/nann/1") as publisher:
      ...     publisher.publish([b'{"id": 7, "delete": true}'], offset={"byte": 27}).deleted
      1
    """

    def __init__(self, model_dir: str | Path, *, on_progress: OnProgress | None = None) -> None:
        report = on_progress or ignore_progress
        base = open_base(model_dir)
        self._folder = updates_dir(base.model_dir)
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(only_publisher(self._folder))
        try:
            _remove_half_segments(self._folder)
            # Nobody else takes numbers while the lock is held.
            self._last_number = last_number(self._folder)
            self.state = State(base)
            self._events = EventReader(base)
            self._items = ItemSide(base.model_dir, base.manifest)
            self._links = Links(base)
            waiting = segment_numbers(self._folder)
            for done, segment in enumerate(replay(self.state, self._folder)):
                self._links.apply(segment)
                report("replay segments", done + 1, len(waiting))
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let another process publish."""
        self._stack.close()

    @property
    def offset(self) -> Offset | None:
        """Where the source goes on: behind the events of the last segment; None: from its beginning."""
        for segment in reversed(self.state.segments):
            if _OFFSET in segment.columns:
                found: Offset = json.loads(segment.columns[_OFFSET].tobytes())
                return found
        offset: Offset | None = self.state.base.manifest["overlay"].get("stream_offset")
        return offset

    def publish(self, events: Sequence[bytes | str], offset: Offset) -> Published:
        """Write the segment of these events.

        offset: the source's position behind them; it is in the segment, so both are written or none.

        A malformed event is left out. Raises InvalidFileError when the overlay has no room.
        """
        changes, refused = self._read(events)
        positions = [self.state.position_of(event.item_id) for event in changes]
        deleted = np.array(sorted(p for p in positions if p is not None), np.int32)
        new = [event for event in changes if event.embedding is not None]
        if not new and not deleted.size:
            return Published(None, 0, 0, refused)
        check_room(self.state, len(new), str(self._folder))
        columns: dict[str, Array] = {"deleted": deleted, **self._columns(new, deleted)}
        columns[_OFFSET] = np.frombuffer(json.dumps(offset).encode(), np.uint8)
        segment = Segment(
            self._next_number(),
            self.state.applied,
            self.state.num_positions,
            len(new),
            self.state.base.export_id,
            time.time_ns() // 1000,
            columns,
        )
        self.add(segment)
        return Published(segment.number, len(new), int(deleted.size), refused)

    def add(self, segment: Segment) -> None:
        """Check and write a segment whose links are those of this publisher's graph."""
        self.state.apply(segment, str(segment_path(self._folder, segment.number)))
        write_segment(self._folder, segment)

    def _read(self, events: Sequence[bytes | str]) -> tuple[list[Event], tuple[str, ...]]:
        found, refused = [], []
        for text in events:
            try:
                event = self._events.read(text)
            except InvalidInputError as error:
                refused.append(str(error))
                continue
            if event is not None:
                found.append(event)
        changes = embedded(newest(found), self._items, self.state.base, refused)
        return changes, tuple(refused)

    def _columns(self, new: Sequence[Event], deleted: npt.NDArray[np.int32]) -> dict[str, Array]:
        self._links.delete(deleted)
        if not new:
            return {}
        embs = np.stack([event.embedding for event in new if event.embedding is not None])
        state = {name: np.stack([event.state[name] for event in new]) for name in self.state.base.state}
        tables = self._items.rows(embs, state)
        return {
            "ids": np.array([event.item_id for event in new], np.int64),
            **{f"table/{name}": rows for name, rows in tables.items()},
            **{f"state/{name}": _stored(rows) for name, rows in state.items()},
            **attribute_columns([event.attributes for event in new], self.state.base.attributes),
            **self._links.insert(embs, self.state.num_positions),
        }

    def _next_number(self) -> int:
        number = max(self.state.applied, self._last_number) + 1
        if number > MAX_NUMBER:
            raise InvalidFileError(
                f"{self._folder}: expected segment numbers up to {MAX_NUMBER}, found all in use. Make a new "
                f"base: nann compact --model {self.state.base.model_dir}."
            )
        return number


def _remove_half_segments(folder: Path) -> None:
    """Remove what killed publishers have left."""
    for path in folder.glob(".*.segment.writing-*"):
        path.unlink()


def _stored(rows: Array) -> Array:
    """Item state [n, ...] as a column [n, width]."""
    return rows.reshape(len(rows), -1).view(stored_type(rows.dtype))


def last_number(folder: Path) -> int:
    """The largest number that was used in `folder`, those of removed segments included; 0: none."""
    numbers = segment_numbers(folder)
    path = folder / _NUMBERS
    used = 0
    if path.exists():
        found = read_json(path, what="the publisher's numbers", next_step="Copy it from another replica.")
        used = int(found.get("last_number", 0))
    return max([used, *numbers])


def remember_number(folder: Path, number: int) -> None:
    """Let no number up to this one be used again."""
    write_json(folder / _NUMBERS, {"last_number": number})


def roll_back(model_dir: str | Path, number: int) -> list[int]:
    """Remove the segments with larger numbers than `number`; returns the removed numbers, newest first.

    number: of a segment that stays, or 0 for the base alone. The removed numbers are never used again. The
    publisher then goes on behind the events of the last segment that stays.

    Raises InvalidInputError when there is no such segment, or a publisher runs.
    """
    base = open_base(model_dir)
    folder = updates_dir(base.model_dir)
    with only_publisher(folder):
        numbers = segment_numbers(folder)
        if number != 0 and number not in numbers:
            shown = f"{numbers[0]} to {numbers[-1]}" if numbers else "none"
            raise InvalidInputError(
                f"rollback-to: expected 0 or the number of a segment in {folder} ({shown}), found {number}. "
                f"Choose one of them."
            )
        remember_number(folder, last_number(folder))
        removed = [each for each in reversed(numbers) if each > number]
        # Newest first: at every moment what is left follows without a gap.
        for each in removed:
            os.unlink(segment_path(folder, each))
    return removed


@contextlib.contextmanager
def only_publisher(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of segments; InvalidInputError when another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    found = f"{folder}: expected no other publisher, found one that runs. Stop it first, or let it go on."
    with only_process(folder / _LOCK, otherwise=found):
        yield
