"""Segment files: what is written is read, and what is damaged is refused."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nann.errors import InvalidFileError, InvalidInputError
from nann.live import Segment, read_segment, segment_numbers, segment_path, updates_dir, write_segment
from nann.live.segment import decode_segment, encode_segment

TYPES = ("<f4", "<f2", "<u2", "<i4", "<i8", "|u1")
EXPORT = "0123456789abcdef" * 2


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    names = draw(
        st.lists(
            st.from_regex(r"(table|state|publisher|links)/[a-zé]{1,8}", fullmatch=True),
            unique=True,
            max_size=5,
        )
    )
    columns = {}
    for name in names:
        dtype, rows = draw(st.sampled_from(TYPES)), draw(st.integers(0, 40))
        shape = [rows, draw(st.integers(1, 9))] if name.startswith(("table/", "state/")) else [rows]
        generator = np.random.default_rng(draw(st.integers(0, 2**32)))
        columns[name] = generator.integers(0, 100, shape).astype(dtype)
    number = draw(st.integers(1, 2**32 - 1))
    return Segment(
        number,
        draw(st.integers(0, number - 1)),
        draw(st.integers(0, 2**30)),
        draw(st.integers(0, 2**30)),
        EXPORT,
        draw(st.integers(-(2**63), 2**63 - 1)),
        columns,
    )


def sample() -> bytes:
    columns = {
        "ids": np.array([7, 9], np.int64),
        "table/item_embs": np.ones([2, 3], np.float32),
        "publisher/offset": np.frombuffer(b"{}", np.uint8),
    }
    return encode_segment(Segment(3, 2, 500, 2, EXPORT, 1, columns))


@given(segments())
def test_what_is_written_is_read(segment: Segment) -> None:
    read = decode_segment(encode_segment(segment), "a")
    for name in ("number", "follows", "positions_before", "num_new", "export_id", "published_micros"):
        assert getattr(read, name) == getattr(segment, name)
    assert list(read.columns) == list(segment.columns)
    for name, expected in segment.columns.items():
        assert read.columns[name].dtype == expected.dtype
        np.testing.assert_array_equal(read.columns[name], expected)


def test_the_header_is_that_of_the_page() -> None:
    content = sample()
    assert content[:8] == b"NANNSEG\0"
    version, checksum, size, number, follows, before, new, micros = struct.unpack_from(
        "<IIQQQQQq", content, 8
    )
    assert (version, size, number, follows, before, new, micros) == (1, len(content), 3, 2, 500, 2, 1)
    assert checksum == zlib.crc32(content[16:])
    assert content[64:96].decode() == EXPORT
    assert struct.unpack_from("<Q", content, 96) == (3,)
    entry = content[128 + 128 : 128 + 256]
    assert entry[:96].rstrip(b"\0") == b"table/item_embs"
    assert entry[96:104].rstrip(b"\0") == b"<f4"
    rows, width, offset = struct.unpack_from("<QQQ", entry, 104)
    assert (rows, width, offset % 64) == (2, 3, 0)
    np.testing.assert_array_equal(np.frombuffer(content, "<f4", 6, offset), np.ones(6))


def test_files_are_named_by_their_number_and_others_are_ignored(tmp_path: Path) -> None:
    folder = updates_dir(tmp_path / "nann" / "1")
    assert folder == tmp_path / "nann/updates/1"
    assert segment_numbers(folder) == []
    path = write_segment(folder, Segment(12, 0, 5, 0, EXPORT))
    assert path.name == "0000000012.segment" == segment_path(folder, 12).name
    (folder / ".0000000013.segment.writing").write_bytes(b"half")
    (folder / "13.segment").touch()
    assert segment_numbers(folder) == [12]
    assert read_segment(path).number == 12


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError, match=r"0000000001\.segment: expected a segment, found no such"):
        read_segment(segment_path(tmp_path, 1))


@pytest.mark.parametrize("at", range(0, 128 + 3 * 128, 7))
def test_a_changed_byte_is_found_by_the_sum(at: int) -> None:
    content = bytearray(sample())
    content[at] ^= 0x41
    with pytest.raises(InvalidFileError, match=r"^a: expected .*found"):
        decode_segment(bytes(content), "a")


@pytest.mark.parametrize("size", [0, 1, 127, 128, 200, 511, 600])
def test_a_cut_file_is_refused(size: int) -> None:
    with pytest.raises(InvalidFileError, match=r"^a: expected"):
        decode_segment(sample()[:size], "a")


def test_mutated_files_with_a_right_sum_are_read_or_refused() -> None:
    """Whoever writes the sum right may still write nonsense: it is refused, never a crash."""
    generator = random.Random(0)
    interesting = [0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
    read_or_refused, refused = 0, 0
    for _ in range(3000):
        content = bytearray(sample())
        for _ in range(generator.randint(1, 3)):
            at = generator.randrange(16, 128 + 3 * 128)
            if generator.random() < 0.5:
                at -= at % 8
                content[at : at + 8] = struct.pack("<Q", generator.choice(interesting))
            else:
                content[at] = generator.randrange(256)
        content[12:16] = struct.pack("<I", zlib.crc32(content[16:]))
        try:
            read = decode_segment(bytes(content), "a")
        except InvalidFileError as error:
            refused += str(error).startswith("a: expected")
            continue
        read_or_refused += all(array.nbytes <= len(content) for array in read.columns.values())
    read_or_refused += refused
    assert read_or_refused == 3000
    assert 0 < refused < 3000


def test_a_name_that_does_not_fit_is_not_cut() -> None:
    with pytest.raises(InvalidInputError, match=r"expected a name of less than 96 bytes"):
        encode_segment(
            Segment(1, 0, 0, 0, EXPORT, columns={"table/" + "a" * 90: np.zeros([1, 1], np.float32)})
        )
