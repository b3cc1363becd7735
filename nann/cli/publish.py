"""`nann publish`: turns item events into segments."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nann.cli._console import emit, import_tensorflow, json_option, print_text, progress
from nann.files import write_text

if TYPE_CHECKING:
    from nann.live.loop import Totals
    from nann.live.state import State


@click.command(name="publish")
@click.option(
    "--model",
    "model_dir",
    required=True,
    type=click.Path(path_type=Path),
    help="Version folder that the segments are for, such as MODELS/nann/1. They go to MODELS/nann/updates/1.",
)
@click.option(
    "--source",
    help="Events: a file of JSON lines, a folder of such files, kafka://BROKER/TOPIC or redis://HOST/STREAM.",
)
@click.option("--once", is_flag=True, help="End when the events that are there now are published.")
@click.option(
    "--follow",
    is_flag=True,
    help="Go on with the next version, which a compaction or an export makes, as soon as it is there.",
)
@click.option(
    "--segment-items",
    default=1000,
    show_default=True,
    type=click.IntRange(1),
    help="Events per segment at most.",
)
@click.option(
    "--max-delay",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0.0),
    help="Seconds that an event waits for others, so that they share a segment.",
)
@click.option(
    "--metrics-file",
    type=click.Path(path_type=Path),
    help="File to keep counters in, in Prometheus' text format, for the node exporter's textfile collector.",
)
@click.option(
    "--rollback-to",
    type=click.IntRange(0),
    help="Remove the segments after this number, 0 for all, and end. Their numbers are not used again.",
)
@json_option
def command(
    model_dir: Path,
    source: str | None,
    once: bool,
    follow: bool,
    segment_items: int,
    max_delay: float,
    metrics_file: Path | None,
    rollback_to: int | None,
    as_json: bool,
) -> None:
    """Publish item events as segments, which servers of the export apply while they serve (docs/live.md).

    An event is {"id": 7, "embedding": [...]}, {"id": 7, "features": {...}} or {"id": 7, "delete": true}. The
    command goes on where the last segment ends, and runs until it gets SIGTERM or SIGINT.
    """
    if (source is None) == (rollback_to is None):
        raise click.UsageError("give --source, or --rollback-to.")
    import_tensorflow()
    if rollback_to is not None:
        _roll_back(model_dir, rollback_to, as_json)
        return
    from nann.live.follow import publish_versions
    from nann.live.loop import prometheus_text

    assert source is not None
    stopped = threading.Event()

    def on_start() -> None:
        # Only now: whoever waits for the replay can still interrupt it.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())

    with progress(as_json) as on_progress:

        def on_segment(totals: Totals, state: State) -> None:
            room = state.base.capacity
            on_progress("room for new items used", room - state.room, room)
            if metrics_file is not None:
                write_text(metrics_file, prometheus_text(totals, state))

        totals, state = publish_versions(
            model_dir,
            source,
            follow=follow,
            stop=stopped.is_set,
            on_progress=on_progress,
            on_start=on_start,
            on_segment=on_segment,
            segment_items=segment_items,
            max_delay=max_delay,
            once=once,
        )
    result = {"model": str(state.base.model_dir), **_result(totals, state.applied, state.room)}
    emit(as_json, result, lambda: _render(result))


def _result(totals: Totals, applied: int, room: int) -> dict[str, Any]:
    return {
        "segment": applied,
        "events": totals.events,
        "new": totals.new,
        "deleted": totals.deleted,
        "refused": totals.refused,
        "messages": totals.messages,
        "seconds": totals.seconds,
        "room": room,
    }


def _render(result: dict[str, Any]) -> None:
    print_text(
        f"Segment {result['segment']} is the last. {result['events']:,} events: {result['new']:,} new rows, "
        f"{result['deleted']:,} deleted, {result['refused']:,} refused. There is room for "
        f"{result['room']:,} more."
    )
    for message in result["messages"]:
        print_text(f"  refused: {message}")


def _roll_back(model_dir: Path, number: int, as_json: bool) -> None:
    from nann.live import roll_back

    removed = roll_back(model_dir, number)
    emit(
        as_json,
        {"segment": number, "removed": removed},
        lambda: print_text(f"{len(removed)} segments were removed; {number} is the last."),
    )
