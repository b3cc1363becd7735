"""A function in a process of its own: its memory, threads and TensorFlow state go when it returns."""

from __future__ import annotations

import functools
import multiprocessing
import queue
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from nann.progress import OnProgress

Result = TypeVar("Result")
_POLL_SECONDS = 0.2


def in_new_process(function: Callable[..., Result], *arguments: Any, on_progress: OnProgress) -> Result:
    """function(*arguments, on_progress) in a new process; all must be picklable but `on_progress`.

    Raises what the function raises.
    """
    # Fork would copy TensorFlow's threads half alive.
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
    return function(*arguments, functools.partial(_tell, _messages))


def _tell(messages: Any, stage: str, done: int, total: int) -> None:
    messages.put((stage, done, total))
