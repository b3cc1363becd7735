"""The publisher's loop: events are gathered for a moment, and become segments."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nann.errors import InvalidInputError
from nann.live.publisher import Published, Publisher
from nann.live.sources import Source
from nann.live.state import State

# Messages on malformed events that are kept; all of them are counted.
_SHOWN = 5
# Between looks at whether to stop.
_TICK_SECONDS = 0.2


@dataclass
class Totals:
    """What a publisher has done since it was started.

    segments: numbers of the first and the last, or none.
    new, deleted: positions that were added and deleted.
    events:   events that were read; refused: those that were malformed, and messages on the first of them.
    seconds:  spent on making segments, without waiting for events.
    """

    segments: list[int] = field(default_factory=list)
    events: int = 0
    new: int = 0
    deleted: int = 0
    refused: int = 0
    messages: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, published: Published, events: int, seconds: float) -> None:
        """Count one call of `Publisher.publish`."""
        if published.segment is not None:
            self.segments = [*self.segments[:1], published.segment]
        self.events += events
        self.new += published.new
        self.deleted += published.deleted
        self.refused += len(published.refused)
        self.messages += published.refused[: _SHOWN - len(self.messages)]
        self.seconds += seconds


def publish_events(
    publisher: Publisher,
    source: Source,
    *,
    segment_items: int = 1000,
    max_delay: float = 0.1,
    once: bool = False,
    stop: Callable[[], bool] = lambda: False,
    on_segment: Callable[[Totals], None] = lambda totals: None,
    totals: Totals | None = None,
) -> Totals:
    """Publish the events of `source` until `stop()`, or with `once` those that were there at the beginning.

    segment_items: events per segment at most.
    max_delay:     seconds that an event waits for others at most.
    on_segment:    called with the totals after each segment.
    totals:        what was done before, to which this is added.

    Raises what `Publisher.publish` and the source raise.

    Example:
      >>> with Publisher("MODELS/nann/1") as publisher:
      ...     totals = publish_events(publisher, open_source("items.jsonl", publisher.offset), once=True)
      >>> totals.new, totals.deleted
      (0, 1)
    """
    if segment_items < 1 or max_delay < 0:
        raise InvalidInputError(
            f"expected segment_items of at least 1 and max_delay of at least 0, found {segment_items} and "
            f"{max_delay}. Correct them."
        )
    totals = Totals() if totals is None else totals
    while not stop() and not (once and source.at_end()):
        events = _gather(source, segment_items, max_delay, stop)
        if not events:
            continue
        started = time.perf_counter()
        published = publisher.publish(events, source.offset)
        totals.add(published, len(events), time.perf_counter() - started)
        on_segment(totals)
    return totals


def prometheus_text(totals: Totals, state: State) -> str:
    """The totals and the state of an overlay, in Prometheus' text format.

    Example:
      >>> prometheus_text(Totals(events=3), publisher.state).splitlines()[2]
      'nann_publish_events_total 3'
    """
    counters: dict[str, tuple[float, str]] = {
        "nann_publish_events_total": (totals.events, "Events that were read since the start."),
        "nann_publish_refused_total": (totals.refused, "Malformed events."),
        "nann_publish_new_total": (totals.new, "New rows: of new and changed items."),
        "nann_publish_deleted_total": (totals.deleted, "Deleted rows: of deleted and changed items."),
        "nann_publish_seconds_total": (totals.seconds, "Time spent on making segments."),
    }
    gauges: dict[str, tuple[float, str]] = {
        "nann_publish_segment": (state.applied, "Number of the last segment."),
        "nann_publish_room": (state.room, "New items that there is room for."),
    }
    kinds = [("counter", counters), ("gauge", gauges)]
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name} {value}\n"
        for kind, metrics in kinds
        for name, (value, text) in metrics.items()
    )


def _gather(source: Source, most: int, max_delay: float, stop: Callable[[], bool]) -> list[bytes]:
    """Events of one segment: all that come within `max_delay` of the first, at most `most`."""
    events = source.read(most, _TICK_SECONDS)
    deadline = time.monotonic() + max_delay
    while events and len(events) < most and not stop():
        left = deadline - time.monotonic()
        if left <= 0:
            break
        events += source.read(most - len(events), min(left, _TICK_SECONDS))
    return events
