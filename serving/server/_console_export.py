"""What the console shows of an export: read from the files of a version that is loaded.

A SavedModel that is not an export of this project has none of these files; what is missing is left out.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import prediction_log_pb2

from nann.serving.protocol import tensors
from nann.serving.server._servable import MANIFEST
from nann.serving.server._warmup import WARMUP_FILE

# Nodes of one picture. More cannot be told apart, and their links take long to draw.
MAX_NODES = 5_000
_TITLES = Path("assets.extra") / "titles.json"
# A page that loads more titles than this is slow; a corpus of that size needs another way to look at items.
_MAX_TITLES_BYTES = 32 * 2**20
_SHOWN = ("level_topn", "index", "scorer")


def describe_export(path: Path) -> dict[str, Any]:
    """Return what a version says of itself.

    manifest: parts of `nann_manifest.json`. titles: item id -> title. examples: signature -> inputs of its
    warm-up request, with a leading batch dimension.
    """
    manifest = _read_object(path / MANIFEST)
    small = (path / _TITLES).is_file() and (path / _TITLES).stat().st_size <= _MAX_TITLES_BYTES
    return {
        "manifest": {name: manifest[name] for name in _SHOWN if name in manifest},
        "titles": _read_object(path / _TITLES) if small else {},
        "examples": dict(_examples(path / WARMUP_FILE)),
    }


def links_between(path: Path, ids: Sequence[int]) -> dict[str, Any]:
    """Return which of the items are entry points, and the links of the index between them.

    Ids are strings, since numbers of JavaScript have 53 bits: `{"entry_points": [id], "links": [[from, to,
    level]]}`. Both are empty where there is no index, or where no item is in it.
    """
    assets = path / "assets"
    try:
        order, item_ids = _array(assets, "item_id_order"), _array(assets, "item_ids")
        entry_points = _array(assets, "enter_points")
        levels = len(_read_object(assets / "index.json").get("hops_per_level", ()))
        positions = _positions(np.unique(np.asarray(ids, np.int64)), item_ids, order)
        links = [
            [str(item_ids[start]), str(item_ids[end]), level]
            for level in range(levels)
            for start, end in _level_links(assets, level, positions)
        ]
    except FileNotFoundError:
        return {"entry_points": [], "links": []}
    first = positions[np.isin(positions, entry_points)]
    return {"entry_points": [str(item) for item in item_ids[first]], "links": links}


def _positions(ids: NDArray[np.int64], item_ids: NDArray[Any], order: NDArray[Any]) -> NDArray[Any]:
    """Return the positions of the ids that the index holds."""
    found = np.searchsorted(item_ids, ids, sorter=order)
    positions = order[np.minimum(found, len(order) - 1)]
    known: NDArray[Any] = positions[item_ids[positions] == ids]
    return known


def _level_links(assets: Path, level: int, positions: NDArray[Any]) -> Iterator[tuple[int, int]]:
    values = _array(assets, f"neighbors_level_{level}_values")
    splits = _array(assets, f"neighbors_level_{level}_row_splits")
    wanted = set(positions.tolist())
    for start in positions.tolist():
        for end in values[splits[start] : splits[start + 1]].tolist():
            if end in wanted:
                yield start, end


def _array(assets: Path, name: str) -> NDArray[Any]:
    array: NDArray[Any] = np.load(assets / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return array


def _examples(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not file.is_file():
        return
    for record in tf.compat.v1.io.tf_record_iterator(str(file)):
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: _nested(tensors.decode(proto)) for name, proto in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


def _nested(array: NDArray[Any]) -> Any:
    """Return an array as JSON has it: strings as text, integers as text of any number of digits."""
    if array.dtype == object:
        return np.frompyfunc(lambda value: value.decode("utf-8", "replace"), 1, 1)(array).tolist()
    return array.astype(str).tolist() if array.dtype == np.int64 else array.tolist()


def _read_object(file: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(file.read_bytes())
        if isinstance(content, dict):
            return content
    return {}
