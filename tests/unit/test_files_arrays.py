"""A user's array becomes a file that the op library can map: linked where it is one, else written anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nann import files
from nann.files import describe_array, link_array, write_array_in_chunks

_EMBS = np.arange(70, dtype=np.float32).reshape(10, 7)


def _other_header(path: Path, array: npt.NDArray[Any], header: str) -> None:
    """What another program than NumPy may write."""
    text = header.encode() + b" " * (117 - len(header)) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + array.tobytes())


@pytest.mark.parametrize("array", [_EMBS, _EMBS.astype(np.float16), np.arange(5), np.zeros((0, 7), "<f4")])
def test_an_array_as_numpy_writes_it_is_linked(tmp_path: Path, array: npt.NDArray[Any]) -> None:
    np.save(tmp_path / "source.npy", array)
    link_array(tmp_path / "source.npy", tmp_path / "target.npy")
    assert os.path.samefile(tmp_path / "source.npy", tmp_path / "target.npy")


@pytest.mark.parametrize("chunk_bytes", [1, 60, 2**24])
@pytest.mark.parametrize(
    "array",
    [np.asfortranarray(_EMBS), _EMBS.astype(">f4"), np.arange(300, dtype=">i8"), _EMBS.astype(">f2").T],
)
def test_an_array_of_another_order_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: npt.NDArray[Any], chunk_bytes: int
) -> None:
    monkeypatch.setattr(files, "_CHUNK_BYTES", chunk_bytes)
    np.save(tmp_path / "source.npy", array)
    link_array(tmp_path / "source.npy", tmp_path / "target.npy")
    written = np.load(tmp_path / "target.npy", mmap_mode="r")
    assert written.flags.c_contiguous
    assert written.dtype == array.dtype.newbyteorder("<")
    np.testing.assert_array_equal(written, array)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<i8', 'fortran_order': True, 'shape': (5,), }",  # The same bytes either way.
        "{'descr':'<i8','fortran_order':False,'shape':(5,)}",
        '{"descr": "<i8", "fortran_order": False, "shape": (5,)}',
    ],
)
def test_an_array_of_another_writer_is_written_anew(tmp_path: Path, header: str) -> None:
    _other_header(tmp_path / "source.npy", np.arange(5), header)
    link_array(tmp_path / "source.npy", tmp_path / "target.npy")
    assert b"'descr': '<i8', 'fortran_order': False, 'shape': (5,)" in (tmp_path / "target.npy").read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "target.npy"), np.arange(5))


def test_bytes_behind_the_data_are_left_behind(tmp_path: Path) -> None:
    np.save(tmp_path / "source.npy", _EMBS)
    with (tmp_path / "source.npy").open("ab") as file:
        file.write(b"more")
    link_array(tmp_path / "source.npy", tmp_path / "target.npy")
    assert (tmp_path / "target.npy").read_bytes() == (tmp_path / "source.npy").read_bytes()[:-4]


def test_chunks_become_one_array(tmp_path: Path) -> None:
    chunks = (_EMBS[start : start + 3] for start in range(0, 10, 3))
    write_array_in_chunks(tmp_path / "embs.npy", chunks, dtype="<f2", shape=(10, 7))
    written = np.load(tmp_path / "embs.npy")
    assert written.dtype == np.float16
    np.testing.assert_array_equal(written, _EMBS)


def test_messages_name_the_byte_order() -> None:
    assert describe_array(_EMBS) == "float32 of shape [10, 7]"
    assert describe_array(np.arange(3, dtype=">i8")) == "big-endian int64 of shape [3]"
    assert describe_array(np.array(["a", "twenty-one characters"])) == "strings of shape [2]"
