"""Index building and SavedModel writing.

Importing this package imports neither TensorFlow nor faiss; the first use of a function does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nann.errors import MissingDependencyError

if TYPE_CHECKING:
    from nann.export._faiss_graph import convert_faiss_index as convert_faiss_index
    from nann.export._hnsw import build_index as build_index
    from nann.export._hnsw import index_from_faiss as index_from_faiss
    from nann.export._hnsw import index_from_original as index_from_original
    from nann.export._items import Items as Items
    from nann.export._items import read_items as read_items
    from nann.export._model import RetrievalModel as RetrievalModel
    from nann.export._model import load_model as load_model
    from nann.export._model import read_run as read_run
    from nann.export._savedmodel import export_model as export_model
    from nann.export._savedmodel import verify_model as verify_model
    from nann.export._shards import export_shards as export_shards
    from nann.export._shards import shard_dirs as shard_dirs
    from nann.export._shards import shard_level_topn as shard_level_topn
    from nann.export._shards import shard_of_items as shard_of_items
    from nann.export._tuning import Tuning as Tuning

_MODULES = {
    "Items": "_items",
    "RetrievalModel": "_model",
    "Tuning": "_tuning",
    "build_index": "_hnsw",
    "convert_faiss_index": "_faiss_graph",
    "export_model": "_savedmodel",
    "export_shards": "_shards",
    "index_from_faiss": "_hnsw",
    "index_from_original": "_hnsw",
    "load_model": "_model",
    "read_items": "_items",
    "read_run": "_model",
    "shard_dirs": "_shards",
    "shard_level_topn": "_shards",
    "shard_of_items": "_shards",
    "verify_model": "_savedmodel",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        if error.name not in ("faiss", "tensorflow"):
            raise
        raise MissingDependencyError(
            f"{error.name} is not installed. Install it with `pip install nann[tensorflow]`."
        ) from error
    return getattr(module, name)
