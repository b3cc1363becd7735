"""Exports without a model: vectors or a faiss index, and an inner product, a cosine or a distance."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.export._export_model import check_out_dir, export_model
from nann.export._options import ExportOptions
from nann.export.index.build import build_index, index_from_faiss
from nann.export.index.faiss_graph import read_faiss_index
from nann.export.items import CHUNK_ROWS
from nann.files import describe_array, link_array, load_array, write_array_in_chunks
from nann.progress import OnProgress
from nann.run.similarity import METRICS, Metric, SimilarityModel

_NEXT_STEP = "Name a file that numpy.save wrote."


def export_vectors(
    vectors: str | Path,
    out_dir: str | Path,
    options: ExportOptions | None = None,
    *,
    ids: str | Path | None = None,
    metric: Metric = "ip",
    m: int = 32,
    ef_construction: int = 100,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Export the vectors of a file, float32 or float16 [N, D], with a graph that is built here.

    ids:     file of int64 [N], each once; None: the ids are the row numbers.
    metric:  "ip", "l2" (scores are negative squared distances) or "cosine" (vectors are written anew, with
             length 1).
    m, ef_construction: of the graph, as `build_index` has them.

    The signatures take `query_emb` float32 [B, D] in place of `comm_seq`. Returns and raises as
    `export_model` does.

    Example:
      >>> result = export_vectors("ITEMS.npy", "MODELS/items/1", ids="IDS.npy", metric="cosine")
      >>> result["verified"]["signatures"]
      ['retrieve', 'score', 'serving_default']
    """
    vectors, out_dir = Path(vectors), Path(out_dir)
    if metric not in METRICS:
        raise InvalidInputError(
            f"metric: expected one of {', '.join(METRICS)}, found {metric!r}. Choose one of these."
        )
    embs = load_array(vectors, next_step=_NEXT_STEP)
    if embs.dtype not in (np.float32, np.float16) or embs.ndim != 2 or 0 in embs.shape:
        raise InvalidFileError(
            f"{vectors}: expected float32 or float16 [N, D], found {describe_array(embs)}. Convert it."
        )
    check_out_dir(out_dir, overwrite)
    with _temporary_run(out_dir) as run:
        if metric == "cosine":
            _write_normalised(run / "embeddings/item_embs.npy", vectors, embs)
        else:
            link_array(vectors, run / "embeddings/item_embs.npy")
        if ids is None:
            np.save(run / "embeddings/item_ids.npy", np.arange(len(embs), dtype=np.int64))
        else:
            load_array(ids, next_step=_NEXT_STEP)
            link_array(Path(ids), run / "embeddings/item_ids.npy")
        build_index(
            run,
            metric="ip" if metric == "ip" else "l2",
            m=m,
            ef_construction=ef_construction,
            on_progress=on_progress,
        )
        model = SimilarityModel(embs.shape[1], metric)
        return export_model(run, out_dir, options, model=model, overwrite=overwrite, on_progress=on_progress)


def export_faiss(
    faiss_file: str | Path,
    out_dir: str | Path,
    options: ExportOptions | None = None,
    *,
    ids: str | Path | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Export an index file of faiss: an `IndexHNSWFlat`, or an `IndexIDMap` around one.

    The vectors, the metric and the graph are the file's. ids: file of int64 [N]; None: those of the
    `IndexIDMap`, else the row numbers. The rest is as in `export_vectors`.

    Example:
      >>> export_faiss("items.faiss", "MODELS/items/1")["num_items"]
      500
    """
    import faiss

    out_dir = Path(out_dir)
    index = read_faiss_index(faiss_file)
    inner, own_ids = index, None
    if isinstance(index, faiss.IndexIDMap):
        own_ids = faiss.vector_to_array(index.id_map).astype(np.int64)
        inner = faiss.downcast_index(index.index)
    if not isinstance(inner, faiss.IndexHNSWFlat):
        raise InvalidFileError(
            f"{faiss_file}: expected an IndexHNSWFlat, or an IndexIDMap around one, found "
            f"{type(inner).__name__}. Export its vectors: nann export --vectors ITEMS.npy."
        )
    if ids is not None and own_ids is not None:
        raise InvalidInputError(f"ids: expected none, for {faiss_file} has ids. Leave out one of the two.")
    metric: Metric = "ip" if inner.metric_type == faiss.METRIC_INNER_PRODUCT else "l2"
    check_out_dir(out_dir, overwrite)
    with _temporary_run(out_dir) as run:
        embs = run / "embeddings/item_embs.npy"
        shape = (int(inner.ntotal), int(inner.d))
        write_array_in_chunks(embs, _vectors_of(inner), dtype=np.float32, shape=shape)
        if ids is not None:
            load_array(ids, next_step=_NEXT_STEP)
            link_array(Path(ids), run / "embeddings/item_ids.npy")
        else:
            found = np.arange(shape[0], dtype=np.int64) if own_ids is None else own_ids
            np.save(run / "embeddings/item_ids.npy", found)
        index_from_faiss(run, faiss_file, on_progress=on_progress)
        model = SimilarityModel(shape[1], metric)
        return export_model(run, out_dir, options, model=model, overwrite=overwrite, on_progress=on_progress)


@contextlib.contextmanager
def _temporary_run(out_dir: Path) -> Iterator[Path]:
    """A run folder beside the models, on their file system: its arrays are then linked, not copied."""
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".vectors-", dir=out_dir.parent) as folder:
        (Path(folder) / "embeddings").mkdir()
        yield Path(folder)


def _write_normalised(target: Path, source: Path, embs: npt.NDArray[Any]) -> None:
    def chunks() -> Iterator[npt.NDArray[Any]]:
        for start in range(0, len(embs), CHUNK_ROWS):
            chunk = np.asarray(embs[start : start + CHUNK_ROWS], np.float32)
            lengths = np.linalg.norm(chunk, axis=1, keepdims=True)
            if not (lengths > 0).all():
                row = start + int(np.flatnonzero(~(lengths[:, 0] > 0))[0])
                raise InvalidFileError(
                    f"{source}: expected vectors of a length, for the cosine, found zeros or NaN in row "
                    f"{row}. Leave the item out, or choose another metric."
                )
            yield (chunk / lengths).astype(embs.dtype)

    write_array_in_chunks(target, chunks(), dtype=embs.dtype, shape=embs.shape)


def _vectors_of(index: Any) -> Iterator[npt.NDArray[np.float32]]:
    for start in range(0, index.ntotal, CHUNK_ROWS):
        yield index.reconstruct_n(start, min(CHUNK_ROWS, index.ntotal - start))
