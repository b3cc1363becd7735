"""Running a function in a new process, which releases its memory, threads and TensorFlow state at the end."""

from __future__ import annotations

import functools
import multiprocessing
import queue
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from nann.progress import OnProgress

Result = TypeVar("Result")
# How long to wait for progress before looking whether the process has ended: short for a person.
_POLL_SECONDS = 0.2


def in_new_process(function: Callable[..., Result], *arguments: Any, on_progress: OnProgress) -> Result:
    """Return function(*arguments, on_progress), called in a new process.

    Everything but `on_progress` must be picklable. Raises what the function raises.
    """
    # Not fork: the copy of a process with TensorFlow's threads deadlocks.
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    with ProcessPoolExecutor(1, context, _start, (messages,)) as pool:
        future = pool.submit(_call, function, arguments)
        while not future.done():
            try:
                on_progress(*messages.get(timeout=_POLL_SECONDS))
            except queue.Empty:
                continue
        return future.result()


_messages: Any = None


def _start(messages: Any) -> None:
    global _messages
    _messages = messages


def _call(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    return function(*arguments, functools.partial(_send_progress, _messages))


def _send_progress(messages: Any, stage: str, done: int, total: int) -> None:
    messages.put((stage, done, total))
