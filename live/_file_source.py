"""Events in files of JSON lines; lines that are added are read as they come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nann.errors import InvalidInputError

# How often files are looked at for further lines.
_POLL_SECONDS = 0.05
# Read at a time: some thousand events.
_BLOCK_BYTES = 2**22


class FileSource:
    """A file, or the files of a folder in the order of their names.

    A line counts when its end is there. Files of a folder whose names begin with a dot are left out: they are
    being written. The offset has the bytes that were read of each file.
    """

    def __init__(self, path: Path, offset: Mapping[str, Any] | None) -> None:
        if not path.exists():
            raise InvalidInputError(
                f"{path}: expected a file or a folder of events, found none. Correct --source."
            )
        self._path = path
        self._read_bytes: dict[str, int] = dict(offset["files"]) if offset else {}
        self._last_bytes = {file.name: file.stat().st_size for file in self._files()}
        self._waiting: list[bytes] = []
        self._file = ""

    def read(self, most: int, wait_seconds: float) -> list[bytes]:
        """The next lines; see `Source`."""
        deadline = time.monotonic() + wait_seconds
        while not self._waiting and not self._fill():
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            time.sleep(min(left, _POLL_SECONDS))
        taken, self._waiting = self._waiting[:most], self._waiting[most:]
        self._read_bytes[self._file] = self._read_bytes.get(self._file, 0) + sum(map(len, taken))
        return [line for line in map(bytes.strip, taken) if line]

    @property
    def offset(self) -> Mapping[str, Any]:
        """Bytes of each file that were read."""
        return {"files": dict(self._read_bytes)}

    def at_end(self) -> bool:
        """Whether all lines that were there at the beginning were read; a last line may lack its end."""
        return not self._waiting and not self._fill(until=self._last_bytes)

    def close(self) -> None:
        """Nothing is held."""

    def _files(self) -> list[Path]:
        if not self._path.is_dir():
            return [self._path]
        return sorted(f for f in self._path.iterdir() if f.is_file() and not f.name.startswith("."))

    def _fill(self, until: Mapping[str, int] | None = None) -> bool:
        """Read whole lines of the first file that has some; False where no file has."""
        for path in self._files():
            begin = self._read_bytes.get(path.name, 0)
            most = _BLOCK_BYTES if until is None else max(0, until.get(path.name, 0) - begin)
            while lines := self._lines(path, begin, min(most, _BLOCK_BYTES)):
                self._waiting, self._file = lines, path.name
                return True
        return False

    def _lines(self, path: Path, begin: int, most: int) -> list[bytes]:
        with path.open("rb") as file:
            file.seek(begin)
            block = file.read(most)
            end = block.rfind(b"\n") + 1
            if end == 0 and len(block) == most and most > 0:
                block += file.readline()  # A line that is longer than a block.
                end = len(block) if block.endswith(b"\n") else 0
        return block[:end].splitlines(keepends=True)
