"""`embed`: push every item through the item side of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.files import staged_directory, staged_file, write_json
from nann.progress import OnProgress
from nann.run import EMBEDDINGS, REQUESTS, TITLES, RetrievalModel, guarded, item_state_of, load_model
from nann.training._dataset import Dataset
from nann.training._run import read_run_dataset
from nann.training.ranking import item_features

_CHUNK_ROWS = 65_536
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

    The folder appears when it is complete; memory is that of one chunk. `RUN/requests.npz` has what some
    users of the data set would send, by which `nann export` chooses its beams. `RUN/titles.json` has the
    titles of the items that the data set knows.

    Returns:
      items, dim, dtype and the folder.

    Raises:
      InvalidInputError: `dtype` is neither float32 nor float16, or an embedding does not fit it.
      InvalidFileError: the run, its data set or its checkpoint is missing or damaged.
    """
    _check_options(dtype, chunk_rows)
    dataset = read_run_dataset(run_dir)
    model = guarded(load_model(run_dir), check_results=True)
    embed_item = tf.function(model.embed_item, reduce_retracing=True, autograph=False)  # as an export traces
    count = dataset.num_items
    with staged_directory(run_dir / EMBEDDINGS) as folder:
        np.save(folder / "item_ids.npy", dataset.item_ids)
        files = _Files(folder, model, count, dtype)
        for start in range(0, count, chunk_rows):
            rows = np.arange(start + 1, min(start + chunk_rows, count) + 1)
            files.write(start, embed_item(item_features(dataset, rows)))
            if on_progress is not None:
                on_progress("embed", start + len(rows), count)
        files.close()
    if dataset.titles:
        write_json(run_dir / TITLES, {str(item): title for item, title in dataset.titles.items()})
    if model.user_features.keys() == {"item_ids", "cate_ids"}:
        _write_requests(run_dir, dataset, int(model.user_features["item_ids"].shape[0]))
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


class _Files:
    """`item_embs.npy` and an `item_state_{name}.npy` for each item state of the model, filled in parts."""

    def __init__(self, folder: Path, model: RetrievalModel, count: int, dtype: str) -> None:
        self._state = item_state_of(model)
        self._width = int(model.embedding_dim)
        shapes = {"item_embs": ([self._width], dtype)}
        for name, spec in self._state.items():
            shapes[f"item_state_{name}"] = (spec.shape.as_list(), spec.dtype.name)
        self._arrays = {
            name: np.lib.format.open_memmap(
                folder / f"{name}.npy", mode="w+", dtype=np.dtype(kind), shape=(count, *shape)
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

    def close(self) -> None:
        """Have all be on disk."""
        for array in self._arrays.values():
            array.flush()
        self._arrays.clear()

    def _check_finite(self, start: int, embs: npt.NDArray[Any]) -> None:
        dtype = self._arrays["item_embs"].dtype
        largest = np.abs(embs).max(initial=0.0)
        if not largest <= np.finfo(dtype).max:
            raise InvalidInputError(
                f"embed_item: expected item embeddings that are finite in {dtype}, found {largest} in "
                f"rows {start}..{start + len(embs) - 1}. Embed as float32, or train with a smaller learning "
                f"rate."
            )


def _write_requests(run_dir: Path, dataset: Dataset, length: int) -> None:
    """The features, by ids, of users drawn at random, as they were before their validation event.

    `nann evaluate` asks for the test events: none of its requests is one that an export was tuned by.
    """
    held_out = dataset.split.validation
    chosen = np.sort(np.random.default_rng(0).permutation(len(held_out))[:_REQUESTS])
    if not len(chosen):
        return
    features = dataset.features(dataset.histories(held_out.users[chosen], held_out.cuts[chosen], length))
    ids = {"item_ids": np.append(0, dataset.item_ids), "cate_ids": np.append(0, dataset.cate_ids)}
    arrays: dict[str, Any] = {name: ids[name][rows] for name, rows in features.items()}
    with staged_file(run_dir / REQUESTS) as staged, staged.open("wb") as file:
        np.savez(file, **arrays)
