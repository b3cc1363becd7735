"""Batching: joins requests that come at the same time into one run of the session.

Checks, padding and texts are those of TensorFlow Serving's BatchingSession. A request without rows, which
hangs there, is run alone here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nann.errors import InvalidFileError
from nann.serving.server._messages import BatchingParameters, read_text_message
from nann.serving.server._servable import Servable, SessionOptions
from nann.serving.server._status import Code, StatusError, as_status, invalid_argument

Arrays = Mapping[str, NDArray[Any]]
# (feeds, fetches, timeout_ms) -> values of the fetches.
Run = Callable[[Arrays, Sequence[str], "int | None"], "list[NDArray[Any]]"]

PER_MODEL_FILE = Path("assets.extra") / "batching_params.pbtxt"


@dataclass(frozen=True, kw_only=True)
class BatchingOptions:
    """How requests are joined; the names and defaults are TensorFlow Serving's.

    max_batch_size: rows of a run.
    batch_timeout_micros: how long a batch waits for more rows while a thread is free.
    max_enqueued_batches: batches that may wait. num_batch_threads: runs at once.
    allowed_batch_sizes: a run is filled up to one of these, the last of which is `max_batch_size`.
    pad_variable_length_inputs: pad inputs of different shapes, at their ends, with their own first values.

    >>> from nann.serving.server import BatchingOptions
    >>> BatchingOptions(max_batch_size=32).max_enqueued_batches
    10
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False


def read_batching_parameters_file(path: Path) -> BatchingOptions:
    """Return what a batching parameters file says, in the text format of TensorFlow Serving.

    ```
    max_batch_size { value: 32 } batch_timeout_micros { value: 1000 } pad_variable_length_inputs: true
    ```

    Raises:
      InvalidFileError: the file cannot be read or parsed, or a value is out of range.
    """
    message = read_text_message(path, BatchingParameters())
    numbers = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    given = {name: getattr(message, name).value for name in numbers if message.HasField(name)}
    sizes = tuple(message.allowed_batch_sizes)
    options = BatchingOptions(
        **given,
        allowed_batch_sizes=sizes,
        pad_variable_length_inputs=message.pad_variable_length_inputs,
    )
    for name in numbers:
        least = 0 if name == "batch_timeout_micros" else 1
        if getattr(options, name) < least:
            raise InvalidFileError(f"{path}: {name}: expected at least {least}, got {given[name]}")
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != options.max_batch_size):
        raise InvalidFileError(
            f"{path}: allowed_batch_sizes: expected increasing sizes, the last of which is max_batch_size = "
            f"{options.max_batch_size}, got {list(sizes)}"
        )
    return options


class BatchedServable(Servable):
    """A loaded SavedModel whose runs are joined.

    As in TensorFlow Serving, these are runs with all inputs and outputs of a signature. Others, such as those
    of a request with an output filter, are run alone and unchecked.
    """

    def __init__(self, path: Path, options: SessionOptions, batching: BatchingOptions) -> None:
        super().__init__(path, options)
        self._batcher = Batcher(
            lambda feeds, fetches, timeout_ms: Servable.run(self, feeds, fetches, timeout_ms=timeout_ms),
            batching,
        )
        self._declared = {
            (_tensors(signature.inputs), _tensors(signature.outputs))
            for signature in self.signatures.values()
        }

    def run(self, feeds: Arrays, fetches: Sequence[str], *, timeout_ms: int | None) -> list[NDArray[Any]]:
        are_arrays = all(isinstance(feed, np.ndarray) for feed in feeds.values())
        if not are_arrays or (frozenset(feeds), frozenset(fetches)) not in self._declared:
            return Servable.run(self, feeds, fetches, timeout_ms=timeout_ms)
        return self._batcher.run(feeds, fetches, timeout_ms)


