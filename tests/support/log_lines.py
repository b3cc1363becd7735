"""Log lines of this process as events that a test can wait for."""

from __future__ import annotations

import logging
import threading

_SECONDS = 60


class LogLines(logging.Handler):
    """Collects the lines of a logger while it is used as a context manager."""

    def __init__(self, logger: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._logger = logging.getLogger(logger)
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.lines.append(record.getMessage())
            self._changed.notify_all()

    def count(self, text: str) -> int:
        return sum(text in line for line in self.lines)

    def wait_for(self, text: str, *, times: int = 1) -> str:
        """Wait until so many lines hold `text`; return the last of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count(text) >= times, _SECONDS), self.lines
            return next(line for line in reversed(self.lines) if text in line)

    def __enter__(self) -> LogLines:
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
