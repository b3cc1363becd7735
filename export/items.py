"""The corpus: item ids and item embeddings, mapped and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError
from nann.files import describe_array, load_array, write_array_in_chunks
from nann.progress import OnProgress

# Rows read at a time: 64 columns of float32 are 16 MB, small beside any corpus, large beside a call.
CHUNK_ROWS = 65_536
_SHOWN = 5
_NEXT_STEP = "Write it with the item side of your model; docs/your-model.md says what RUN/embeddings holds."


@dataclass(frozen=True)
class Items:
    """A corpus of N items, memory-mapped.

    ids:  int64 [N], each once, never -1 (which pads answers).
    embs: float32 or float16 [N, D], all finite.
    """

    ids_path: Path
    embs_path: Path
    ids: npt.NDArray[np.int64]
    embs: npt.NDArray[Any]

    @property
    def num_items(self) -> int:
        """N."""
        return int(self.ids.shape[0])

    @property
    def dim(self) -> int:
        """D."""
        return int(self.embs.shape[1])

    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """(first row, embeddings [<= rows, D]) over the whole corpus."""
        for start in range(0, self.num_items, rows):
            yield start, np.asarray(self.embs[start : start + rows])


def read_items(run_dir: str | Path, *, on_progress: OnProgress | None = None) -> Items:
    """Map and check RUN/embeddings; InvalidFileError says which rows or ids are wrong."""
    folder = Path(run_dir) / "embeddings"
    ids_path, embs_path = folder / "item_ids.npy", folder / "item_embs.npy"
    ids = load_array(ids_path, next_step=_NEXT_STEP)
    embs = load_array(embs_path, next_step=_NEXT_STEP)
    _check_ids(ids_path, ids)
    if embs.dtype not in (np.float32, np.float16) or embs.ndim != 2 or embs.shape[1] == 0:
        raise InvalidFileError(
            f"{embs_path}: expected float32 or float16 [N, D], found {describe_array(embs)}. {_NEXT_STEP}"
        )
    if embs.shape[0] != ids.shape[0]:
        raise InvalidFileError(
            f"{embs_path}: expected {ids.shape[0]} rows, one for each id of {ids_path.name}, found "
            f"{embs.shape[0]}. {_NEXT_STEP}"
        )
    items = Items(ids_path, embs_path, ids, embs)
    _check_finite(items, on_progress)
    return items


def write_part_of_run(target: Path, run_dir: Path, items: Items, rows: npt.NDArray[np.int64]) -> None:
    """Write a run of these rows alone, in this order, as far as an export reads it but for the index."""
    folder = target / "embeddings"
    folder.mkdir(parents=True)
    np.save(folder / items.ids_path.name, items.ids[rows])
    chunks = (items.embs[rows[start : start + CHUNK_ROWS]] for start in range(0, rows.size, CHUNK_ROWS))
    write_array_in_chunks(
        folder / items.embs_path.name, chunks, dtype=items.embs.dtype, shape=(rows.size, items.dim)
    )
    (target / "vocabulary").symlink_to((run_dir / "vocabulary").resolve())


def _check_ids(path: Path, ids: npt.NDArray[Any]) -> None:
    if ids.dtype != np.int64 or ids.ndim != 1:
        raise InvalidFileError(f"{path}: expected int64 [N], found {describe_array(ids)}. {_NEXT_STEP}")
    if ids.size == 0:
        raise InvalidFileError(f"{path}: expected at least one item, found none. {_NEXT_STEP}")
    repeated = repeated_ids(ids)
    if repeated.size:
        raise InvalidFileError(
            f"{path}: expected each id once, found {repeated.size} ids more than once: {some_ids(repeated)}. "
            f"Keep one row for each id, in item_embs.npy too."
        )
    if (ids == -1).any():
        raise InvalidFileError(
            f"{path}: expected no id -1, which marks a missing result, found one at row "
            f"{int(np.flatnonzero(ids == -1)[0])}. Give the item another id."
        )


def _check_finite(items: Items, on_progress: OnProgress | None) -> None:
    bad: list[int] = []
    count = 0
    for start, chunk in items.chunks():
        rows = np.flatnonzero(~np.isfinite(chunk).all(axis=1)) + start
        count += rows.size
        bad += rows[: max(0, _SHOWN - len(bad))].tolist()
        if on_progress is not None:
            on_progress("check embeddings", start + len(chunk), items.num_items)
    if count:
        more = ", ..." if count > len(bad) else ""
        raise InvalidFileError(
            f"{items.embs_path}: expected finite values, found NaN or infinity in {count} rows: "
            f"{', '.join(map(str, bad))}{more}. Correct the model or drop these items, "
            f"then write the embeddings again."
        )


def some_ids(ids: npt.NDArray[Any]) -> str:
    """The first of `ids`, for messages: "0, 1, 2, 3, 4, ..."."""
    shown = ", ".join(str(item) for item in ids[:_SHOWN].tolist())
    return shown + (", ..." if ids.size > _SHOWN else "")


def repeated_ids(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The ids that stand more than once in `ids`, ascending."""
    ordered = np.sort(ids)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