def _tensors(infos: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(info.name for info in infos.values())


class _Task:
    """A request: its inputs, and its outputs or its error when it is done."""

    def __init__(self, feeds: Arrays, rows: int, timeout_ms: int | None) -> None:
        self.feeds = feeds
        self.rows = rows
        self.deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        self.done = threading.Event()
        self.outputs: list[NDArray[Any]] = []
        self.error: StatusError | None = None

    def is_over(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def remaining(self) -> float | None:
        return None if self.deadline is None else max(self.deadline - time.monotonic(), 0.001)


class _Batch:
    """The tasks of one run. The first one's thread runs it."""

    def __init__(self) -> None:
        self.tasks: list[_Task] = []
        self.rows = 0
        self.full = threading.Event()


class Batcher:
    """Joins runs with the same inputs and outputs.

    Threads: `run` may be called from many threads. The thread of a batch's first request waits for others and
    for a free slot, and runs the batch; the threads of the others wait for it. One lock guards the open
    batches; it is not held while anything is waited for.
    """

    def __init__(self, run: Run, options: BatchingOptions) -> None:
        self._run = run
        self._options = options
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(options.num_batch_threads)
        self._open: dict[Any, _Batch] = {}
        # Batches that no slot runs yet.
        self._waiting = 0

    def run(self, feeds: Arrays, fetches: Sequence[str], timeout_ms: int | None) -> list[NDArray[Any]]:
        """Return the values of `fetches` for one request.

        Raises:
          StatusError: the inputs cannot be batched, too many batches wait, or the run failed.
        """
        rows = self._rows(feeds)
        if not rows:
            return self._run(feeds, fetches, timeout_ms)
        task = _Task(feeds, rows, timeout_ms)
        key = (tuple(fetches), tuple((name, feeds[name].dtype) for name in sorted(feeds)))
        batch, is_first = self._join(key, task)
        if is_first:
            self._lead(key, batch, fetches)
        elif not task.done.wait(task.remaining()):
            raise StatusError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        if task.error is not None:
            raise task.error
        return task.outputs

    def _rows(self, feeds: Arrays) -> int:
        if not feeds:
            raise invalid_argument("Batching Run() must have at least one input tensor")
        if any(not array.ndim for array in feeds.values()):
            raise invalid_argument("Batching Run() input tensors must have at least one dimension")
        sizes = {len(array) for array in feeds.values()}
        if len(sizes) > 1:
            raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
        (rows,) = sizes
        if rows > self._options.max_batch_size:
            raise invalid_argument(
                f"Task size {rows} is larger than maximum input batch size {self._options.max_batch_size}"
            )
        return rows

    def _join(self, key: Any, task: _Task) -> tuple[_Batch, bool]:
        """Add a task to the open batch, or to a new one; return the batch and whether it is new."""
        with self._lock:
            batch = self._open.get(key)
            if batch is not None and batch.rows + task.rows > self._options.max_batch_size:
                batch.full.set()
                batch = None
            is_first = batch is None
            if batch is None:
                if self._waiting >= self._options.max_enqueued_batches:
                    raise StatusError(
                        Code.UNAVAILABLE,
                        "The batch scheduling queue to which this task was submitted is full",
                    )
                self._waiting += 1
                batch = self._open[key] = _Batch()
            batch.tasks.append(task)
            batch.rows += task.rows
            if batch.rows == self._options.max_batch_size:
                batch.full.set()
                del self._open[key]
            return batch, is_first

    def _lead(self, key: Any, batch: _Batch, fetches: Sequence[str]) -> None:
        batch.full.wait(self._options.batch_timeout_micros / 1e6)
        with self._slots:
            with self._lock:
                self._waiting -= 1
                if self._open.get(key) is batch:
                    del self._open[key]
            try:
                self._run_batch(batch, fetches)
            except Exception as error:
                for task in batch.tasks:
                    task.error = as_status(error)
            finally:
                for task in batch.tasks:
                    task.done.set()

    def _run_batch(self, batch: _Batch, fetches: Sequence[str]) -> None:
        if all(task.is_over() for task in batch.tasks):
            raise StatusError(
                Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue"
            )
        feeds = {name: self._joined(name, batch) for name in batch.tasks[0].feeds}
        remaining = [task.remaining() for task in batch.tasks]
        limits = [seconds for seconds in remaining if seconds is not None]
        # The batch may run for as long as one of its requests has time.
        timeout_ms = round(max(limits) * 1000) if len(limits) == len(remaining) else None
        outputs = self._run(feeds, fetches, timeout_ms)
        rows = len(next(iter(feeds.values())))
        for array in outputs:
            if not array.ndim:
                raise StatusError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
            if len(array) != rows:
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes "
                    "of the input tensors",
                )
        start = 0
        for task in batch.tasks:
            task.outputs = [array[start : start + task.rows] for array in outputs]
            start += task.rows

    def _joined(self, name: str, batch: _Batch) -> NDArray[Any]:
        """Return an input of all tasks as one array, filled up to an allowed size with its first row."""
        arrays = [task.feeds[name] for task in batch.tasks]
        shapes = {array.shape[1:] for array in arrays}
        if len(shapes) > 1:
            if not self._options.pad_variable_length_inputs:
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"Tensors with name '{name}' from different tasks have different shapes and padding is "
                    "turned off. Set pad_variable_length_inputs to true, or ensure that all tensors with the "
                    "same name have equal dimensions starting with the first dim.",
                )
            arrays = [_padded(array, _widest(name, shapes)) for array in arrays]
        size = next((size for size in self._options.allowed_batch_sizes if size >= batch.rows), batch.rows)
        arrays += [arrays[0][:1]] * (size - batch.rows)
        return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]


def _widest(name: str, shapes: set[tuple[int, ...]]) -> tuple[int, ...]:
    if len({len(shape) for shape in shapes}) > 1:
        raise invalid_argument(f"Tensors with name '{name}' from different tasks should have the same rank")
    return tuple(map(max, zip(*shapes, strict=True)))


def _padded(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the rows of an array in a larger shape, filled with the array's first value."""
    if array.shape[1:] == shape:
        return array
    if not array.size:
        raise invalid_argument("Got empty tensor in batch of non-empty tensors.")
    padded = np.full((len(array), *shape), array.flat[0], array.dtype)
    padded[tuple(slice(size) for size in array.shape)] = array
    return padded
