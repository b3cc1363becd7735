"""`embed`: push every item through the item side of a trained model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.files import link_or_copy, read_json, staged_directory, staged_file, write_json
from nann.progress import OnProgress
from nann.run import (
    EMBEDDINGS,
    INDEX,
    REQUESTS,
    TITLES,
    RetrievalModel,
    class_name,
    guarded,
    item_state_of,
    load_model,
)
from nann.training._dataset import Dataset
from nann.training._features import ItemFeatures, UserFeatures, knows_features
from nann.training._run import read_run_dataset
from nann.training._splits import Examples
from nann.training._work_folder import work_folder

_CHUNK_ROWS = 65_536
# The work that a later extraction goes on with, and how far it is.
_WORK, _DONE = ".embeddings.extracting", "done.json"
# Half of them choose an export's beams, half measure it, and as many again serve the proxy walk.
_REQUESTS = 1024
_DTYPES = ("float32", "float16")


def embed(
    run_dir: Path,
    *,
    dtype: str = "float32",
    chunk_rows: int = _CHUNK_ROWS,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Write `RUN/embeddings`: `item_ids.npy` int64 [N], `item_embs.npy` `dtype` [N, D], and for each item
    state of the model `item_state_{name}.npy` [N, ...], all items.

    The folder appears when it is complete; memory is that of one chunk. An extraction that was killed goes
    on after the last whole chunk when it is run again, unless a file of the run has changed since; its work
    lies in `RUN/.embeddings.extracting`. `RUN/requests.npz` has what some users of the data set would send,
    by which `nann export` chooses its beams. `RUN/titles.json` has the titles of the items that the data set
    knows.

    Returns:
      items, dim, dtype and the folder.

    Raises:
      InvalidInputError: `dtype` is neither float32 nor float16, an embedding does not fit it, or another
        process extracts the embeddings of this run.
      InvalidFileError: the run, its data set or its checkpoint is missing or damaged.
    """
    _check_options(dtype, chunk_rows)
    dataset = read_run_dataset(run_dir)
    model = guarded(load_model(run_dir), check_results=True)
    features = ItemFeatures(dataset, model)
    embed_item = tf.function(model.embed_item, reduce_retracing=True, autograph=False)  # as an export traces
    count = dataset.num_items
    plan = _plan(run_dir, dataset, model, dtype=dtype, chunk_rows=chunk_rows)
    with work_folder(run_dir / _WORK, plan, what="the only extraction of this run's embeddings") as work:
        files = _Files(work, model, count, dtype)
        for start in range(files.done, count, chunk_rows):
            rows = np.arange(start + 1, min(start + chunk_rows, count) + 1)
            files.write(start, embed_item(features.of(rows)))
            if on_progress is not None:
                on_progress("embed", files.done, count)
        files.publish(run_dir / EMBEDDINGS, dataset)
    if dataset.titles:
        write_json(run_dir / TITLES, {str(item): title for item, title in dataset.titles.items()})
    if knows_features(dataset, model.user_features):
        _write_requests(run_dir, dataset, UserFeatures(dataset, model.user_features))
    return {
        "items": count,
        "dim": int(model.embedding_dim),
        "dtype": dtype,
        "embeddings": str(run_dir / EMBEDDINGS),
    }


def _check_options(dtype: str, chunk_rows: int) -> None:
    if dtype not in _DTYPES:
        raise InvalidInputError(f"dtype: expected one of {', '.join(_DTYPES)}, found {dtype!r}.")
    if chunk_rows < 1:
        raise InvalidInputError(f"chunk_rows: expected 1 or more, found {chunk_rows}.")


