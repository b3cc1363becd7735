"""TensorFlow profiler traces: taking one while load runs, and reading it as a flame graph."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nann.errors import InvalidFileError, NannError

# Names in a trace: the plane of the processor's threads; a session's run as its caller's thread sees it.
_HOST = "/host:CPU"
_SESSION_RUN = "SessionRun"
# Frames of a smaller share are two pixels wide or less.
_SMALLEST_SHARE = 0.002


@contextlib.contextmanager
def traced_here(folder: Path) -> Iterator[None]:
    """Trace this process while the block runs; `folder` is readable by TensorBoard's profile plugin."""
    import tensorflow as tf

    tf.profiler.experimental.start(str(folder))
    try:
        yield
    finally:
        tf.profiler.experimental.stop()


# A separate process: TensorFlow reports on standard output, and its threads would disturb the generator.
_TRACE_SERVER = """
import sys
import tensorflow as tf
print("ready", flush=True)
sys.stdin.readline()
address, folder, milliseconds = sys.argv[1:]
tf.profiler.experimental.client.trace("grpc://" + address, folder, int(milliseconds), num_tracing_attempts=1)
"""


@contextlib.contextmanager
def traced_server(folder: Path, target: str, seconds: float) -> Iterator[None]:
    """Trace a server through its ProfilerService for `seconds` from the beginning of the block.

    NannError when the server has no ProfilerService; TensorFlow Serving has one.
    """
    command = [sys.executable, "-c", _TRACE_SERVER, target, str(folder), str(round(seconds * 1000))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        if child.stdout.readline().strip() == "ready":
            child.stdin.write("go\n")
            child.stdin.flush()
            yield
        _, printed = child.communicate()
    if child.returncode:
        last = printed.strip().splitlines()[-1:] or ["no message"]
        raise NannError(
            f"{target}: expected a trace from the server's ProfilerService, found: {last[0]}. TensorFlow "
            "Serving has one. For another server, profile the SavedModel with --saved-model DIR."
        )


@dataclass
class Frame:
    """Time of one name below one path of names, summed over all threads.

    micros: includes the time of the children.
    """

    name: str
    micros: float = 0.0
    children: dict[str, Frame] = field(default_factory=dict)

    def child(self, name: str) -> Frame:
        return self.children.setdefault(name, Frame(name))

    def to_json(self, smallest: float) -> dict[str, Any]:
        """As a JSON object without frames of less than `smallest` microseconds."""
        below = sorted(self.children.values(), key=lambda frame: -frame.micros)
        return {
            "name": self.name,
            "micros": self.micros,
            "children": [frame.to_json(smallest) for frame in below if frame.micros >= smallest],
        }


def flame(folder: Path) -> dict[str, Any]:
    """The newest trace below `folder` as a tree of frames: thread time by call path.

    Time in which a caller only waits for the session's threads is left out.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    files = sorted(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise InvalidFileError(f"{folder}: expected a trace (*.xplane.pb), found none. Profile again.")
    root = Frame("TensorFlow's threads")
    for plane in xplane_pb2.XSpace.FromString(files[-1].read_bytes()).planes:
        if plane.name != _HOST:
            continue
        names = {number: _short(event.name) for number, event in plane.event_metadata.items()}
        for line in plane.lines:
            _add_line(root, line, names)
    _without_waiting(root)
    return root.to_json(_SMALLEST_SHARE * root.micros)


def _add_line(root: Frame, line: Any, names: dict[int, str]) -> None:
    """Add a thread's events: an event that begins before another ends is its child."""
    events = [(e.offset_ps, e.offset_ps + e.duration_ps, names[e.metadata_id]) for e in line.events]
    open_frames: list[tuple[int, Frame]] = []
    for start, end, name in sorted(events, key=lambda event: (event[0], -event[1])):
        if end == start:
            continue
        while open_frames and open_frames[-1][0] <= start:
            open_frames.pop()
        frame = (open_frames[-1][1] if open_frames else root).child(name)
        frame.micros += (end - start) / 1e6
        open_frames.append((end, frame))


def _without_waiting(root: Frame) -> None:
    """Reduce a session's run to its children in the caller's thread; the rest of it is waiting."""
    run = root.children.get(_SESSION_RUN)
    if run is not None:
        run.micros = sum(frame.micros for frame in run.children.values())
    root.micros = sum(frame.micros for frame in root.children.values())


def _short(name: str) -> str:
    """`StatefulPartitionedCall/MatMul_2:MatMul` becomes MatMul, so that ops of one type share a frame."""
    return name if "::" in name else name.rpartition(":")[2]
