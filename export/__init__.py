"""Building indexes, writing SavedModels and checking them.

Importing this package imports neither TensorFlow nor faiss; the first use of a name that needs them does.

In the examples of this package RUN is the run of a small model: 500 items of width 8, indexed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nann.lazy import lazy_names

if TYPE_CHECKING:
    from nann.export._check import check_run as check_run
    from nann.export._export_model import export_model as export_model
    from nann.export._options import TARGET_AGREEMENT as TARGET_AGREEMENT
    from nann.export._options import ExportOptions as ExportOptions
    from nann.export._options import Tuning as Tuning
    from nann.export._shards import export_shards as export_shards
    from nann.export._shards import shard_dirs as shard_dirs
    from nann.export._shards import shard_level_topn as shard_level_topn
    from nann.export._shards import shard_of_items as shard_of_items
    from nann.export._vectors import export_faiss as export_faiss
    from nann.export._vectors import export_vectors as export_vectors
    from nann.export._verify_model import verify_model as verify_model
    from nann.export.index.build import build_index as build_index
    from nann.export.index.build import index_from_faiss as index_from_faiss
    from nann.export.index.build import index_from_original as index_from_original
    from nann.export.index.faiss_graph import convert_faiss_index as convert_faiss_index
    from nann.export.index.files import GraphIndex as GraphIndex
    from nann.export.index.files import Level as Level
    from nann.export.index.files import read_index as read_index
    from nann.export.index.files import write_index as write_index
    from nann.export.items import Items as Items
    from nann.export.items import read_items as read_items
    from nann.run import RetrievalModel as RetrievalModel
    from nann.run import from_keras as from_keras
    from nann.run import load_model as load_model
    from nann.run import read_run as read_run

__getattr__ = lazy_names(
    __name__,
    {
        "nann.export._check": ("check_run",),
        "nann.export._export_model": ("export_model",),
        "nann.export._options": ("TARGET_AGREEMENT", "ExportOptions", "Tuning"),
        "nann.export._shards": ("export_shards", "shard_dirs", "shard_level_topn", "shard_of_items"),
        "nann.export._vectors": ("export_faiss", "export_vectors"),
        "nann.export._verify_model": ("verify_model",),
        "nann.export.index.build": ("build_index", "index_from_faiss", "index_from_original"),
        "nann.export.index.faiss_graph": ("convert_faiss_index",),
        "nann.export.index.files": ("GraphIndex", "Level", "read_index", "write_index"),
        "nann.export.items": ("Items", "read_items"),
        "nann.run": ("RetrievalModel", "from_keras", "load_model", "read_run"),
    },
    extra={"tensorflow": ("faiss", "tensorflow")},
)
