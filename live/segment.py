"""The files of segments, as docs/live.md has them: written whole, and read with every byte checked."""

from __future__ import annotations

import mmap
import os
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.files import staged_file

FORMAT_VERSION = 1
MAX_NUMBER = 2**32 - 1
UPDATES = "updates"
Array = npt.NDArray[Any]

_MAGIC = b"NANNSEG\0"
# Magic, version, sum; size, number, follows, positions before, new items, time; export id, columns.
_HEADER = struct.Struct("<8sII QQQQQq 32sQ 24x")
_ENTRY = struct.Struct("<96s8sQQQ")
_NAME_BYTES = 96
_SUMMED_FROM = 16
_ALIGNMENT = 64
_TYPES = ("<f4", "<f2", "<u2", "<i4", "<i8", "|u1")
# Columns of these have a row for each item, whatever their width.
_OF_ITEMS = ("table/", "state/")
_FILE_NAME = re.compile(r"(\d{10})\.segment")
_NEXT_STEP = "Copy the file again from where it was published, or roll back: nann publish --rollback-to."


@dataclass(frozen=True)
class Segment:
    """One segment.

    number:           1 to 2^32 - 1, larger than that of every segment before it.
    follows:          the number of the segment before it; 0: the base.
    positions_before: N plus the new items of all segments before it.
    num_new:          n, its new items.
    export_id:        32 characters: the export that it was computed for.
    published_micros: time of publication, microseconds since 1970 (UTC).
    columns:          name -> array [rows] or [rows, width].

    Example:
      >>> ids = np.array([7], np.int64)
      >>> segment = Segment(1, 0, 500, 1, "0" * 32, columns={"ids": ids})
      >>> segment.column("deleted", "<i4")
      array([], dtype=int32)
    """

    number: int
    follows: int
    positions_before: int
    num_new: int
    export_id: str
    published_micros: int = 0
    columns: Mapping[str, Array] = field(default_factory=dict)

    @property
    def positions_after(self) -> int:
        """Positions once it is applied."""
        return self.positions_before + self.num_new

    def column(self, name: str, dtype: str) -> Array:
        """The column of this name; an empty vector of `dtype` where there is none."""
        found = self.columns.get(name)
        return np.zeros(0, dtype) if found is None else found


def stored_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that a column has for values of `dtype`: itself, or where columns lack it one of its size.

    Example:
      >>> stored_type(np.dtype(np.float16)), stored_type(np.dtype(np.bool_))
      (dtype('float16'), dtype('uint8'))
    """
    of_size = {np.dtype(each).itemsize: np.dtype(each) for each in ("|u1", "<u2", "<i4", "<i8")}
    return dtype if dtype.str in _TYPES else of_size[dtype.itemsize]


def updates_dir(model_dir: Path) -> Path:
    """The folder of the segments of a version folder: MODELS/nann/updates/1 of MODELS/nann/1."""
    version = Path(os.path.abspath(model_dir))
    return version.parent / UPDATES / version.name


def segment_path(folder: Path, number: int) -> Path:
    """The file of the segment `number`."""
    return folder / f"{number:010}.segment"


def segment_numbers(folder: Path) -> list[int]:
    """The numbers of the segments in `folder`, ascending; none where there is no such folder."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    matches = (_FILE_NAME.fullmatch(name) for name in names)
    return sorted(int(match[1]) for match in matches if match is not None)


def write_segment(folder: Path, segment: Segment) -> Path:
    """Write a segment into `folder`; a reader sees all of it or nothing, even after a power failure."""
    content = encode_segment(segment)
    path = segment_path(folder, segment.number)
    with staged_file(path) as staged, staged.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return path


def encode_segment(segment: Segment) -> bytes:
    """The bytes of a segment's file."""
    offset = _aligned(_HEADER.size + _ENTRY.size * len(segment.columns))
    entries, parts = [], []
    for name, array in segment.columns.items():
        array = np.ascontiguousarray(array)
        if len(name.encode()) >= _NAME_BYTES or array.dtype.str not in _TYPES:
            raise InvalidInputError(
                f"{name}: expected a name of less than {_NAME_BYTES} bytes and a type {', '.join(_TYPES)}, "
                f"found {len(name.encode())} and {array.dtype.str}. Give the table a shorter name."
            )
        width = int(np.prod(array.shape[1:], dtype=np.int64))
        entries.append(_ENTRY.pack(name.encode(), array.dtype.str.encode(), array.shape[0], width, offset))
        content = array.tobytes()
        parts.append(content + bytes(_aligned(len(content)) - len(content)))
        offset += len(parts[-1])
    directory = b"".join(entries)
    directory += bytes(_aligned(_HEADER.size + len(directory)) - _HEADER.size - len(directory))
    body = b"".join([directory, *parts])

    def header(checksum: int) -> bytes:
        return _HEADER.pack(
            *(_MAGIC, FORMAT_VERSION, checksum, _HEADER.size + len(body)),
            *(segment.number, segment.follows, segment.positions_before, segment.num_new),
            *(segment.published_micros, segment.export_id.encode("ascii"), len(segment.columns)),
        )

    checksum = zlib.crc32(body, zlib.crc32(header(0)[_SUMMED_FROM:]))
    return header(checksum) + body


