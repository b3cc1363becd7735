"""Reading and writing files: writers publish complete files and folders, read errors name the next step."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import glob
import json
import os
import shutil
import tokenize
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError

# From <fcntl.h> and <linux/fs.h>, for renameat2.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# Errors of a link that is not possible: other device, not permitted, too many links, not supported.
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES)
# The characters that have a meaning in TensorFlow's file patterns.
_PATTERN_CHARACTERS = frozenset("*?[]\\")
# Read and written at a time: small beside memory, large beside the cost of a call.
_CHUNK_BYTES = 2**24
# What NumPy raises for a damaged .npy file; its header is parsed as Python.
_DAMAGED_NPY = (
    ValueError,
    OSError,
    EOFError,
    OverflowError,
    SyntaxError,
    MemoryError,
    tokenize.TokenError,
)


@contextlib.contextmanager
def only_process(lock: Path, *, otherwise: str) -> Iterator[None]:
    """Hold the lock that the file `lock` stands for, which is created, while the block runs.

    The lock goes with its process, however that ends. Raises InvalidInputError with the message `otherwise`
    when another process has it.
    """
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidInputError(otherwise) from None
        yield


@contextlib.contextmanager
def staged_directory(target: str | os.PathLike[str], *, replace: bool = True) -> Iterator[Path]:
    """Yield a new empty directory beside `target`; rename it to `target` when the block ends.

    An existing `target` is swapped out in one step and then deleted; with `replace=False` FileExistsError
    is raised instead, unless it is an empty directory. When the block raises, the
    staged directory is deleted and `target` stays as it was. The staged name starts with a dot and
    is not a number, so no model server loads it as a version. A symbolic link `target` is kept; the
    directory replaces the one that it points to. What a killed writer of `target` has left is deleted.
    """
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    _delete_abandoned(target)
    with _locked_sibling(target) as staged:
        try:
            yield staged
            _publish(staged, target, replace=replace)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


@contextlib.contextmanager
def staged_file(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the name of a new file beside `target`; rename it to `target` when the block ends.

    When the block raises, what it wrote is deleted and `target` stays as it was.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = _sibling(target)
    try:
        yield staged
        os.replace(staged, target)
    finally:
        staged.unlink(missing_ok=True)


@contextlib.contextmanager
def without_patterns(folder: Path) -> Iterator[Path]:
    """Yield a name of `folder` that TensorFlow can load from, whatever characters its path has.

    TensorFlow looks for checkpoints, also for those inside a SavedModel, by file patterns: it does not find
    them below a folder that is called `a[b]` or `a\\b`. The yielded name is that of an open file descriptor
    (Linux), valid in this process until the block ends. A path without such characters is yielded as it is.
    """
    if _PATTERN_CHARACTERS.isdisjoint(str(folder)):
        yield folder
        return
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8; a reader sees the old file or the new one."""
    with staged_file(path) as staged:
        staged.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON; a reader sees the old file or the new one."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write `array` as .npy; a reader sees the old file or the new one."""
    with staged_file(path) as staged, staged.open("wb") as file:
        np.save(file, array)