def _plan(run_dir: Path, dataset: Dataset, model: RetrievalModel, **options: Any) -> dict[str, Any]:
    """What must be the same for an extraction to go on: every file that an embedding may depend on."""
    files = [path for path in run_dir.rglob("*") if path.is_file() and _may_matter(path.relative_to(run_dir))]
    if dataset.folder is not None:
        files += [path for path in dataset.folder.rglob("*") if path.is_file()]
    code = getattr(sys.modules.get(class_name(model).partition(":")[0]), "__file__", None)
    if code is not None:
        files.append(Path(code))
    stats = [(str(path), path.stat()) for path in sorted(files)]
    return {**options, "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]}


def _may_matter(path: Path) -> bool:
    """Not what `nann embed` and `nann index` write, and nothing that Python or a writer leaves behind."""
    return path.parts[0] not in (EMBEDDINGS, INDEX) and not any(
        part.startswith(".") or part == "__pycache__" for part in path.parts
    )


class _Files:
    """`item_embs.npy` and an `item_state_{name}.npy` for each item state of the model, filled in parts.

    done: the number of items whose values are in the files.
    """

    def __init__(self, work: Path, model: RetrievalModel, count: int, dtype: str) -> None:
        self._work = work
        self._state = item_state_of(model)
        self._width = int(model.embedding_dim)
        self.done = self._done_before()
        shapes = {"item_embs": ([self._width], dtype)}
        for name, spec in self._state.items():
            shapes[f"item_state_{name}"] = (spec.shape.as_list(), spec.dtype.name)
        self._arrays = {
            name: np.lib.format.open_memmap(
                work / f"{name}.npy",
                mode="r+" if self.done else "w+",
                dtype=np.dtype(kind),
                shape=(count, *shape),
            )
            for name, (shape, kind) in shapes.items()
        }

    def write(self, start: int, embedded: Any) -> None:
        """The items from `start` on, as `embed_item` returns them."""
        embs, state = embedded if self._state else (embedded, {})
        self._check_finite(start, embs.numpy())
        columns = {"item_embs": embs, **{f"item_state_{name}": state[name] for name in self._state}}
        for name, values in columns.items():
            self._arrays[name][start : start + len(values)] = values.numpy()
            # On disk before the number that says so.
            self._arrays[name].flush()
        self.done = start + len(embs)
        write_json(self._work / _DONE, {"items": self.done})

    def publish(self, folder: Path, dataset: Dataset) -> None:
        """Make the files, all filled, those of `folder`."""
        names = list(self._arrays)
        self._arrays.clear()
        with staged_directory(folder) as staged:
            np.save(staged / "item_ids.npy", dataset.item_ids)
            for name in names:
                link_or_copy(self._work / f"{name}.npy", staged / f"{name}.npy")

    def _done_before(self) -> int:
        path = self._work / _DONE
        return int(read_json(path, what="a count", next_step="")["items"]) if path.exists() else 0

    def _check_finite(self, start: int, embs: npt.NDArray[Any]) -> None:
        dtype = self._arrays["item_embs"].dtype
        largest = np.abs(embs).max(initial=0.0)
        if not largest <= np.finfo(dtype).max:
            raise InvalidInputError(
                f"embed_item: expected item embeddings that are finite in {dtype}, found {largest} in "
                f"rows {start}..{start + len(embs) - 1}. Embed as float32, or train with a smaller learning "
                f"rate."
            )


def _write_requests(run_dir: Path, dataset: Dataset, features: UserFeatures) -> None:
    """The features, by ids, of users drawn at random, as they were before their validation event.

    `nann evaluate` asks for the test events: none of its requests is one that an export was tuned by.
    """
    held_out = dataset.split.validation
    chosen = np.sort(np.random.default_rng(0).permutation(len(held_out))[:_REQUESTS])
    if not len(chosen):
        return
    # Strings, too, are loaded without pickle.
    arrays: dict[str, Any] = {
        name: values.astype(np.str_) if values.dtype == object else values
        for name, values in features.sent(Examples(held_out.users[chosen], held_out.cuts[chosen])).items()
    }
    with staged_file(run_dir / REQUESTS) as staged, staged.open("wb") as file:
        np.savez(file, **arrays)
