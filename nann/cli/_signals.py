"""What a command that runs until it is told to end does on SIGTERM and SIGINT."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_termination(call: Callable[[], None]) -> None:
    """Run `call` in a thread of its own on the first SIGTERM or SIGINT; the second ends the process at once.

    Only the main thread may call this, once. The kernel gives a signal to any thread, but Python runs its
    handlers in the main thread alone, which sleeps on while another thread got the signal. So a thread reads
    the signals' numbers from a pipe, to which Python's C handler writes in whichever thread it runs.

    Example:
      stop = threading.Event()
      on_termination(stop.set)
      stop.wait()
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)  # Python writes only what has a handler.

    def next_signal() -> int:
        while True:
            number = os.read(reading, 1)[0]
            if number in _SIGNALS:
                return number

    def listen() -> None:
        next_signal()
        call()
        os._exit(128 + next_signal())  # What a shell says of a process that a signal ended.

    threading.Thread(target=listen, name="nann-signals", daemon=True).start()
