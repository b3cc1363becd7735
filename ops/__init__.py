"""The custom ops and the description of the index that they read.

Importing this package does not import TensorFlow; the first use of a name that needs it does.

In the examples of this package `index` is the one of `IndexResource`'s example: 500 items of width 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nann.lazy import lazy_names
from nann.ops._library import library_path as library_path
from nann.ops._library import load_library as load_library
from nann.ops._proxy_walk import ProxyWalk as ProxyWalk
from nann.ops.attribute_files import AttributeFiles as AttributeFiles
from nann.ops.index_meta import IndexMeta as IndexMeta
from nann.ops.index_meta import default_hops as default_hops
from nann.ops.index_meta import default_level_topn as default_level_topn

if TYPE_CHECKING:
    from nann.ops._beam_search import DEFAULT_MAX_WORK as DEFAULT_MAX_WORK
    from nann.ops._beam_search import DEFAULT_TILE_ROWS as DEFAULT_TILE_ROWS
    from nann.ops._beam_search import BeamSearchResult as BeamSearchResult
    from nann.ops._beam_search import Precision as Precision
    from nann.ops._beam_search import beam_search as beam_search
    from nann.ops._beam_search import score_ids as score_ids
    from nann.ops._beam_search import score_items as score_items
    from nann.ops._composed_walk import composed_beam_search as composed_beam_search
    from nann.ops._filters import evaluate_filter as evaluate_filter
    from nann.ops._index_resource import IndexResource as IndexResource
    from nann.ops._link_builder import LinkBuilder as LinkBuilder
    from nann.ops._link_builder import ListChanges as ListChanges
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

__getattr__ = lazy_names(
    __name__,
    {
        "nann.ops._beam_search": (
            "DEFAULT_MAX_WORK",
            "DEFAULT_TILE_ROWS",
            "BeamSearchResult",
            "Precision",
            "beam_search",
            "score_ids",
            "score_items",
        ),
        "nann.ops._composed_walk": ("composed_beam_search",),
        "nann.ops._filters": ("evaluate_filter",),
        "nann.ops._index_resource": ("IndexResource",),
        "nann.ops._link_builder": ("LinkBuilder", "ListChanges"),
        "nann.ops._primitives": (
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
    },
)
