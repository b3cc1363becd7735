"""The custom ops, the index files that they read, and the reference search that they are tested against.

Importing this package does not import TensorFlow; the first use of a name that needs it does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nann.ops._index_files import GraphIndex as GraphIndex
from nann.ops._index_files import IndexMeta as IndexMeta
from nann.ops._index_files import Level as Level
from nann.ops._index_files import default_hops as default_hops
from nann.ops._index_files import default_level_topn as default_level_topn
from nann.ops._index_files import read_index as read_index
from nann.ops._index_files import write_index as write_index
from nann.ops._library import library_path as library_path
from nann.ops._library import load_library as load_library

if TYPE_CHECKING:
    from nann.ops._beam_search import BeamSearchResult as BeamSearchResult
    from nann.ops._beam_search import NativeScorerCheck as NativeScorerCheck
    from nann.ops._beam_search import beam_search as beam_search
    from nann.ops._beam_search import check_native_scorer as check_native_scorer
    from nann.ops._beam_search import score_items as score_items
    from nann.ops._composed_walk import composed_beam_search as composed_beam_search
    from nann.ops._index_resource import IndexResource as IndexResource
    from nann.ops._primitives import enter_points as enter_points
    from nann.ops._primitives import filter_visited as filter_visited
    from nann.ops._primitives import gather_neighbors as gather_neighbors
    from nann.ops._primitives import gather_table_rows as gather_table_rows
    from nann.ops._primitives import ids_to_positions as ids_to_positions
    from nann.ops._primitives import lookup_rows as lookup_rows
    from nann.ops._primitives import metrics as metrics
    from nann.ops._primitives import positions_to_ids as positions_to_ids
    from nann.ops._primitives import top_k as top_k
    from nann.ops._primitives import visited_set as visited_set

_LAZY = {
    "_beam_search": (
        "BeamSearchResult",
        "NativeScorerCheck",
        "beam_search",
        "check_native_scorer",
        "score_items",
    ),
    "_composed_walk": ("composed_beam_search",),
    "_index_resource": ("IndexResource",),
    "_primitives": (
        "enter_points",
        "filter_visited",
        "gather_neighbors",
        "gather_table_rows",
        "ids_to_positions",
        "lookup_rows",
        "metrics",
        "positions_to_ids",
        "top_k",
        "visited_set",
    ),
}
_MODULE_OF = {name: module for module, names in _LAZY.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
