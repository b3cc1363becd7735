"""Text files as blocks of whole lines, from any place that an earlier reading stopped at."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from nann.errors import InvalidFileError

BLOCK_BYTES = 2**25
"""Bytes of text per block: a million lines; a few blocks are in memory at a time."""

_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Position:
    """How much of a source was read: files before `file`, and `offset` bytes of text and `lines` of it."""

    file: int = 0
    offset: int = 0
    lines: int = 0


@dataclass(frozen=True)
class Block:
    """Whole lines of one file, each ended by a line feed.

    Attributes:
      path: the file.
      line: the number of the first line, from 1.
      data: UTF-8 text; all line ends are line feeds.
      end: the position behind the block.
      bytes_read: how much of the file on disk was read.
    """

    path: Path
    line: int
    data: bytes
    end: Position
    bytes_read: int


def read_blocks(paths: Sequence[Path], start: Position, *, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The blocks of text files, plain or gzip, from `start`. Lines end with LF, CRLF or CR.

    Raises:
      InvalidFileError: a file cannot be read, is no whole gzip file, or has a line longer than a block.
    """
    for number in range(start.file, len(paths)):
        path = paths[number]
        begin = start if number == start.file else Position(number)
        try:
            with _open(path) as file:
                yield from _blocks(file, path, begin, block_bytes)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidFileError(
                f"{path}: expected a whole gzip file, found a damaged or truncated one ({error}). Copy it "
                "again."
            ) from error
        except OSError as error:
            raise InvalidFileError(
                f"{path}: cannot be read: {error}. Check the path and the disk."
            ) from error


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP
    return cast(IO[bytes], gzip.open(path) if compressed else path.open("rb"))


def _blocks(file: IO[bytes], path: Path, start: Position, block_bytes: int) -> Iterator[Block]:
    file.seek(start.offset)
    offset, lines, rest = start.offset, start.lines, b""
    while True:
        chunk = file.read(block_bytes)
        data = rest + chunk
        cut = len(data) if not chunk else _end_of_lines(data)
        if cut == 0:
            if not chunk:
                return
            if len(data) > block_bytes:
                raise InvalidFileError(
                    f"{path}: line {lines + 1}: expected lines of at most {block_bytes} bytes, found a "
                    "longer one. Give a text file of lines."
                )
            rest = data
            continue
        text = data[:cut]
        offset, rest = offset + cut, data[cut:]
        if offset == cut and text.startswith(_BOM):
            text = text[len(_BOM) :]
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not text.endswith(b"\n"):
            text += b"\n"
        first, lines = lines + 1, lines + text.count(b"\n")
        yield Block(path, first, text, Position(start.file, offset, lines), _bytes_read(file))


def _bytes_read(file: IO[bytes]) -> int:
    raw: IO[bytes] = getattr(file, "fileobj", file)
    return raw.tell()


def _end_of_lines(data: bytes) -> int:
    """Where the last whole line of `data` ends. A CR at the very end may be half of a CRLF."""
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1