def read_json(path: Path, *, what: str, next_step: str) -> dict[str, Any]:
    """Read the JSON object in `path`.

    what:      what the file is, for messages: "the description of an index".
    next_step: the sentence that ends messages.

    Raises InvalidFileError when the file is missing or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise InvalidFileError(f"{path}: expected {what}, found no such file. {next_step}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidFileError(
            f"{path}: expected a JSON object, found no JSON ({error}). {next_step}"
        ) from error
    if not isinstance(content, dict):
        raise InvalidFileError(f"{path}: expected a JSON object, found {type(content).__name__}. {next_step}")
    return content


def load_array(path: str | os.PathLike[str], *, next_step: str) -> npt.NDArray[Any]:
    """Memory-map an .npy file read-only; InvalidFileError ends with `next_step` when it cannot be read."""
    path = Path(path)
    if not path.is_file():
        raise InvalidFileError(f"{path}: expected an .npy file, found none. {next_step}")
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGED_NPY as error:
        raise InvalidFileError(
            f"{path}: expected a whole .npy file, found {path.stat().st_size} bytes that cannot be "
            f"read as one ({error}). {next_step}"
        ) from error
    if not isinstance(array, np.ndarray):
        raise InvalidFileError(f"{path}: expected one .npy array, found an archive. {next_step}")
    return array


def describe_array(array: npt.NDArray[Any]) -> str:
    """Type and shape for messages: "float32 of shape [500, 8]", "big-endian int64 of shape [60]".

    Strings are said to be such: NumPy calls those of up to 21 characters str672.
    """
    order = "" if array.dtype.isnative else "big-endian "
    name = {"U": "strings", "S": "bytes"}.get(array.dtype.kind, array.dtype.name)
    return f"{order}{name} of shape {list(array.shape)}"


def write_array_in_chunks(
    path: Path,
    chunks: Iterable[npt.NDArray[Any]],
    *,
    dtype: npt.DTypeLike,
    shape: tuple[int, ...],
) -> None:
    """Write `chunks`, consecutive rows of an array of `shape`, as .npy; memory is that of one chunk."""
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    row = 0
    for chunk in chunks:
        file[row : row + len(chunk)] = chunk
        row += len(chunk)
    file.flush()


def link_array(source: Path, target: Path) -> None:
    """Make `target` an .npy file with the array of `source` [n, ...] that the op library can map.

    The library maps what `numpy.save` writes for a C-contiguous little-endian array. Such a file is linked
    by `link_or_copy`; any other is written anew, a chunk at a time.
    """
    array = np.load(source, mmap_mode="r", allow_pickle=False)
    if _can_be_mapped(source, array):
        link_or_copy(source, target)
        return
    rows = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
    chunks = (array[start : start + rows] for start in range(0, len(array), rows))
    write_array_in_chunks(target, chunks, dtype=array.dtype.newbyteorder("<"), shape=array.shape)


def _can_be_mapped(path: Path, array: Any) -> bool:
    """Whether the header has the form that the op library reads, and the file ends with the data."""
    with path.open("rb") as file:
        header = file.read(array.offset).decode("latin1")
    expected = (f"'descr': '{array.dtype.newbyteorder('<').str}'", "'fortran_order': False", "'shape': (")
    return all(part in header for part in expected) and path.stat().st_size == array.offset + array.nbytes


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source` where the file system can, else a copy of it.

    Writers of this project rename whole files into place, so writing never changes a linked file.
    """
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)


def check_replaceable(folder: Path, *, overwrite: bool, marker: str) -> None:
    """Raise InvalidInputError unless `folder` is absent, empty, or holds `marker` and `overwrite` is set.

    `marker` is a file that every folder of this kind has: a mistyped path never replaces another folder.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InvalidInputError(f"{folder}: expected a folder or nothing, found a file. Choose another path.")
    if not any(folder.iterdir()):
        return
    if not (folder / marker).exists():
        raise InvalidInputError(
            f"{folder}: expected an empty folder or one with {marker}, found other files. Choose another."
        )
    if not overwrite:
        raise InvalidInputError(f"{folder}: exists already. Choose another path, or pass --overwrite.")


def _sibling(target: Path) -> Path:
    """A new name beside `target`, hidden, so that no reader takes it for anything."""
    return target.with_name(f".{target.name}.writing-{uuid.uuid4().hex}")


@contextlib.contextmanager
def _locked_sibling(target: Path) -> Iterator[Path]:
    """Make a directory beside `target` whose lock says that its writer lives."""
    while True:
        # Not tempfile.mkdtemp: its folders are private, and a server often runs as another user.
        staged = _sibling(target)
        staged.mkdir()
        with _locked(staged) as locked:
            # Another writer may have taken the new directory for an abandoned one before it was locked.
            if locked is not False and staged.exists():
                yield staged
                return


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[bool | None]:
    """Hold the lock of `directory` while the block runs; False where another process has it.

    None where the file system cannot lock a directory, as NFS: nothing is deleted there.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _delete_abandoned(target: Path) -> None:
    """Delete the directories beside `target` that writers which were killed have left."""
    for path in target.parent.glob(f"{glob.escape(f'.{target.name}.writing-')}{'[0-9a-f]' * 32}"):
        if path.is_dir():
            with _locked(path) as locked:
                if locked:
                    shutil.rmtree(path, ignore_errors=True)


def _publish(staged: Path, target: Path, *, replace: bool) -> None:
    """Rename `staged` to `target`; an existing target ends up under the staged name."""
    try:
        staged.rename(target)
        return
    except OSError:
        if not target.is_dir():
            raise
        if not replace:
            raise FileExistsError(f"{target}: expected no such folder, found one. Choose another.") from None
    if not _exchange(staged, target):
        # This file system cannot swap two names in one step: for a moment there is no target,
        # but never a half-written one.
        old = staged.with_name(staged.name + "-old")
        target.rename(old)
        staged.rename(target)
        old.rename(staged)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step; False where the system or the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(
        renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0
    )