def read_segment(path: Path) -> Segment:
    """Read and check the file of a segment: sum, header, directory and the place of every column.

    Raises InvalidFileError that names the file, what was expected and what was found.
    `nann.live.check_segment` checks the content against an export.
    """
    try:
        with path.open("rb") as file:
            # Mapped: a publisher holds all segments of its version. An empty file cannot be mapped.
            empty = os.fstat(file.fileno()).st_size == 0
            content = b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise InvalidFileError(f"{path}: expected a segment, found no such file. {_NEXT_STEP}") from None
    return decode_segment(content, str(path))


def decode_segment(file_content: bytes | mmap.mmap, name: str) -> Segment:
    """`read_segment` for the content of a file, which the columns are views of; `name` stands in messages."""
    content = memoryview(file_content)

    def check(holds: bool, expected: str, found: object) -> None:
        if not holds:
            raise InvalidFileError(f"{name}: expected {expected}, found {found}. {_NEXT_STEP}")

    size = len(content)
    check(size >= _HEADER.size, f"a segment of at least {_HEADER.size} bytes", f"{size} bytes")
    magic, version, checksum, stated, number, follows, before, new, micros, export_id, count = (
        _HEADER.unpack_from(content)
    )
    check(magic == _MAGIC, f"a segment, which begins with {_MAGIC!r}", magic)
    check(version == FORMAT_VERSION, f"format version {FORMAT_VERSION}", version)
    check(stated == size, f"{stated} bytes", f"{size}")
    check(zlib.crc32(content[_SUMMED_FROM:]) == checksum, f"CRC-32 {checksum:08x}", "another: it is damaged")
    check(1 <= number <= MAX_NUMBER, f"a number 1..{MAX_NUMBER}", number)
    check(follows < number, f"a segment that follows a smaller number than {number}", follows)
    check(before < 2**31 and new < 2**31 - before, "positions below 2^31", f"{before} and {new} new items")
    check(export_id.isascii(), "an export id in ASCII", export_id)
    check(count <= (size - _HEADER.size) // _ENTRY.size, f"a directory that fits in {size} bytes", count)
    columns: dict[str, Array] = {}
    for place in range(count):
        column, array = _column(content, place, first=_HEADER.size + count * _ENTRY.size, check=check)
        check(column not in columns, "names of columns, each once", f"{column} twice")
        columns[column] = array
    return Segment(number, follows, before, new, export_id.decode("ascii"), micros, columns)


def _column(
    content: memoryview, place: int, *, first: int, check: Callable[[bool, str, object], None]
) -> tuple[str, Array]:
    """The column that entry `place` of the directory describes. The first one begins at `first` or behind."""
    raw_name, raw_type, rows, width, offset = _ENTRY.unpack_from(content, _HEADER.size + place * _ENTRY.size)
    name, dtype = _text(raw_name), _text(raw_type)
    check(bool(name) and raw_name[-1:] == b"\0", "a column's name in UTF-8 that a zero byte ends", raw_name)
    check(dtype in _TYPES, f"{name} to be of a type {', '.join(_TYPES)}", raw_type)
    assert name is not None
    itemsize = np.dtype(dtype).itemsize
    fits = 1 <= width <= len(content) and rows * width * itemsize <= len(content) - offset
    check(
        fits and first <= offset and offset % _ALIGNMENT == 0,
        f"{name} inside of the file",
        (rows, width, offset),
    )
    values = np.frombuffer(content[offset : offset + rows * width * itemsize], dtype)
    return name, values.reshape(rows, width) if name.startswith(_OF_ITEMS) else values


def _text(padded: bytes) -> str | None:
    """The text before the zero bytes that fill the field; None where it is malformed."""
    text, _, rest = padded.partition(b"\0")
    try:
        return text.decode() if not rest.strip(b"\0") else None
    except UnicodeDecodeError:
        return None


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
