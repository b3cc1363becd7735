"""The corpus: item ids and item embeddings, memory-mapped and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError
from nann.export.item_rows import ItemRows
from nann.files import describe_array, load_array, write_array_in_chunks
from nann.progress import OnProgress
from nann.run import ATTRIBUTES, REQUESTS, TITLES, VOCABULARY

if TYPE_CHECKING:
    import tensorflow as tf

# Rows read at a time: 64 columns of float32 are 16 MB, small beside any corpus, large beside a call.
CHUNK_ROWS = 65_536
# Ids or rows that a message names.
_SHOWN = 5
_STATE = "item_state_"  # begins the names of the files of item state
_NEXT_STEP = "Write it with the item side of your model; docs/your-model.md says what RUN/embeddings holds."


@dataclass(frozen=True)
class Items:
    """A corpus of N items, memory-mapped.

    ids:   int64 [N], each once, never -1 (which pads answers).
    embs:  float32 or float16 [N, D], all finite.
    state: name -> [N, ...] of each item_state_{name}.npy.

    Example:
      >>> items = read_items("RUN")
      >>> items.num_items, items.dim, items.ids.dtype
      (500, 8, dtype('int64'))
    """

    ids_path: Path
    embs_path: Path
    ids: npt.NDArray[np.int64]
    embs: npt.NDArray[Any]
    state: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def rows(self) -> npt.NDArray[Any] | ItemRows:
        """[N, width]: what a scorer reads of each item before it is split."""
        return ItemRows(self.embs, self.state) if self.state else self.embs

    @property
    def num_items(self) -> int:
        """N."""
        return int(self.ids.shape[0])

    @property
    def dim(self) -> int:
        """D."""
        return int(self.embs.shape[1])

    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield (first row, embeddings [<= rows, D]) over the whole corpus."""
        for start in range(0, self.num_items, rows):
            yield start, np.asarray(self.embs[start : start + rows])


def read_items(run_dir: str | Path, *, on_progress: OnProgress | None = None) -> Items:
    """Memory-map and check RUN/embeddings: item_ids.npy and item_embs.npy.

    Raises InvalidFileError that names the file and the rows or ids that are wrong.

    Example:
      >>> read_items("RUN").embs.shape
      (500, 8)
    """
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
    items = Items(ids_path, embs_path, ids, embs, _read_state(folder, ids.shape[0]))
    _check_finite(items, on_progress)
    return items


def write_part_of_run(target: Path, run_dir: Path, items: Items, rows: npt.NDArray[np.int64]) -> None:
    """Write a run of the items `rows`, in this order: embeddings, vocabularies, attributes, no index."""
    folder = target / "embeddings"
    folder.mkdir(parents=True)
    np.save(folder / items.ids_path.name, items.ids[rows])
    chunks = (items.embs[rows[start : start + CHUNK_ROWS]] for start in range(0, rows.size, CHUNK_ROWS))
    write_array_in_chunks(
        folder / items.embs_path.name, chunks, dtype=items.embs.dtype, shape=(rows.size, items.dim)
    )
    for name, values in items.state.items():
        chunks = (values[rows[start : start + CHUNK_ROWS]] for start in range(0, rows.size, CHUNK_ROWS))
        shape = (rows.size, *values.shape[1:])
        write_array_in_chunks(folder / f"{_STATE}{name}.npy", chunks, dtype=values.dtype, shape=shape)
    (target / VOCABULARY).symlink_to((run_dir / VOCABULARY).resolve())
    for name in (ATTRIBUTES, REQUESTS, TITLES):
        if (run_dir / name).exists():
            (target / name).symlink_to((run_dir / name).resolve())


def items_of_model(items: Items, specs: Mapping[str, tf.TensorSpec]) -> Items:
    """The items with the state that a model reads, in its order.

    Raises InvalidFileError for state that is missing or of another type or shape.
    """
    for name, spec in specs.items():
        path = items.embs_path.with_name(f"{_STATE}{name}.npy")
        expected = f"{spec.dtype.name} {[items.num_items, *spec.shape]}, as item_state of the model has it"
        values = items.state.get(name)
        if values is None:
            raise InvalidFileError(f"{path}: expected {expected}, found no file. {_NEXT_STEP}")
        if values.dtype.name != spec.dtype.name or list(values.shape[1:]) != spec.shape.as_list():
            raise InvalidFileError(
                f"{path}: expected {expected}, found {describe_array(values)}. {_NEXT_STEP}"
            )
    return replace(items, state={name: items.state[name] for name in specs})


def _read_state(folder: Path, num_items: int) -> dict[str, npt.NDArray[Any]]:
    state = {}
    for path in sorted(folder.glob(f"{_STATE}*.npy")):
        values = load_array(path, next_step=_NEXT_STEP)
        if values.ndim == 0 or values.shape[0] != num_items:
            raise InvalidFileError(
                f"{path}: expected {num_items} rows, one for each id of item_ids.npy, found "
                f"{describe_array(values)}. {_NEXT_STEP}"
            )
        state[path.stem.removeprefix(_STATE)] = values
    return state


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
            f"and write the embeddings again."
        )


def some_ids(ids: npt.NDArray[Any]) -> str:
    """The first of `ids`, for messages: "0, 1, 2, 3, 4, ..."."""
    shown = ", ".join(str(item) for item in ids[:_SHOWN].tolist())
    return shown + (", ..." if ids.size > _SHOWN else "")


def repeated_ids(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The ids that stand more than once in `ids`, ascending."""
    ordered = np.sort(ids)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
