"""`embed`: push every item through the item side of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.files import staged_directory
from nann.progress import OnProgress
from nann.run import EMBEDDINGS, load_model
from nann.training._run import read_run_dataset
from nann.training.ranking import item_features

_CHUNK_ROWS = 65_536
_DTYPES = ("float32", "float16")


def embed(
    run_dir: Path,
    *,
    dtype: str = "float32",
    chunk_rows: int = _CHUNK_ROWS,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Write `RUN/embeddings`: `item_ids.npy` int64 [N], `item_embs.npy` `dtype` [N, D], all items.

    The folder appears when it is complete; memory is that of one chunk.

    Returns:
      items, dim, dtype and the folder.

    Raises:
      InvalidInputError: `dtype` is neither float32 nor float16, or an embedding does not fit it.
      InvalidFileError: the run, its data set or its checkpoint is missing or damaged.
    """
    if dtype not in _DTYPES:
        raise InvalidInputError(f"dtype: expected one of {', '.join(_DTYPES)}, found {dtype!r}.")
    if chunk_rows < 1:
        raise InvalidInputError(f"chunk_rows: expected 1 or more, found {chunk_rows}.")
    dataset = read_run_dataset(run_dir)
    model = load_model(run_dir)
    embed_item = tf.function(model.embed_item, reduce_retracing=True)
    count = dataset.num_items
    with staged_directory(run_dir / EMBEDDINGS) as folder:
        np.save(folder / "item_ids.npy", dataset.item_ids)
        embeddings = np.lib.format.open_memmap(
            folder / "item_embs.npy", mode="w+", dtype=np.dtype(dtype), shape=(count, model.embedding_dim)
        )
        for start in range(0, count, chunk_rows):
            stop = min(start + chunk_rows, count)
            rows = np.arange(start + 1, stop + 1)
            chunk = embed_item(item_features(dataset, rows)).numpy()
            largest = np.abs(chunk).max(initial=0.0)
            if not largest <= np.finfo(dtype).max:
                raise InvalidInputError(
                    f"{run_dir}: expected item embeddings that are finite in {dtype}, found {largest} in "
                    f"rows {start}..{stop - 1}. Embed as float32, or train with a smaller learning rate."
                )
            embeddings[start:stop] = chunk
            if on_progress is not None:
                on_progress("embed", stop, count)
        embeddings.flush()
        del embeddings
    return {
        "items": count,
        "dim": int(model.embedding_dim),
        "dtype": dtype,
        "embeddings": str(run_dir / EMBEDDINGS),
    }
