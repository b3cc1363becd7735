"""Publishing for one version after the other: a compaction or an export makes the next one."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from nann.export.manifest import MANIFEST, read_manifest
from nann.live.loop import Totals, publish_events
from nann.live.publisher import Publisher
from nann.live.sources import open_source
from nann.live.state import State
from nann.progress import OnProgress

# From one look for the next version to the next look: a segment takes as long.
_LOOK_SECONDS = 0.2


class OnVersionSegment(Protocol):
    """Called with the totals after each segment, and the state of the version that it is of."""

    def __call__(self, totals: Totals, state: State) -> None: ...


def _ignore_segment(totals: Totals, state: State) -> None:
    pass


def next_version(model_dir: Path) -> Path | None:
    """The newest version beside `model_dir` that is newer and takes segments; None where there is none.

    Example:
      >>> next_version(Path("MODELS/nann/1")) is None
      True
    """
    number = int(model_dir.name) if model_dir.name.isdecimal() else 0
    newer = [path for path in model_dir.parent.iterdir() if path.name.isdecimal() and int(path.name) > number]
    for path in sorted(newer, key=lambda each: int(each.name), reverse=True):
        if (path / MANIFEST).exists() and read_manifest(path).get("overlay"):
            return path
    return None


def publish_versions(
    model_dir: Path,
    source: str,
    *,
    follow: bool,
    stop: Callable[[], bool],
    on_progress: OnProgress,
    on_start: Callable[[], None] = lambda: None,
    on_segment: OnVersionSegment = _ignore_segment,
    **options: Any,
) -> tuple[Totals, State]:
    """Publish the events of `source` for `model_dir`; with `follow`, for each next version once it is there.

    A version that a compaction made begins behind the last segment that was carried over, another one where
    its snapshot ends: what was published for the former version after that is read again, so nothing is lost.

    on_start: called when the segments of a version are replayed, and before events are read.
    options:  of `publish_events`.

    Returns the totals of all versions, and the state of the last one. Raises what `Publisher`, `open_source`
    and `publish_events` raise.
    """
    totals = Totals()
    while True:
        with Publisher(model_dir, on_progress=on_progress) as publisher:
            on_start()
            events = open_source(source, publisher.offset)
            look, state = _Look(model_dir), publisher.state
            publish_events(
                publisher,
                events,
                totals=totals,
                stop=partial(_is_at_end, stop, look) if follow else stop,
                on_segment=partial(on_segment, state=state),
                **options,
            )
            events.close()
        following = next_version(model_dir) if follow and not stop() else None
        if following is None:
            return totals, state
        model_dir = following


def _is_at_end(stop: Callable[[], bool], look: _Look) -> bool:
    return stop() or look.found()


class _Look:
    """Whether there is a next version, looked for at intervals."""

    def __init__(self, model_dir: Path) -> None:
        self._model_dir, self._next = model_dir, 0.0

    def found(self) -> bool:
        """Whether a look, which is made when its time has come, has found one."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _LOOK_SECONDS
        return next_version(self._model_dir) is not None
