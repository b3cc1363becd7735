"""Calls, loops and branches of a function, written out as far as they can be."""

from __future__ import annotations

from typing import Any

from nann.export.scorer._branches import without_branches
from nann.export.scorer._inline import without_calls
from nann.export.scorer._maps import without_maps
from nann.export.scorer._unroll import without_loops


def without_control_flow(function: Any, *, tile_rows: int | None = None) -> Any:
    """Branches may hold loops, loops branches, and both calls.

    tile_rows: how many items a tile has; None: the function is of no items.
    """

    def simpler(each: Any) -> Any:
        mapped = without_maps(without_calls(each), without_control_flow)
        return without_branches(without_loops(mapped, tile_rows=tile_rows))

    while (found := simpler(function)) is not function:
        function = found
    return function
